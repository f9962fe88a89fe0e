"""`show` and `verify` of text, tokens and trained GPTs, and `show` of a grammar."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from actlab.backends.gpt_trainer import SHAPES, Shape
from actlab.cli.main import main
from actlab.datasets import seal_dataset, show_dataset, verify_dataset
from actlab.ground.errors import ConfigError
from actlab.ground.storage import Staging
from actlab.text.generate.job import generate_text
from actlab.text.inspect import show_grammar
from actlab.text.refine.job import refine_text
from actlab.text.tokenize.job import tokenize_text
from actlab.text.train_gpt.job import train_gpt
from tests.damage import sealed_again

LARGEST = ("documents.jsonl", "train.bin", "model.safetensors")

GRAMMAR = """
domain: pets
symbols:
  who: [cat, dog, owl]
  what: [a mouse, "nothing at all, as usual"]
skeletons:
  one: "The #who# sees #what#."
"""


def make_chain(root: Path) -> dict[str, Path]:
    """Run the four commands, each on what the one before it made."""
    made = {"generated": generate_text(prompt="soups", output=root / "generated", tokens=3000, vocab_size=500).path}
    made["refined"] = refine_text(
        input=made["generated"], output=root / "refined", tokens=2000, min_score=0.2, plots=False
    ).path
    tokenizer = str(made["generated"] / "tokenizer")
    made["tokens"] = tokenize_text(input=made["refined"], output=root / "tokens", tokenizer=tokenizer).path
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "tiny", Shape(16, 2, 2, intermediate=32))
        made["gpt"] = train_gpt(
            input=made["tokens"], output=root / "gpt", steps=2, context=16, batch_size=2, tensorboard=False
        ).path
    return made


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> dict[str, Path]:
    return make_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture
def copy(chain, tmp_path):
    def make(name: str) -> Path:
        return Path(shutil.copytree(chain[name], tmp_path / name))

    return make


def accept(folder: Path) -> Path:
    """Write the files' sizes and hashes into the manifest, as if a faulty program had written them so."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        data = (folder / entry["path"]).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def set_metadata(folder: Path, **changed) -> None:
    content = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(content | changed))


def problems_of(folder: Path) -> list[str]:
    return verify_dataset(folder, quiet=True).problems


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code)


@pytest.mark.parametrize("name", ["generated", "refined", "tokens", "gpt"])
def test_what_a_command_wrote_is_what_it_says_and_a_flipped_bit_is_found(name, chain, copy):
    verified = verify_dataset(chain[name], quiet=True)
    assert (verified.problems, verified.has_manifest) == ([], True)
    folder = copy(name)
    file = next(
        folder / file for file in ("documents.jsonl", "train.bin", "model.safetensors") if (folder / file).exists()
    )
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert problems_of(folder) == [f"{file.name}: its bytes are not the ones that were written (sha256 differs)"]


def edit_lines(folder: Path, name: str, edit) -> None:
    rows = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    edit(rows)
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def edit_ranks(folder: Path) -> None:
    table = pq.read_table(folder / "quality.parquet")
    ranks = pc.subtract(pc.max(table["rank"]).as_py() + 1, table["rank"])
    pq.write_table(table.set_column(table.schema.get_field_index("rank"), "rank", ranks), folder / "quality.parquet")


DOCUMENTS = {
    "ranks upside down": ("refined", edit_ranks, "its ranks are not the lines"),
    "a miscounted document": (
        "generated",
        lambda folder: edit_lines(folder, "documents.jsonl", lambda rows: rows[3].update(n_tokens=1)),
        "and says 1",
    ),
    "an id that comes twice": (
        "generated",
        lambda folder: edit_lines(folder, "documents.jsonl", lambda rows: rows[3].update(id=rows[2]["id"])),
        "comes 2 times",
    ),
    "a text that comes twice": (
        "generated",
        lambda folder: edit_lines(folder, "documents.jsonl", lambda rows: rows.append(rows[0] | {"id": "new"})),
        "1 documents repeat the text of another",
    ),
    "a line that is no document": (
        "generated",
        lambda folder: edit_lines(folder, "documents.jsonl", lambda rows: rows.insert(4, {"id": "no text"})),
        "documents.jsonl: line 5 has no text",
    ),
    "a wrong total": (
        "generated",
        lambda folder: set_metadata(folder, n_tokens=7),
        "metadata.json says 7",
    ),
    "another tokenizer": (
        "generated",
        lambda folder: set_metadata(folder, tokenizer_sha256="0" * 64),
        "the tokenizer is not the one that metadata.json names",
    ),
    "chosen documents in another order": (
        "refined",
        lambda folder: edit_lines(folder, "documents.jsonl", lambda rows: rows.reverse()),
        "its ranks are not the lines",
    ),
    "a wrong mean score": ("refined", lambda folder: set_metadata(folder, mean_score=0.1), "the mean score is"),
    "a reject that is not counted": (
        "refined",
        lambda folder: edit_lines(folder, "rejects.jsonl", lambda rows: rows.pop()),
        "n_rejects is",
    ),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_documents_that_are_not_what_they_say_are_found_though_the_hashes_agree(what, copy):
    name, damage, expected = DOCUMENTS[what]
    folder = copy(name)
    damage(folder)
    found = problems_of(accept(folder))
    assert any(expected in problem for problem in found), found
    assert str(folder) not in " ".join(found)


def change_ids(folder: Path, change) -> None:
    ids = np.fromfile(folder / "train.bin", "<u2")
    change(ids, np.fromfile(folder / "train.idx", "<u8"))
    ids.tofile(folder / "train.bin")


def swap_ends(folder: Path) -> None:
    ends = np.fromfile(folder / "train.idx", "<u8")
    ends[[0, 1]] = ends[[1, 0]]
    ends.tofile(folder / "train.idx")


def leak(folder: Path) -> None:
    """Put the first document to train on among those that are held out."""
    end = int(np.fromfile(folder / "train.idx", "<u8")[0])
    held = np.concatenate([np.fromfile(folder / "val.bin", "<u2"), np.fromfile(folder / "train.bin", "<u2")[:end]])
    held.tofile(folder / "val.bin")
    np.append(np.fromfile(folder / "val.idx", "<u8"), np.uint64(len(held))).tofile(folder / "val.idx")
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["n_tokens"]["val"], metadata["n_docs"]["val"] = len(held), metadata["n_docs"]["val"] + 1
    set_metadata(folder, **metadata)


def strange_id(ids, ends) -> None:
    ids[5] = 60_000


def no_end(ids, ends) -> None:
    ids[int(ends[0]) - 1] = 5


def end_within(ids, ends) -> None:
    ids[int(ends[0]) - 2] = ids[int(ends[0]) - 1]


def no_start(ids, ends) -> None:
    ids[int(ends[0])] = 5


TOKENS = {
    "an id beyond the vocabulary": (lambda folder: change_ids(folder, strange_id), "has the id 60000"),
    "a document without its end": (lambda folder: change_ids(folder, no_end), "between the tokenizer's marks"),
    "an end within a document": (lambda folder: change_ids(folder, end_within), "1 end markers more than documents"),
    "a document without its start": (lambda folder: change_ids(folder, no_start), "between the tokenizer's marks"),
    "ends that do not ascend": (swap_ends, "does not ascend"),
    "a stream that is too short": (
        lambda folder: (folder / "val.bin").write_bytes((folder / "val.bin").read_bytes()[:-2]),
        "val.bin has",
    ),
    "a document on both sides": (leak, "1 documents are both in train and in val"),
    "another tokenizer": (lambda folder: set_metadata(folder, tokenizer_sha256="0" * 64), "is not the one"),
}


@pytest.mark.parametrize("what", TOKENS)
def test_tokens_that_are_not_what_they_say_are_found_though_the_hashes_agree(what, copy):
    damage, expected = TOKENS[what]
    folder = copy("tokens")
    damage(folder)
    found = problems_of(accept(folder))
    assert any(expected in problem for problem in found), found


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def not_finite(weights) -> None:
    next(iter(weights.values())).view(-1)[0] = float("nan")


def one_tensor_less(weights) -> None:
    weights.pop(next(name for name in weights if "layers.0" in name))


def edit_config(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"hidden_size": 8, "head_dim": 4}))


GPTS = {
    "a weight that is no number": (lambda folder: change_weights(folder, not_finite), "not finite"),
    "a tensor less": (lambda folder: change_weights(folder, one_tensor_less), "metadata.json says"),
    "weights of another shape": (edit_config, "is not the model's that config.json describes"),
    "weights that are cut": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100),
        "model.safetensors cannot be read",
    ),
    "a config that is none": (
        lambda folder: (folder / "config.json").write_text("{}"),
        "config.json describes no model",
    ),
    "another tokenizer": (lambda folder: set_metadata(folder, tokenizer_sha256="0" * 64), "is not the one"),
}


@pytest.mark.parametrize("what", GPTS)
def test_a_gpt_that_is_not_what_it_says_is_found_though_the_hashes_agree(what, copy):
    damage, expected = GPTS[what]
    folder = copy("gpt")
    damage(folder)
    found = problems_of(accept(folder))
    assert any(expected in problem for problem in found), found


def test_show_and_verify_and_seal_answer_on_the_command_line(chain, copy, capsys):
    for name, folder in chain.items():
        assert command("show", folder, "--json") == 0
        shown = json.loads(capsys.readouterr().out)
        metadata = json.loads((folder / "metadata.json").read_text())
        assert {key: shown[key] for key in metadata if key in shown} == {
            key: value for key, value in metadata.items() if not key.startswith("curve")
        }
        assert shown["n_files"] == sum(path.is_file() for path in folder.rglob("*"))
        assert shown["kind"] == {"tokens": "tokens", "gpt": "gpt"}.get(name, "text")
        assert command("verify", folder, "--quiet") == 0
        assert "no problems found" in capsys.readouterr().out
        assert command("seal", folder) == 0
        assert capsys.readouterr().out == f"{folder}\n"
    assert command("show", chain["gpt"].parent) == 0
    assert [line.split(": ")[1].split(",")[0] for line in sorted(capsys.readouterr().out.splitlines())] == [
        *("text", "gpt", "text", "tokens")
    ]
    damaged = copy("tokens")
    leak(damaged)
    assert command("verify", accept(damaged), "--quiet") == 1
    assert capsys.readouterr().out.startswith("WRONG 1 documents are both")


def test_a_gpt_that_was_stopped_before_its_sealing_is_sealed_to_the_same_bytes(chain, tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", Shape(16, 2, 2, intermediate=32))

    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    settings = {"steps": 2, "context": 16, "batch_size": 2, "tensorboard": False}
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            train_gpt(input=chain["tokens"], output=tmp_path / "gpt", **settings)
    assert show_dataset(tmp_path / "gpt.partial") == {
        "kind": "gpt",
        "path": str(tmp_path / "gpt.partial"),
        "units_done": 1,
        "units": 1,
    }
    assert seal_dataset(tmp_path / "gpt.partial").path == tmp_path / "gpt"
    whole = {path.name: path.read_bytes() for path in chain["gpt"].iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "gpt").iterdir()} == whole
    assert json.loads(whole["manifest.json"])["made_on"]


def test_only_activations_are_recomputed(chain):
    with pytest.raises(ConfigError):
        verify_dataset(chain["tokens"], recompute=2)


def test_a_grammar_says_what_it_can_supply_as_counting_by_hand_does(tmp_path):
    file = tmp_path / "pets.yaml"
    file.write_text(GRAMMAR)
    shown = show_grammar(file)
    assert (shown["domain"], shown["n_skeletons"], shown["language_size"]) == ("pets", 1, 6)
    assert shown["expected_words"] == (5 + 8) / 2
    for target in (30_000, 50_000, 100_000):
        at = shown[f"at_{target}_tokens"]
        assert at["n_documents"] == pytest.approx(target / shown["expected_tokens"], abs=2)
        assert at["expected_duplicates"] == pytest.approx(at["n_documents"] - 6, rel=0.005)  # six texts are all it has


def test_a_grammar_that_ships_goes_by_its_domain(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("show", "cooking", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "grammar"
    assert shown["n_skeletons"] >= 40
    assert shown["at_100000_tokens"]["share"] < 0.01
    (tmp_path / "cooking").mkdir()
    assert command("show", "cooking") == 1  # a folder of that name comes first
    assert "Hint:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("skeletons: {a: 'The #nobody# sleeps.'}", ["show", "g.yaml"], "#nobody#"),
        (GRAMMAR, ["verify", "g.yaml"], "g.yaml is a file of another kind"),
        (GRAMMAR, ["show", "nowhere.yaml"], "there is no grammar nowhere.yaml"),
    ],
)
def test_a_grammar_that_cannot_be_shown_is_two_lines(content, arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(content)
    assert command(*arguments) in (1, 2)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Error: ")
    assert says in first
    assert second.startswith("Hint: ")


def test_show_leaves_the_long_curve_to_metadata(chain):
    assert "curve" in json.loads((chain["gpt"] / "metadata.json").read_text())
    assert "curve" not in show_dataset(chain["gpt"])


@pytest.mark.parametrize(
    ("content", "said"), [([], "is no JSON object"), ({}, "has no kind that is text"), ({"eos_id": "x"}, "eos_id 'x'")]
)
def test_show_names_what_is_wrong_with_metadata(content, said, copy, capsys):
    folder = copy("tokens")
    kept = json.loads((folder / "metadata.json").read_text()) if content else {}
    (folder / "metadata.json").write_text(json.dumps(kept | content if content else content))
    sealed_again(folder)
    assert command("show", folder) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert said in first
    assert second.startswith("Hint: ")
