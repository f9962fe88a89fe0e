"""Variants as objects: each table is whole and on the page, and a module from outside adds to it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import actlab
from actlab.activations.positions import POSITIONS
from actlab.features.datasets.normalisations import NORMALISATIONS
from actlab.features.datasets.strategies import STRATEGIES
from actlab.ground import variants
from actlab.ground.errors import ConfigError
from actlab.ground.variants import Table, Variant, load_plugins
from tests.command_line import fails_in_two_lines, run
from tests.fabricated import write_folder

ROOT = Path(__file__).parent.parent

TABLES = {
    "Positions": POSITIONS,
    "Strategies": STRATEGIES,
    "Normalisations": NORMALISATIONS,
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


DIFFERENCE = """
from actlab.features.datasets.strategies import STRATEGIES, Strategy

STRATEGIES.add(
    Strategy(
        name="difference-to-concept",
        help="X is the last layer's hidden states less the first one's, y the label",
        hint="give --layers, two or more",
        input_source="hidden_states",
        is_concept=True,
        stem="diff{layers}",
        inputs=lambda rows: rows.hidden[:, -1] - rows.hidden[:, 0],
        targets=lambda rows: rows.labels,
    )
)
"""


def test_a_strategy_from_outside_makes_its_own_X_and_is_hashed_into_the_identity(plugin, tmp_path):
    own, folder = plugin(DIFFERENCE), write_folder(tmp_path / "in", 6)
    flags = ("--strategy", "difference-to-concept", "--input", folder, "--normalize", "none")
    single = ("generate-datasets", *flags, "--output", tmp_path / "{name}")
    fails_in_two_lines(run(*single), 2, "strategy 'difference-to-concept' is not known", "-to-concept")
    fails_in_two_lines(run(*single, "--plugins", own), 2, "needs --layer or --layers", "give --layers, two or more")
    done = run(*single, "--layers", "0,3", "--plugins", own, "--json")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "diff0_3_to_concept.npz"
    assert Path(json.loads(done.stdout)[0]["path"]) == path
    made = actlab.load_dataset(path)
    states = [np.load(folder / f"sentence_{k:06d}.npz")["hidden_states"][:, -1] for k in range(1, 7)]
    assert ([state_ld[3] - state_ld[0] for state_ld in states] == made.X).all()
    identity = json.loads(made.metadata["manifest"])["identity"]
    assert list(identity["plugins"]) == ["mine"]
    assert re.fullmatch("[0-9a-f]{64}", identity["plugins"]["mine"])
    before = path.stat().st_mtime_ns
    sweep = ("sweep-datasets", *flags, "--output", tmp_path / "{name}", "--layers", "0,3", "--plugins", own)
    assert run(*sweep).returncode == 0
    assert path.stat().st_mtime_ns == before, "the sweep's is the same one"


def test_a_strategy_of_a_plugin_that_is_not_used_changes_no_identity(plugin, tmp_path):
    settings = {"strategy": "hidden-to-concept", "layer": 1, "input": write_folder(tmp_path / "in", 5)}
    (before,) = actlab.generate_datasets(**settings, output=tmp_path / "a.npz")
    (after,) = actlab.generate_datasets(**settings, output=tmp_path / "b.npz", plugins=[plugin(DIFFERENCE)])
    assert before.path.read_bytes() == after.path.read_bytes()
