"""Variants as objects: each table is whole and on the page, and a module from outside adds to it."""

import hashlib
import json
import os
import pickle
import py_compile
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import save_file

import actlab
from actlab.activations.positions import POSITIONS
from actlab.backends.saes.families import FAMILIES
from actlab.features.datasets.normalisations import NORMALISATIONS
from actlab.features.datasets.strategies import STRATEGIES
from actlab.ground import execute, plugins
from actlab.ground.errors import ConfigError
from actlab.ground.options import config_of
from actlab.ground.plugins import load_plugins
from actlab.ground.variants import Table, Variant
from actlab.text.domains import DOMAINS
from actlab.text.refine.gates import GATES
from actlab.weights.config.methods import METHODS
from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.job import jobs_of
from actlab.weights.patterns.registry import PATTERNS
from tests import tiny_weights
from tests.command_line import fails_in_two_lines, run
from tests.fabricated import write_folder
from tests.folders import hashes
from tests.made_saes import D_IN, N_FEATURES, random_weights, write_saelens
from tests.test_saes import by_hand

ROOT = Path(__file__).parent.parent

TABLES = {
    "Positions": POSITIONS,
    "SAE families": FAMILIES,
    "Patterns": PATTERNS,
    "Quantisations": QUANTISATIONS,
    "Signature methods": METHODS,
    "Gates": GATES,
    "Domains": DOMAINS,
    "Strategies": STRATEGIES,
    "Normalisations": NORMALISATIONS,
}
"""By the heading of the formats page."""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Forget what a test's plugins added."""
    monkeypatch.setattr(plugins, "_loaded", {})
    for table in TABLES.values():
        monkeypatch.setattr(table, "_variants", dict(table._variants))
        monkeypatch.setattr(table, "_plugins", {})
    yield
    forget_plugins()


def forget_plugins() -> None:
    for one in plugins._loaded.values():
        sys.modules.pop(one.name, None)
    plugins._loaded.clear()


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
        (str(plugin("x = 1", "json")), "there is a module json already"),
    ]:
        with pytest.raises(ConfigError, match=says):
            load_plugins([name])


def test_the_modules_on_the_plugins_page_add_what_they_say(plugin, llama, dataset, tmp_path):
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    before = {heading: table.names for heading, table in TABLES.items()}
    load_plugins([str(plugin(block, f"page_{number}")) for number, block in enumerate(blocks)])
    added = {heading: set(table.names) - set(before[heading]) for heading, table in TABLES.items()}
    assert {heading: names for heading, names in added.items() if names} == {
        "Positions": {"response-first"},
        "Strategies": {"difference-to-concept"},
        "Gates": {"numbered"},
        "Domains": {"tea"},
        "Patterns": {"second_is_b"},
    }
    (dump,) = actlab.extract_activations(
        model=llama, dataset=dataset, output=tmp_path / "out", position="response-first"
    )
    assert len(actlab.open_activations(dump.path / "EM")) > 0


def test_the_order_of_plugins_changes_nothing(plugin):
    source = FIRST.replace("response-first", "{}")
    owns = [str(plugin(source.replace("{}", name), name)) for name in ("b_one", "a_one")]
    load_plugins(owns)
    assert POSITIONS.names[-2:] == ("a_one", "b_one")
    assert POSITIONS.names[:-2] == tuple(one.name for one in POSITIONS.shipped)


def test_a_plugin_that_fails_leaves_nothing_behind_and_is_loaded_when_it_is_corrected(plugin):
    own = plugin(FIRST + "\nraise ValueError('later')\n")
    with pytest.raises(ConfigError, match="fails: later"):
        load_plugins([str(own)])
    assert "response-first" not in POSITIONS.names
    plugin(FIRST)
    load_plugins([str(own)])
    assert "response-first" in POSITIONS.names


def test_what_is_run_is_what_is_hashed_also_where_python_kept_an_older_one(plugin):
    own = plugin("X = 1")
    py_compile.compile(str(own), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    own.write_text("X = 2")
    load_plugins([str(own)])
    assert sys.modules["mine"].X == 2


def test_a_module_that_a_plugin_imports_adds_nothing_as_its_code_is_not_hashed(plugin, monkeypatch):
    monkeypatch.syspath_prepend(plugin(FIRST, "helper").parent)
    with pytest.raises(ConfigError, match="is added outside a plugin, by helper"):
        load_plugins([str(plugin("import helper", "outer"))])


def test_tables_inside_the_package_are_closed(plugin):
    source = """
from actlab.features.datasets.normalisations import NORMALISATIONS, Normalisation
NORMALISATIONS.add(Normalisation(name="zero", help="all 0", hint="none"))
"""
    with pytest.raises(ConfigError, match="a plugin cannot add a normalisation"):
        load_plugins([str(plugin(source))])


def test_a_plugin_that_was_changed_after_it_was_loaded_is_refused(plugin):
    own = plugin(FIRST)
    load_plugins([str(own)])
    own.write_text(FIRST + "\n")
    with pytest.raises(ConfigError, match="was changed since it was loaded"):
        load_plugins([str(own)])


def test_a_plugin_that_adds_nothing_is_said_and_one_that_ends_python_is_refused(plugin, caplog):
    load_plugins([str(plugin("X = 1"))])
    assert "the plugin mine adds no variant" in caplog.text
    with pytest.raises(ConfigError, match="it ends Python"):
        load_plugins([str(plugin("raise SystemExit(3)", "ends"))])


def test_a_config_made_by_hand_loads_the_plugins_that_it_names(plugin):
    config = actlab.ExtractConfig(plugins=(str(plugin(FIRST)),), position="response-first")
    assert POSITIONS[config.position].help == "the response's first token"


def test_a_function_told_to_make_a_dry_run_makes_nothing(llama, dataset, tmp_path):
    with pytest.raises(ConfigError, match="would make what dry_run is to spare") as refused:
        actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out", dry_run=True)
    assert "actlab.cost(actlab.extract_activations" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_gate_that_is_always_asked_cannot_be_named(plugin):
    with pytest.raises(ConfigError, match="the gate 'empty' is always asked"):
        actlab.RefineConfig(input=Path("x"), output=Path("y"), gate=("empty",))


def test_a_plugin_named_in_two_ways_is_loaded_once(plugin, monkeypatch):
    own = plugin(FIRST)
    monkeypatch.chdir(own.parent)
    load_plugins([str(own), "mine", "./mine.py"])
    assert "response-first" in POSITIONS.names


def test_a_variant_that_is_added_outside_a_plugin_is_refused(plugin):
    with pytest.raises(ConfigError, match="is added outside a plugin") as refused:
        exec(FIRST, {"__name__": "__main__"})
    assert "--plugins" in refused.value.hint


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
    forget_plugins()
    POSITIONS._take_out("response-first")
    fails_in_two_lines(run(*flags, "--output", tmp_path / "out", "--plugins", own), 1, "plugins.mine is", "--overwrite")


def test_a_dump_of_a_position_from_outside_is_verified_with_its_plugin(plugin, llama, dataset, tmp_path):
    own = plugin(FIRST)
    settings = {"model": llama, "dataset": dataset, "output": tmp_path / "out", "position": "response-first"}
    (dump,) = actlab.extract_activations(**settings, plugins=[own])
    deep = ("--recompute", "1", "--model", llama, "--dataset", dataset)
    assert run("verify", dump.path, *deep, "--plugins", own).returncode == 0
    forget_plugins()
    POSITIONS._take_out("response-first")
    fails_in_two_lines(run("verify", dump.path, *deep), 2, "plugins that are not loaded", "--plugins mine")
    assert run("show", dump.path).returncode == 0
    assert run("verify", dump.path).returncode == 0, "hashes and shards need no plugin"
    own.write_text(FIRST.replace("response_start + 1", "response_start + 2"))
    changed = run("verify", dump.path, *deep, "--plugins", own)
    fails_in_two_lines(changed, 2, "or differ: mine", "as it was then")


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


def test_what_a_table_begins_with_is_no_plugins_also_where_a_plugin_is_the_first_to_import_it(plugin, monkeypatch):
    monkeypatch.delitem(sys.modules, "first", raising=False)
    source = """
from actlab.ground.variants import Table, Variant

TABLE = Table("thing", Variant(name="own", help="a thing", hint="take another"))
TABLE.add(Variant(name="more", help="a thing", hint="take another"))
"""
    load_plugins([str(plugin(source, "first"))])
    table = sys.modules["first"].TABLE
    assert [one.name for one in table.shipped] == ["own"]
    assert list(table.plugins_of(["own", "more"])) == ["first"]


SPARSIFY = """
import json

from safetensors.torch import load_file

from actlab.backends.saes.families import FAMILIES, Family
from actlab.backends.saes.sae import SaeFacts


def read(folder):
    config = json.loads((folder / "cfg.json").read_text())
    return SaeFacts(
        path=folder / "sae.safetensors",
        others=(folder / "cfg.json",),
        family="sparsify",
        architecture="topk",
        layer=int(folder.name.removeprefix("layers.")),
        d_in=config["d_in"],
        n_features=config["num_latents"],
        average_l0=config["k"],
        k=config["k"],
        apply_b_dec_to_input=True,
    )


def weights(facts):
    stored = load_file(facts.path)
    named = {"W_enc": stored["encoder.weight"].T, "b_enc": stored["encoder.bias"]}
    return lambda name: named[name] if name in named else stored[name]


FAMILIES.add(
    Family(
        name="sparsify",
        help="`layers.L/cfg.json` and `sae.safetensors`",
        hint="a folder of sparsify is layers.L",
        recognises=lambda folder: (folder / "sae.safetensors").is_file(),
        read=read,
        weights=weights,
    )
)
"""


@pytest.fixture
def of_two_families(tmp_path) -> Path:
    """An SAE of layer 1 as EleutherAI's sparsify writes it, and one of layer 3 of SAELens; both have a cfg.json."""
    write_saelens(tmp_path / "saes" / "three", "standard", 3, random_weights("standard"))
    folder, weights = tmp_path / "saes" / "layers.1", random_weights("topk", seed=1)
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps({"d_in": D_IN, "num_latents": N_FEATURES, "k": 5}))
    stored = {"encoder.weight": weights["W_enc"].T, "encoder.bias": weights["b_enc"]}
    stored |= {name: weights[name] for name in ("W_dec", "b_dec")}
    save_file({name: weight.contiguous() for name, weight in stored.items()}, folder / "sae.safetensors")
    return tmp_path / "saes"


def test_saes_of_a_family_from_outside_are_read_beside_others_and_hashed_into_the_identity(
    plugin, of_two_families, tmp_path
):
    states = write_folder(tmp_path / "states", 3, width=D_IN)
    flags = ("compute-features", "--from-hidden", states, "--l0-check", "off", "--quiet")
    own = plugin(SPARSIFY)
    alone = (*flags, "--sae", of_two_families / "layers.1", "--output", tmp_path / "no")
    fails_in_two_lines(
        run(*alone), 2, "holds no SAE of a family that is known (gemma-scope, saelens)", "SAELens folder"
    )
    done = run(*flags, "--sae", of_two_families, "--output", tmp_path / "out", "--plugins", own)
    assert done.returncode == 0, done.stderr
    (first, *_) = actlab.load_all_sentences(tmp_path / "out")
    assert first.facts.layers == (1, 3)
    rows = np.load(states / "sentence_000001.npz")["hidden_states"][1]
    expected = by_hand("topk", random_weights("topk", seed=1), rows, centered=True)
    np.testing.assert_allclose(first["activations"][0], expected, rtol=1e-4, atol=1e-4)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(manifest["identity"]["plugins"]) == ["mine"]
    assert [sae["family"] for sae in manifest["identity"]["saes"]] == ["sparsify", "saelens"]
    read = [one["name"] for one in manifest["inputs"] if one["role"].startswith("sae of layer 1")]
    assert read == ["sae.safetensors", "cfg.json"]


def test_a_family_of_a_plugin_that_is_not_used_changes_no_identity(plugin, of_two_families, tmp_path):
    settings = {"from_hidden": write_folder(tmp_path / "states", 3, width=D_IN), "l0_check": "off"}
    settings |= {"sae": of_two_families / "three", "output": tmp_path / "out"}
    actlab.compute_features(**settings)
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    actlab.compute_features(**settings, plugins=[plugin(SPARSIFY)])
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_a_folder_that_two_families_recognise_is_refused_and_names_them(plugin, of_two_families, tmp_path):
    own = plugin(SPARSIFY.replace('"sae.safetensors").is_file()', '"cfg.json").is_file()'))
    states = write_folder(tmp_path / "states", 3, width=D_IN)
    flags = ("compute-features", "--from-hidden", states, "--sae", of_two_families, "--output", tmp_path / "out")
    done = run(*flags, "--plugins", own)
    fails_in_two_lines(done, 2, "is of several SAE families: saelens and sparsify", "a folder of its own")


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
    fails_in_two_lines(run(*again), 2, "not loaded, or differ: mine", "--plugins mine")


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
    forget_plugins()
    if "second_is_b" in PATTERNS.names:
        PATTERNS._take_out("second_is_b")


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


NUMBERED = """
from actlab.text.refine.gates import GATES, Gate

GATES.add(
    Gate(
        name="numbered",
        help="a digit",
        hint="write numbers as words",
        finds=lambda document, preset: next((f"{one!r}" for one in document.text if one.isdigit()), None),
    )
)
"""


@pytest.fixture
def recipes(tmp_path):
    """Documents of which every second one has a digit; the last one is nothing but white space."""
    said = [
        "The cook boils {} cups of rice and then stirs the pot with a spoon.",
        "A {} of salt goes into the soup.",
    ]
    texts = [said[place % 2].format(what) for place, what in enumerate(["3", "pinch", "5", "spoon"])]
    path = tmp_path / "recipes.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, " "]))
    return path


def test_a_gate_from_outside_rejects_where_it_is_named_and_is_hashed_into_the_identity(plugin, recipes, tmp_path):
    own = plugin(NUMBERED)
    flags = ("refine-text", recipes, "--no-plots", "--min-score", "0", "--output")
    fails_in_two_lines(run(*flags, tmp_path / "x", "--gate", "numbered"), 2, "gate 'numbered' is not known", "mojibake")
    done = run(*flags, tmp_path / "out", "--gate", "numbered", "--plugins", own, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_rejects"] == {"empty": 1, "numbered": 2}
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert {one["detail"] for one in rejects if one["reason"] == "numbered"} == {"'3'", "'5'"}
    identity = json.loads((tmp_path / "out" / "manifest.json").read_text())["identity"]
    assert identity["gate"] == ["numbered"]
    assert re.fullmatch("[0-9a-f]{64}", identity["plugins"]["mine"])
    assert "numbered" in GATES.names
    assert run(*flags, tmp_path / "plain").returncode == 0
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert not {"gate", "plugins"} & set(manifest["identity"])
    assert json.loads((tmp_path / "plain" / "metadata.json").read_text())["n_rejects"] == {"empty": 1}


def test_where_a_gate_from_outside_lets_nothing_pass_its_own_hint_helps(plugin, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "The cook boils 3 cups of rice and then stirs it.", "n_tokens": 12}) + "\n")
    flags = ("refine-text", rows, "--output", tmp_path / "out", "--gate", "numbered", "--plugins", plugin(NUMBERED))
    fails_in_two_lines(run(*flags), 1, "passes (numbered: 1)", "write numbers as words")


def test_a_gate_that_leaves_out_its_hint_or_help_fails_with_a_sentence(plugin, recipes, tmp_path):
    for missing, line in {"hint": 'hint="write numbers as words",', "help": 'help="a digit",'}.items():
        own = plugin(NUMBERED.replace(line, ""), f"without_{missing}")
        done = run("refine-text", recipes, "--output", tmp_path / "out", "--plugins", own)
        fails_in_two_lines(done, 2, f"gate 'numbered' has no {missing}", missing)


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
