"""What goes to the hub, in which order, and what comes of it when something is in the way. The hub is made up."""

import copy
import functools
import hashlib
import inspect
import itertools
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import actlab
from actlab.cli import push as push_command
from actlab.ground.errors import ActlabError
from actlab.ground.manifest import Stored, sha256_of
from actlab.ground.options import options_of
from actlab.ground.storage import Finish, Plan, stage
from actlab.ground.storage import NewFile as FileToWrite
from actlab.ground.units import Part
from actlab.hub import card as card_module
from actlab.hub import push as push_module
from actlab.hub.push import plan_commits, push_dataset, sizes_to_push
from actlab.hub.repository import NewFile
from tests.command_line import fails_in_two_lines, run
from tests.folders import Made, publish_single

TOKEN = "hf_aVerySecretTokenOfTheTests"
LFS_ENDINGS = {".npz", ".pt", ".parquet", ".bin"}


class FakeHub:
    """The hub's side: repositories as lists of commits, each a whole tree; and what clients asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, SimpleNamespace] = {}
        self.asked: list[tuple] = []
        self.user: str | None = "me"
        self.commits_left = 10**9
        """After so many commits the network is gone."""

    def make(self, repo_id: str, files: dict[str, bytes], *, private: bool = True) -> None:
        self.repositories[repo_id] = SimpleNamespace(private=private, trees=[])
        self.add(repo_id, {".gitattributes": b"*.npz filter=lfs\n"} | files)

    def add(self, repo_id: str, files: dict[str, bytes]) -> None:
        trees = self.repositories[repo_id].trees
        trees.append((trees[-1] if trees else {}) | files)

    def head(self, repo_id: str) -> str:
        return f"{len(self.repositories[repo_id].trees):040x}"

    def tree(self, repo_id: str) -> dict[str, bytes]:
        return self.repositories[repo_id].trees[-1]

    def states(self, repo_id: str) -> list[dict[str, bytes]]:
        """The trees that a reader could have met, the one before the first push left out."""
        return self.repositories[repo_id].trees[1:]


class FakeApi:
    """The hub's client: the calls that actlab makes, with the names and errors of `huggingface_hub.HfApi`."""

    endpoint = "https://huggingface.co"

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not inspect.ismethod(found):
            return found

        def noted(*args, **kwargs):
            import huggingface_hub

            inspect.signature(getattr(huggingface_hub.hf_api.HfApi, name)).bind(self, *args, **kwargs)
            self.hub.asked.append((name, args, kwargs))
            return found(*args, **kwargs)

        return noted

    def whoami(self):
        from huggingface_hub.errors import LocalTokenNotFoundError

        if self.hub.user is None:
            raise LocalTokenNotFoundError("Token is required")
        return {"name": self.hub.user}

    def repo_info(self, repo_id, *, repo_type):
        from huggingface_hub.errors import RepositoryNotFoundError

        assert repo_type == "dataset"
        if repo_id not in self.hub.repositories:
            raise RepositoryNotFoundError("no", response=response(404))
        return SimpleNamespace(private=self.hub.repositories[repo_id].private, sha=self.hub.head(repo_id))

    def create_repo(self, repo_id, *, repo_type, private):
        assert repo_type == "dataset"
        if repo_id in self.hub.repositories:
            raise http_error(409)
        self.hub.make(repo_id, {}, private=private)

    def list_repo_tree(self, repo_id, *, recursive, revision, repo_type):
        from huggingface_hub.hf_api import RepoFile, RepoFolder

        assert (recursive, repo_type, revision) == (True, "dataset", self.hub.head(repo_id))
        yield RepoFolder(path="somewhere", oid="0" * 40)
        for path, data in self.hub.tree(repo_id).items():
            if Path(path).suffix in LFS_ENDINGS:
                lfs = {"size": len(data), "oid": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
                yield RepoFile(path=path, size=len(data), oid="0" * 40, lfs=lfs)
            else:
                yield RepoFile(path=path, size=len(data), oid=git_name(data))

    def create_commit(self, repo_id, operations, *, commit_message, repo_type, parent_commit):
        from huggingface_hub import CommitOperationAdd

        assert repo_type == "dataset"
        assert commit_message
        if parent_commit != self.hub.head(repo_id):
            raise http_error(412)
        if not self.hub.commits_left:
            raise ConnectionError("the network is gone")
        self.hub.commits_left -= 1
        tree = dict(self.hub.tree(repo_id))
        for one in operations:
            if isinstance(one, CommitOperationAdd):
                with one.as_file() as file:
                    tree[one.path_in_repo] = file.read()
            else:
                del tree[one.path_in_repo]
        self.hub.repositories[repo_id].trees.append(tree)
        return SimpleNamespace(oid=self.hub.head(repo_id))


@functools.cache
def git_name(data: bytes) -> str:
    return (
        subprocess.run(["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )


def response(status: int) -> SimpleNamespace:
    return SimpleNamespace(headers={}, request=None, status_code=status)


def http_error(status: int, text: str = "no"):
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError(text, response=response(status))


@pytest.fixture
def hub(monkeypatch):
    import huggingface_hub

    made = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **about: FakeApi(made))
    monkeypatch.setattr(push_module, "FILES_A_COMMIT", 2)
    return made


def seal(
    output: Path,
    data: dict[str, bytes],
    metadata: tuple[str, ...] = ("a/metadata.json", "b/metadata.json"),
    *,
    kind: str = "activations",
    identity: dict | None = None,
    inputs: list | None = None,
    dropped: dict[str, int] | None = None,
) -> Path:
    """Make a sealed dataset of these files."""
    plan = Plan(kind, identity or {"model_name": "org/model", "seed": 3}, inputs or [], [{"unit": 0}])
    with stage(output, plan, part=Part()) as dataset:
        (unit,) = dataset.missing()
        files = [
            FileToWrite(path, content, rows=2 if path.endswith(".npz") else None) for path, content in data.items()
        ]
        dataset.commit(unit, files, {"dropped": dropped or {}})
        listed = [FileToWrite("dropped.jsonl", b"{}\n" * sum((dropped or {}).values()))] if dropped else []
        told = {path: {"total_examples": 7} for path in metadata}
        dataset.seal(lambda staging: Finish([staging.write(one) for one in listed], told, {}))
    return output


DATA = {f"a/{k}.npz": bytes([k]) * 100 for k in range(3)} | {"b/x.json": b"[1]\n", "b/0.npz": b"z" * 50}


@pytest.fixture
def folder(tmp_path):
    return seal(tmp_path / "set", DATA)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_extras(tree: dict[str, bytes], *extras: str) -> dict[str, bytes]:
    return {path: data for path, data in tree.items() if path not in {".gitattributes", "README.md", *extras}}


def passes_for_whole(tree: dict[str, bytes]) -> bool:
    """As a reader decides it: a manifest, and every metadata.json that it names; or any metadata.json at all."""
    return any(Path(path).name in ("metadata.json", "manifest.json") for path in tree)


def is_whole(tree: dict[str, bytes]) -> bool:
    named = json.loads(tree["manifest.json"])["files"]
    return all(hashlib.sha256(tree.get(one["path"], b"")).hexdigest() == one["sha256"] for one in named)


def refused(folder: Path, says: str, hint: str, repo_id: str = "me/set", **options) -> None:
    with pytest.raises(ActlabError) as caught:
        push_dataset(folder, repo_id, quiet=True, **options)
    assert says in str(caught.value)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint


def test_the_repository_holds_the_datasets_bytes_a_card_and_nothing_else(hub, folder):
    before = content_of(folder)
    pushed = push_dataset(folder, "me/set", quiet=True)
    assert without_extras(hub.tree("me/set")) == before == content_of(folder)
    card = hub.tree("me/set")["README.md"]
    assert pushed.n_files_sent == len(before) + 1
    assert pushed.n_bytes_sent == sum(map(len, before.values())) + len(card)
    assert pushed.commit == hub.head("me/set")
    assert pushed.url == "https://huggingface.co/datasets/me/set"


def test_data_go_first_and_no_state_between_passes_for_a_whole_dataset(hub, folder):
    push_dataset(folder, "me/set", quiet=True)
    *between, last = hub.states("me/set")
    assert len(between) == 3, "five data files, two a commit"
    assert not any(passes_for_whole(tree) or "README.md" in tree for tree in between)
    assert is_whole(last)
    (operations,) = [args[1] for name, args, _ in hub.asked[-1:] if name == "create_commit"]
    closing = ["README.md", "manifest.json", "a/metadata.json", "b/metadata.json"]
    assert [one.path_in_repo for one in operations] == closing


@pytest.mark.parametrize("n_commits", [0, 1, 2, 3])
def test_stopped_after_any_commit_the_next_push_sends_only_the_rest(n_commits, hub, folder):
    hub.commits_left = n_commits
    refused(folder, "cannot reach the hub: the network is gone", "run the same command again: what was sent stays")
    sent = set(hub.tree("me/set"))
    hub.commits_left, hub.asked = 10, []
    pushed = push_dataset(folder, "me/set", quiet=True)
    again = [one.path_in_repo for name, args, _ in hub.asked if name == "create_commit" for one in args[1]]
    assert not sent & set(again)
    assert len(again) == pushed.n_files_sent
    assert pushed.n_files_sent + pushed.n_files_there == len(DATA) + 4
    assert without_extras(hub.tree("me/set")) == content_of(folder)


def test_pushed_twice_nothing_is_sent_and_no_commit_is_made(hub, folder):
    first = push_dataset(folder, "me/set", quiet=True)
    second = push_dataset(folder, "set", quiet=True)
    assert second.repo_id == "me/set", "a name alone is under the user's own"
    assert (second.n_files_sent, second.n_bytes_sent) == (0, 0)
    assert second.n_files_there == first.n_files_sent
    assert second.commit == first.commit == hub.head("me/set")


def test_a_file_that_somebody_removed_there_is_sent_again_alone(hub, folder):
    push_dataset(folder, "me/set", quiet=True)
    del hub.tree("me/set")["a/1.npz"]
    assert push_dataset(folder, "me/set", quiet=True).n_files_sent == 1
    assert is_whole(hub.tree("me/set"))


def test_a_new_repository_is_private_unless_told_otherwise(hub, folder):
    assert push_dataset(folder, "me/hidden", quiet=True).private
    assert not push_dataset(folder, "me/open", private=False, quiet=True).private
    assert {name: one.private for name, one in hub.repositories.items()} == {"me/hidden": True, "me/open": False}
    assert options_of(push_command.PushConfig)[2].name == "private"
    assert options_of(push_command.PushConfig)[2].default is True


def test_a_public_repository_is_refused_while_private_is_wanted_and_a_private_one_stays_private(hub, folder, caplog):
    hub.make("me/set", {}, private=False)
    refused(folder, "everybody can read it", "--no-private")
    assert len(hub.repositories["me/set"].trees) == 1
    assert push_dataset(folder, "me/set", private=False, quiet=True).n_files_sent
    hub.make("me/hidden", {})
    assert push_dataset(folder, "me/hidden", private=False, quiet=True).private
    assert "me/hidden is private, and stays so" in caplog.text


def test_files_of_others_are_refused_and_overwrite_deletes_just_those_at_the_end(hub, folder):
    hub.make("me/set", {"theirs.bin": b"1", "a/0.npz": DATA["a/0.npz"]})
    refused(folder, "holds what is not of this dataset: theirs.bin", "--overwrite")
    assert len(hub.repositories["me/set"].trees) == 1
    pushed = push_dataset(folder, "me/set", overwrite=True, quiet=True)
    assert (pushed.n_files_deleted, pushed.n_files_there) == (1, 1)
    *between, last = hub.states("me/set")
    assert between
    assert all("theirs.bin" in tree for tree in between)
    assert without_extras(last) == content_of(folder)
    assert ".gitattributes" in last


def test_another_dataset_of_the_same_paths_is_refused_and_with_overwrite_never_mixed_with_the_new(
    hub, folder, tmp_path
):
    push_dataset(folder, "me/set", quiet=True)
    other = seal(tmp_path / "other", {path: data[::-1] + b"2" for path, data in DATA.items()}, identity={"seed": 4})
    old = copy.deepcopy(hub.tree("me/set"))
    refused(other, "holds what is not of this dataset: a/0.npz, a/1.npz, a/2.npz and 3 more", "--overwrite")
    hub.commits_left = 2
    refused(other, "the network is gone", "again", overwrite=True)
    hub.commits_left = 10
    push_dataset(other, "me/set", overwrite=True, quiet=True)
    assert all(is_whole(tree) for tree in hub.states("me/set")[3:] if passes_for_whole(tree))
    assert hub.states("me/set")[3] == old
    assert without_extras(hub.tree("me/set")) == content_of(other)


def test_a_card_that_stands_there_stays_unless_the_dataset_brings_one_or_overwrites(hub, folder, tmp_path):
    hub.make("me/set", {"README.md": b"by hand"})
    push_dataset(folder, "me/set", quiet=True)
    assert hub.tree("me/set")["README.md"] == b"by hand"
    push_dataset(folder, "me/set", overwrite=True, quiet=True)
    assert hub.tree("me/set")["README.md"].startswith(b"---\ntags:\n- actlab\n")
    own = seal(tmp_path / "own", DATA | {"README.md": b"# Mine\n"})
    hub.make("me/own", {"README.md": b"by hand"})
    push_dataset(own, "me/own", quiet=True)
    assert hub.tree("me/own")["README.md"] == b"# Mine\n"
    assert without_extras(hub.tree("me/own")) == without_extras(content_of(own))


def test_what_is_no_sealed_dataset_is_refused_before_the_hub_is_asked(hub, folder, tmp_path):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "plan.json").write_text("{}")
    refused(tmp_path / "x.partial", "is still in progress", "push what it seals")
    refused(tmp_path / "begun", "is still in progress", "push what it seals")
    refused(tmp_path / "nowhere", "is not there", "sealed dataset's folder")
    refused(folder / "a" / "0.npz", "is a file", "sealed dataset's folder")
    refused(folder / "a", "has no manifest.json", f"push the whole dataset: {folder}")
    refused(tmp_path, "has no manifest.json", "actlab has sealed")
    for name in ("a/b/c", "spaces here", "double--dash", "", "end.git"):
        refused(folder, f"--repo-id {name!r}", "OWNER/NAME", repo_id=name)
    assert hub.asked == []


def test_a_damaged_dataset_is_refused_and_no_repository_made(hub, folder):
    victim = folder / "a" / "0.npz"
    victim.write_bytes(b"\xff" * 100)
    refused(folder, "sha256 differs", "actlab verify")
    (folder / "stray.txt").write_text("not ours")
    refused(folder, "sha256 differs) and 1 more", "actlab verify")
    hub.asked.clear()
    victim.write_bytes(b"cut")
    refused(folder, "a/0.npz has 3 bytes, not 100", "actlab verify", verify=False)
    victim.unlink()
    refused(folder, "a/0.npz is missing", "actlab verify", verify=False)
    assert hub.asked == []
    assert hub.repositories == {}


def test_no_verify_sends_what_the_manifest_names_without_hashing_first(hub, folder, monkeypatch):
    (folder / "stray.txt").write_text("not ours")
    monkeypatch.setattr(push_module, "check_against_manifest", lambda *args, **kwargs: pytest.fail("hashed"))
    push_dataset(folder, "me/set", verify=False, quiet=True)
    assert "stray.txt" not in hub.tree("me/set")


def test_a_dry_run_refuses_the_damage_that_the_push_refuses(hub, folder):
    (folder / "a" / "0.npz").write_bytes(b"\xff" * 100)
    args = ("push", folder, "--repo-id", "me/set", "--dry-run")
    fails_in_two_lines(run(*args), 1, "sha256 differs", "actlab verify")
    done = run(*args, "--no-verify")
    assert done.returncode == 0
    assert "hashes were not checked" in done.stderr
    assert "a/0.npz" in done.stdout
    assert hub.asked == []


def test_who_is_not_logged_in_is_told_how_before_any_hashing(hub, folder, monkeypatch):
    hub.user = None
    monkeypatch.setattr(push_module, "check_against_manifest", lambda *args, **kwargs: pytest.fail("hashed"))
    refused(folder, "not logged in", "hf auth login")
    assert [name for name, _, _ in hub.asked] == ["whoami"]


def test_the_hubs_real_client_is_understood_too(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    refused(folder, "not logged in", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert constants.HF_HUB_OFFLINE, "tests ask no network"
    refused(folder, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")


@pytest.mark.parametrize(
    ("status", "says", "hint"),
    [
        (401, "does not accept this login", "hf auth login"),
        (403, "may not write to me/set", "hf auth login"),
        (404, "there is no me/set", "--repo-id"),
        (409, "me/set is there already", "run the same command again"),
        (429, "too many requests", "wait a while"),
        (503, "the hub failed or refused (503): {over} at hf_…", "run the same command again"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_hint_and_without_the_token(status, says, hint, hub, folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise http_error(status, f"{{over}} at {TOKEN}\nmore")

    monkeypatch.setattr(FakeApi, "create_repo", refuse)
    refused(folder, says, hint)


def test_a_repository_that_changes_meanwhile_is_noticed(hub, folder, monkeypatch):
    hub.make("me/set", {})

    def verify(*args, **kwargs):
        hub.add("me/set", {"theirs.bin": b"1"})
        return []

    monkeypatch.setattr(push_module, "check_against_manifest", verify)
    refused(folder, "me/set was changed meanwhile", "run the same command again")
    assert set(hub.tree("me/set")) == {".gitattributes", "theirs.bin"}


def test_a_dry_run_lists_what_goes_and_asks_the_hub_nothing(hub, folder):
    sizes = sizes_to_push(folder, "me/set")
    dry = CliRunner().invoke(push_command.command, [str(folder), "--repo-id", "me/set", "--dry-run", "--json"])
    n_bytes = sum(sizes.values())
    assert json.loads(dry.stdout) == {"repo_id": "me/set", "private": True, "n_bytes": n_bytes, "files": sizes}
    text = (
        CliRunner()
        .invoke(push_command.command, [str(folder), "--repo-id", "me/set", "--dry-run", "--no-private"])
        .stdout
    )
    assert text.startswith("me/set (public)\n")
    assert all(path in text for path in sizes)
    assert hub.asked == []
    pushed = push_dataset(folder, "me/set", quiet=True)
    assert (pushed.n_files_sent, pushed.n_bytes_sent) == (len(sizes), n_bytes)
    sent = [one.path_in_repo for name, args, _ in hub.asked if name == "create_commit" for one in args[1]]
    assert list(sizes) == sent


def test_the_token_is_no_setting_and_stands_in_no_call_line_or_file(hub, folder, monkeypatch, caplog):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    caplog.set_level("INFO", "actlab")
    done = CliRunner().invoke(push_command.command, [str(folder), "--repo-id", "me/set"])
    assert done.exit_code == 0
    assert done.stdout == "https://huggingface.co/datasets/me/set\n"
    assert "9 files sent" in caplog.text
    assert TOKEN not in done.output + caplog.text + repr(hub.asked) + repr(hub.tree("me/set"))
    assert not any("token" in kwargs for _, _, kwargs in hub.asked)
    assert not any("token" in option.name for option in options_of(push_command.PushConfig))


def test_the_hubs_own_bars_are_off_for_the_push_alone(hub, folder, monkeypatch):
    from huggingface_hub.utils import are_progress_bars_disabled

    seen = []
    create = FakeApi.create_commit

    def watching(*args, **kwargs):
        seen.append(are_progress_bars_disabled())
        return create(*args, **kwargs)

    monkeypatch.setattr(FakeApi, "create_commit", watching)
    before = are_progress_bars_disabled()
    push_dataset(folder, "me/set", quiet=True)
    assert set(seen) == {True}
    assert are_progress_bars_disabled() == before


def sections(card: str) -> dict[str, list[list[str]]]:
    """Read a card's tables back: the rows under each heading, cells as text."""
    tables: dict[str, list[list[str]]] = {}
    for part in card.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        tables[title] = [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    return tables


def test_the_card_says_what_the_manifest_says(hub, tmp_path):
    inputs = [
        {"role": "dataset", "name": "rows.jsonl", "bytes": 5, "sha256": "ab" * 32},
        {"role": "model", "name": "model.safetensors", "bytes": 5, "sha256": "cd" * 32},
    ]
    dropped = {"not JSON": 2, "no prompt": 1}
    folder = seal(tmp_path / "set", DATA, inputs=inputs, dropped=dropped)
    push_dataset(folder, "me/pushed", quiet=True)
    card = hub.tree("me/pushed")["README.md"].decode()
    front, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front)["tags"] == ["actlab", "interpretability"]
    assert "\n# pushed\n" in text
    assert "kind `activations`, made with the model `org/model` from `rows.jsonl`" in text
    assert f"actlab {actlab.__version__}" in text
    assert 'snapshot_download("me/pushed", repo_type="dataset")' in text
    assert "actlab.open_activations(folder, 'a')" in text
    assert str(tmp_path) not in card
    tables = sections(card)
    assert tables["Settings"] == [["model_name", "org/model"], ["seed", "3"]]
    assert tables["Made from"][0] == ["dataset", "rows.jsonl", "ab" * 6]
    assert tables["Dropped"] == [["no prompt", "1"], ["not JSON", "2"]]
    assert tables["Numbers"] == [[f"{k}/metadata.json", "total_examples", "7"] for k in "ab"]
    npz = list(folder.rglob("*.npz"))
    assert [".npz", str(len(npz)), str(2 * len(npz)), str(sum(one.stat().st_size for one in npz))] in tables["Files"]


@pytest.mark.parametrize("kind", [*card_module._LOADED_BY, "a kind of tomorrow"])
def test_each_kinds_lines_of_python_are_python_and_name_what_actlab_has(kind, tmp_path):
    folder = seal(tmp_path / "set", {"x.npz": b"1"}, ("s/metadata.json",), kind=kind, identity={"n": 1})
    card = card_module.make_card(folder, json.loads((folder / "manifest.json").read_text()), "me/set")
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    for name in [word.split("(")[0].removeprefix("actlab.") for word in code.split() if word.startswith("actlab.")]:
        assert name in actlab.__all__
    assert ("import json" in code) == ("json." in code)


def test_a_name_with_bars_backticks_and_newlines_stays_one_cell(tmp_path):
    nasty = "a|b `code` <script>\n## no heading | *x*"
    folder = seal(tmp_path / "set", {"x.npz": b"1"}, identity={"model_name": nasty}, kind="probe")
    card = card_module.make_card(folder, json.loads((folder / "manifest.json").read_text()), "me/set")
    line = next(line for line in card.splitlines() if line.startswith("| `model_name`"))
    assert line == "| `model_name` | `` a\\|b `code` <script> ## no heading \\| *x* `` |"
    assert "\n## no heading" not in card


def test_a_dataset_of_one_unit_is_pushed_too(hub, tmp_path):
    made = Made([FileToWrite("results.json", b"{}\n")], {"kind": "probe"})
    publish_single(tmp_path / "probe", Plan("probe", {"seed": 0}, [], [{"unit": 0}]), lambda: made, overwrite=False)
    push_dataset(tmp_path / "probe", "me/probe", quiet=True)
    assert without_extras(hub.tree("me/probe")) == content_of(tmp_path / "probe")


PATHS = st.lists(
    st.sampled_from(
        [*(f"d{k}.bin" for k in range(8)), "README.md", "manifest.json", "metadata.json", "s/metadata.json"]
    ),
    unique=True,
)


@given(to_send=PATHS, others=PATHS, sizes=st.lists(st.integers(0, 700_000_000), min_size=12, max_size=12))
def test_commits_send_each_file_once_and_leave_just_the_dataset_whatever_was_there(to_send, others, sizes):
    files = [NewFile(path, size, "", b"") for path, size in zip(to_send, itertools.cycle(sizes), strict=False)]
    commits = plan_commits(files, others)
    tree = dict.fromkeys(others, "old")
    for commit in commits:
        assert not {file.path for file in commit.files} & set(commit.deleted)
        assert sum(file.n_bytes for file in commit.files) <= 10**9 or len(commit.files) == 1 or commit is commits[-1]
        for path in commit.deleted:
            del tree[path]
        tree |= {file.path: "new" for file in commit.files}
        if commit is not commits[-1]:
            assert not any(path.endswith(("manifest.json", "metadata.json")) for path in tree)
    assert tree == dict.fromkeys(to_send, "new")
    assert sum(len(commit.files) for commit in commits) == len(to_send)


def test_a_sealed_files_git_name_is_gits_own(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(os.urandom(5000))
    stored = Stored("x", 5000, sha256_of(path))
    remote = SimpleNamespace(lfs=None, size=5000, blob_id=git_name(path.read_bytes()))
    assert NewFile(stored.path, stored.bytes, stored.sha256, path).is_like(remote)
    assert NewFile(stored.path, stored.bytes, stored.sha256, path.read_bytes()).is_like(remote)
    assert not NewFile(stored.path, stored.bytes, stored.sha256, b"other" * 1000).is_like(remote)
