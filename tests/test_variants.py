"""Variants as objects: each table is whole and on the page, and a module from outside adds to it."""

import hashlib
import json
import re
from pathlib import Path

import pytest

import actlab
from actlab.activations.positions import POSITIONS
from actlab.ground import variants
from actlab.ground.errors import ConfigError
from actlab.ground.variants import Table, Variant, load_plugins
from actlab.text.domains import DOMAINS
from tests.command_line import fails_in_two_lines, run

ROOT = Path(__file__).parent.parent

TABLES = {
    "Positions": POSITIONS,
    "Domains": DOMAINS,
}
"""By the heading of the formats page."""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Forget what a test's plugins added."""
    monkeypatch.setattr(variants, "_loaded", {})
    for table in TABLES.values():
        monkeypatch.setattr(table, "_variants", dict(table._variants))
        monkeypatch.setattr(table, "_plugins", {})


@pytest.fixture
def plugin(tmp_path):
    """Write a module outside the package, and return its path."""

    def write(source: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return path

    return write


@pytest.mark.parametrize("heading", TABLES)
def test_each_variant_says_what_it_is_and_stands_on_the_page(heading):
    table = TABLES[heading]
    for one in table:
        assert one.name, f"a {table.what} has no name: give it one"
        assert one.help, f"the {table.what} {one.name} has no help: say in a clause what it is"
        assert one.hint, f"the {table.what} {one.name} has no hint: say what helps where nothing comes of it"
        assert not one.help.endswith("."), (
            f"the help of the {table.what} {one.name} ends in a full stop: it is a clause"
        )
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = page.split(f"### {heading}\n")[1].split("\n#")[0]
    on_page = re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, flags=re.MULTILINE)
    assert on_page == table.rows(), f"write the rows of {heading} in docs/formats.md as the table has them"


@pytest.mark.parametrize("missing", ["name", "help", "hint"])
def test_a_variant_that_leaves_something_out_is_refused_with_a_sentence(missing):
    whole = {"name": "x", "help": "a thing", "hint": "take another"}
    with pytest.raises(ConfigError, match=missing if missing != "name" else "is called ''") as refused:
        Table("thing", Variant(**whole | {missing: ""}))
    assert missing in refused.value.hint


def test_a_plugin_that_is_not_there_or_fails_is_refused_with_a_sentence(plugin):
    for name, says in [
        ("no_such_module", "there is no plugin"),
        ("../x", "names no module"),
        (str(plugin("import nothing_at_all")), "fails: No module named"),
        (str(plugin("raise RuntimeError('by itself')", "other")), "fails: by itself"),
    ]:
        with pytest.raises(ConfigError, match=says):
            load_plugins([name])


FIRST = """
from actlab.activations.positions import POSITIONS, Position

POSITIONS.add(
    Position(
        name="response-first",
        help="the response's first token",
        hint="is there a response?",
        saved=lambda spans, _: (spans.response_start, spans.response_start + 1),
    )
)
"""


def test_a_position_from_outside_is_saved_and_hashed_into_the_identity(plugin, llama, dataset, tmp_path):
    own = plugin(FIRST)
    flags = ("extract-activations", "--model", llama, "--dataset", dataset, "--position", "response-first")
    fails_in_two_lines(
        run(*flags, "--output", tmp_path / "out"), 2, "position 'response-first' is not known", "response-mean"
    )
    done = run(*flags, "--output", tmp_path / "out", "--plugins", own, "--json")
    assert done.returncode == 0, done.stderr
    dump = Path(json.loads(done.stdout)[0]["path"])
    examples = actlab.open_activations(dump / "EM").examples
    assert set(examples["position"]) < set(range(1, 40))
    assert (examples["position"] < examples["n_tokens"] - 1).any(), "not the last token"
    identity = json.loads((dump / "manifest.json").read_text())["identity"]
    assert list(identity["plugins"]) == ["mine"]
    assert re.fullmatch("[0-9a-f]{64}", identity["plugins"]["mine"])
    own.write_text(FIRST.replace("response_start + 1", "response_start + 2"))
    variants._loaded.clear()
    POSITIONS._variants.pop("response-first")
    fails_in_two_lines(run(*flags, "--output", tmp_path / "out", "--plugins", own), 1, "plugins.mine is", "--overwrite")


def test_a_plugin_that_is_not_used_changes_no_identity(plugin, llama, dataset, tmp_path):
    settings = {"model": llama, "dataset": dataset, "output": tmp_path / "out"}
    actlab.extract_activations(**settings)
    before = (tmp_path / "out" / llama.name / "data" / "manifest.json").read_bytes()
    actlab.extract_activations(**settings, plugins=[plugin(FIRST)])
    assert (tmp_path / "out" / llama.name / "data" / "manifest.json").read_bytes() == before


def test_a_plugin_that_leaves_out_its_hint_fails_with_a_sentence(plugin, llama, dataset):
    own = plugin(FIRST.replace('hint="is there a response?",', ""))
    done = run("extract-activations", "--model", llama, "--dataset", dataset, "--plugins", own)
    fails_in_two_lines(done, 2, "position 'response-first' has no hint", "hint")


TEA = """
domain: tea
keywords: {recipe: 9, tea: 3}
skeletons: {pot: "Warm the #pot#, and wait #n# minutes.", cup: "A #pot# of tea, after #n# minutes."}
pools: {pot: [pot, cup, bowl, glass, can, flask, jug, mug], n: [two, three, four, five, six, seven, eight, nine]}
"""
OWN_DOMAIN = """
from pathlib import Path

from actlab.text.domains import DOMAINS, Domain

grammar = Path(__file__).with_name("leaves.yaml")
DOMAINS.add(Domain(name="leaves", help="tea, and how it is made", hint="ask for fewer tokens", grammar=grammar))
"""


def test_a_domain_from_outside_is_written_where_it_is_named_and_hashed_into_the_identity(plugin, tmp_path):
    (tmp_path / "leaves.yaml").write_text(TEA)
    own = plugin(OWN_DOMAIN)
    flags = ("generate-text", "simple recipes", "--tokens", 40, "--vocab-size", 300, "--output")
    unknown = run(*flags, tmp_path / "tea", "--domain", "leaves")
    fails_in_two_lines(unknown, 2, "domain 'leaves' is not known", "cooking")
    done = run(*flags, tmp_path / "tea", "--domain", "leaves", "--plugins", own)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "tea" / "documents.jsonl").read_text().splitlines()]
    assert all(re.match(r"(Warm the|A) (pot|cup|bowl|glass|can|flask|jug|mug)\b", row["text"]) for row in rows)
    manifest = json.loads((tmp_path / "tea" / "manifest.json").read_text())
    assert list(manifest["identity"]["plugins"]) == ["mine"]
    sha256 = hashlib.sha256(TEA.encode()).hexdigest()
    assert manifest["inputs"] == [{"role": "grammar", "name": "leaves.yaml", "bytes": len(TEA), "sha256": sha256}]
    planned = run(*flags, tmp_path / "auto", "--dry-run", "--json", "--plugins", own)
    assert json.loads(planned.stdout)["domain"] == "cooking", "however much its keywords say"
    (tmp_path / "leaves.yaml").write_text(TEA.replace("Warm", "Heat"))
    other = run(*flags, tmp_path / "tea", "--domain", "leaves", "--plugins", own)
    fails_in_two_lines(other, 1, "leaves.yaml", "--overwrite")


def test_a_domain_from_outside_that_leaves_out_its_help_fails_with_a_sentence(plugin):
    own = plugin(OWN_DOMAIN.replace('help="tea, and how it is made", ', ""))
    done = run("generate-text", "tea", "--output", "tea", "--plugins", own)
    fails_in_two_lines(done, 2, "domain 'leaves' has no help", "help")
