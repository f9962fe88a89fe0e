"""Variants as objects: each table is whole and on the page, and a module from outside adds to it."""

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import yaml

import actlab
from actlab.activations.positions import POSITIONS
from actlab.ground import execute, variants
from actlab.ground.errors import ConfigError
from actlab.ground.options import config_of
from actlab.ground.variants import Table, Variant, load_plugins
from actlab.weights.config.methods import METHODS
from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.job import jobs_of
from actlab.weights.patterns.registry import PATTERNS
from tests import tiny_weights
from tests.command_line import fails_in_two_lines, run
from tests.folders import hashes

ROOT = Path(__file__).parent.parent

TABLES = {
    "Positions": POSITIONS,
    "Patterns": PATTERNS,
    "Quantisations": QUANTISATIONS,
    "Signature methods": METHODS,
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


SECOND = """
from actlab.weights.patterns.pattern import pattern
from actlab.weights.job import jobs_of
from actlab.weights.patterns.registry import PATTERNS

@PATTERNS.add
@pattern("B in second place", hint="raise model.vocab_size")
def second_is_b(tokens_np, space):
    return tokens_np[:, 1] == 1
"""
NAMED = ["palindrome", "second_is_b", "ends_with", "no_repeats"]


def as_yaml(path: Path, settings: dict) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def with_second(plugin, folder: Path, **changes) -> tuple[Path, Path]:
    """Write the plugin and a YAML file of a small dataset that names its pattern; forget that it was loaded."""
    own = plugin(SECOND)
    load_plugins([str(own)])
    named = {"dataset.patterns.enabled_patterns": NAMED, "dataset.output_dataset_length": 2}
    chosen = tiny_weights.settings(folder, **named, **changes)
    forget()
    return own, as_yaml(folder / "c.yaml", chosen)


def test_a_pattern_from_outside_is_learnt_scored_and_reproduced(plugin, tmp_path):
    own, config = with_second(plugin, tmp_path)
    fails_in_two_lines(run("run-data-gen", "--config-path", config), 2, "pattern 'second_is_b' is not known")
    done = run("run-data-gen", "--config-path", config, "--plugins", own)
    assert done.returncode == 0, done.stderr
    dataset = actlab.WeightsDataset(tmp_path / "out")
    assert dataset.identity["patterns"] == ["palindrome", "ends_with", "no_repeats", "second_is_b"]
    assert list(dataset.identity["plugins"]) == ["mine"]
    rows = [row for stored in dataset.rows(range(2), "train").values() for row in zip(*stored, strict=True)]
    assert {tokens[1] for tokens, _, pattern in rows if pattern == "second_is_b"} == {1}, "B is 1; or another seed?"
    predicted = {"example_id": 0, "task": "classification", "completion": "second_is_b"}
    (tmp_path / "p.jsonl").write_text(json.dumps(predicted))
    again = ("reproduce", tmp_path / "out", "--example-id", "0", "--plugins", own)
    for command in (("score-interpreter", tmp_path / "out", tmp_path / "p.jsonl", "--plugins", own), again):
        done = run(*command)
        assert done.returncode == 0, done.stderr
    forget()
    own.write_text(SECOND.replace("== 1", "== 2"))
    fails_in_two_lines(run(*again), 1, "plugins.mine", "verify")


def test_a_worker_process_loads_the_plugins_that_the_config_names(plugin, tmp_path, monkeypatch):
    own, config = with_second(plugin, tmp_path)
    as_yaml(config, yaml.safe_load(config.read_text()) | {"plugins": [str(own)]})
    job = jobs_of(config_of(actlab.run_data_gen, config_path=config))[0][0]
    pickled = pickle.dumps(job)
    forget()
    monkeypatch.setattr(execute, "_end_with", lambda parent: None)
    number, done, told = execute._do(os.getppid(), pickle.loads(pickled), 0)
    assert number == 0
    assert any("second_is_b" in attempt["patterns"] for attempt in done.seen.attempts)
    assert sum(more for more, _ in told) == 2
    assert "second_is_b" in PATTERNS.names


@pytest.mark.slow
def test_a_pattern_from_outside_is_learnt_to_the_same_bytes_in_worker_processes(plugin, tmp_path):
    own, config = with_second(plugin, tmp_path, **{"pipeline.checkpoint_interval": 1})
    for workers in ("1", "2"):
        flags = ("--plugins", own, "--workers", workers, "--output", tmp_path / workers)
        done = run("run-data-gen", "--config-path", config, *flags)
        assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def forget() -> None:
    variants._loaded.clear()
    PATTERNS._variants.pop("second_is_b", None)


def test_sequences_of_a_pattern_from_outside_are_drawn_only_where_it_is_named(plugin, tmp_path):
    groups = {name: group for name, group in tiny_weights.SETTINGS.items() if name in ("model", "pipeline")}
    config, own = as_yaml(tmp_path / "c.yaml", groups), plugin(SECOND)
    files = [tmp_path / f"{number}.json" for number in range(3)]
    command = ("create-sig-dataset", "--config-path", config, "--size", 40, "--filename")
    assert run(*command, files[0]).returncode == 0
    assert run(*command, files[1], "--plugins", own).returncode == 0
    assert files[0].read_bytes() == files[1].read_bytes(), "a pattern that no config names changes nothing"
    named = (
        "--set",
        f"dataset.patterns.enabled_patterns={NAMED}",
        "--set",
        "dataset.patterns.max_patterns_per_batch=2",
    )
    done = run(*command, files[2], "--plugins", own, *named)
    assert done.returncode == 0, done.stderr
    drawn = [one["sequence"] for one in json.loads(files[2].read_text())["examples"] if one["pattern"] == "second_is_b"]
    assert {sequence[1] for sequence in drawn} == {"B"}


def test_a_pattern_that_leaves_out_its_hint_fails_with_a_sentence(plugin, tmp_path):
    own = plugin(SECOND.replace(', hint="raise model.vocab_size"', ""))
    done = run("create-sig-dataset", "--filename", tmp_path / "s.json", "--plugins", own)
    fails_in_two_lines(done, 2, "pattern 'second_is_b' has no hint", "hint")
