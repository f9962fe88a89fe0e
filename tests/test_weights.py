"""run-data-gen: a dataset of weights is what it claims to be, and the same however it was made."""

import argparse
import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import actlab
from actlab.cli.main import main
from actlab.formats.weights import STORE, WeightsDataset
from actlab.ground.errors import ActlabError, ConfigError, DataError
from actlab.ground.job import cost
from actlab.ground.options import identity_of, options_of
from actlab.weights.compute import judge, unit
from actlab.weights.config.data_gen import BOUNDS, DataGenConfig
from actlab.weights.config.networks import ModelSettings
from tests.command_line import kill_often, new_processes
from tests.folders import hashes
from tests.tiny_weights import make, settings, train_once

ROOT = Path(__file__).parent.parent


TRAIN_MANY = unit.train_many


@pytest.fixture(autouse=True, scope="module")
def trained_once():
    """The same networks are trained once; `train_many` has its own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit, "train_many", train_once)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, trained_once):
    folder = tmp_path_factory.mktemp("weights")
    done = make(folder)
    assert (done.n_examples, done.is_sealed, done.n_dropped) == (6, True, 0)
    assert max(spec["n_parameters"] for spec in WeightsDataset(done.path).specs()) <= 241, "not a tiny dataset"
    return done.path


def as_yaml(folder: Path, **changes) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings(folder, **changes)))
    return path


def failure(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code in (1, 2)
    lines = captured.err.strip().splitlines()
    assert [line.partition(":")[0] for line in lines[-2:]] == ["Error", "Hint"], captured.err
    assert "Traceback" not in captured.err
    return "\n".join(lines[-2:])


def test_the_independent_check_finds_nothing_wrong(made):
    script = ROOT / "scripts" / "check_weights_dataset.py"
    # half of these few networks may be worse on fresh rows: their test sets are tiny
    done = subprocess.run(
        [sys.executable, script, made, "--fresh", "100", "--fresh-share", "0.5"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_independent_check_finds_listed_unlisted_and_target_patterns_that_miss_their_thresholds(made, tmp_path):
    spec = importlib.util.spec_from_file_location("checks", ROOT / "scripts" / "check_weights_dataset.py")
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    folder = shutil.copytree(made, tmp_path / "copied")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["validation"] |= {"min_accuracy": 0.999, "max_unlisted_accuracy": 0.4, "max_degraded_accuracy": 0.4}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    options = argparse.Namespace(fresh=20, fresh_share=0.0, seed=0)
    found = "\n".join(checks.check(folder, options).problems["2 criteria"])
    for what in ("the listed", "the unlisted", "the target"):
        assert f": {what} " in found
        assert f", as shown: {what} " in found
    for file in folder.glob("store/unlisted-*"):
        file.unlink()
    assert any("no unlisted sequences of" in problem for problem in checks.check(folder, options).problems["1 rows"])


def test_the_dataset_is_the_same_for_any_workers_and_parts(made, tmp_path, monkeypatch):
    monkeypatch.setattr(unit, "train_many", TRAIN_MANY)
    two_workers = make(tmp_path, **{"pipeline.max_threads": 2}).path
    assert hashes(two_workers) == hashes(made)
    for part in ("2/2", "1/2"):
        done = make(tmp_path, part=part, **{"pipeline.output_dir": str(tmp_path / "parts")})
    assert done.is_sealed
    assert hashes(tmp_path / "parts") == hashes(made)


def test_an_interrupted_run_goes_on_to_the_same_bytes(made, tmp_path, monkeypatch):
    from actlab.weights import job

    whole = job.fill

    def interrupted(source, slots, **rest):
        if slots[0] > 0:
            raise KeyboardInterrupt
        return whole(source, slots, **rest)

    monkeypatch.setattr(job, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert len(list((tmp_path / "out.partial" / "units").iterdir())) == 1
    monkeypatch.setattr(job, "fill", whole)
    assert hashes(make(tmp_path).path) == hashes(made)


def files_of_table(folder: Path, name: str) -> list[Path]:
    if name == "attempts":
        return [folder / "attempts.parquet"]
    return sorted(folder.glob(f"store/{name}-*.parquet" if name in STORE else f"{name}/*.parquet"))


def test_the_saved_config_makes_the_same_dataset_and_holds_no_secret(made, tmp_path):
    saved = yaml.safe_load((made / "config.yaml").read_text())
    assert "hub" not in saved
    assert "token" not in json.dumps(saved["pipeline"])
    sig = str(made / "signature_dataset.json")
    again = actlab.run_data_gen(
        config_path=made / "config.yaml",
        **{"signature.dataset_path": sig, "pipeline.output_dir": str(tmp_path / "again")},
        metrics={"tensorboard": {"enabled": False}},
    )
    differing = {name for name, digest in hashes(made).items() if hashes(again.path)[name] != digest}
    assert differing == {"manifest.json", "metadata.json"}, "they name the signature dataset's file"
    one, other = (json.loads((folder / "manifest.json").read_text()) for folder in (made, again.path))
    assert one["identity"] == other["identity"]


def test_load_dataset_opens_every_table_that_the_card_declares(made, tmp_path, monkeypatch):
    import datasets

    names = datasets.get_dataset_config_names(str(made))
    assert set(names) == {"modification", "classification", "attempts", *STORE} - {"codes"}
    for name in names:
        loaded = datasets.load_dataset(str(made), name, cache_dir=str(tmp_path / "cache"))
        n_on_disk = sum(pq.read_metadata(file).num_rows for file in files_of_table(made, name))
        assert sum(split.num_rows for split in loaded.values()) == n_on_disk > 0
    row = datasets.load_dataset(str(made), "modification", cache_dir=str(tmp_path / "cache"))["train"][0]
    assert row["modification_text"] == f"{row['prompt']}\n\n{row['completion']}"
    assert json.loads(row["metadata"])["tasks_included"] == ["modification", "classification"]


def test_no_family_is_in_two_splits_and_the_held_out_pair_is_in_one(made):
    specs = WeightsDataset(made).specs()
    pair = set(json.loads((made / "metadata.json").read_text())["heldout_pair"])
    families: dict[str, set[str]] = {}
    for spec in specs:
        families.setdefault(spec["family"], set()).add(spec["split"])
        assert (spec["split"] == "heldout") == (pair <= set(spec["patterns"]))
    assert all(len(splits) == 1 for splits in families.values())


def test_every_attempt_has_a_row_and_the_accepted_ones_are_the_examples(made):
    attempts = pq.read_table(made / "attempts.parquet").to_pylist()
    tries: dict[int, list] = {}
    for attempt in attempts:
        tries.setdefault(attempt["example_id"], []).append(attempt)
    for spec in WeightsDataset(made).specs():
        of_slot = tries.pop(spec["example_id"])
        assert [one["attempt"] for one in of_slot] == list(range(len(of_slot)))
        assert [one["attempt"] for one in of_slot if one["accepted"]] == [spec["accepted_try"]]
        assert all(one["reason"] for one in of_slot)
    assert tries == {}


@pytest.mark.parametrize("quantization", ["int8", "int4", "ternary", "binary"])
def test_quantised_examples_are_measured_as_they_are_stored(quantization, tmp_path):
    changes = {
        "model.quantization": quantization,
        "model.precision": "bfloat16",
        "model.quantization_scale": "per-channel",
        "dataset.output_dataset_length": 2,
        "training.min_degradation_threshold": 0.0,
        "validation.max_other_degradation": 0.2,
        "signature.prompt_format.digits": "round-trip",
    }
    done = make(tmp_path, **changes)
    dataset = WeightsDataset(done.path)
    ids = [spec["example_id"] for spec in dataset.specs()]
    weights = dataset.weights(ids)
    codes = {(row["example_id"], row["model"], row["module"]): row for row in dataset.table("codes").to_pylist()}
    for (example_id, model), layers in weights.items():
        for index, layer in enumerate(layers):
            row = codes[example_id, model, f"network.{2 * index}"]
            values = np.array(row["weight_codes"]).reshape(layer.weight.shape) * np.array(row["weight_scales"])[:, None]
            assert np.allclose(values, layer.weight, rtol=2**-8)  # bfloat16 keeps eight bits
    for _, record in dataset.records("modification"):
        stored = weights[record["example_id"], "improved"]
        written = json.loads(record["completion"])
        for index, layer in enumerate(stored):
            read = torch.tensor(written[f"network.{2 * index}.weight"]).to(torch.bfloat16).float().numpy()
            assert np.array_equal(read, layer.weight), "four digits tell any two bfloat16 numbers apart"


WRONG = {
    "model.vocab_size": (4, 27),
    "model.sequence_length": (3, 21),
    "model.precision": ("float64",),
    "model.quantization": ("int2",),
    "model.activation_types": (["swish"], [], ["relu", "relu"]),
    "model.num_layers": ({"min": 3, "max": 2}, 5),
    "dataset.patterns.enabled_patterns": (["palindrom"], ["palindrome", "palindrome"], ["palindrome"], ["all_same"]),
    "dataset.patterns.starts_with_token": ("Z", "a", "AB"),
    "dataset.patterns.min_patterns_per_batch": (3,),
    "dataset.patterns.max_patterns_per_batch": (7,),
    "dataset.patterns.max_total_examples": (100,),
    "signature.dataset_path": ("nowhere.json",),
    "signature.neuron_profile_methods": (["meen"], [], {"entropy": {"bin": 3}}, "mean"),
    "signature.prompt_format.style": ("mixed",),
    "signature.prompt_format.digits": ("0", "many", "18"),
    "task_generation.include_modification": ("maybe",),
    "task_generation.max_prompt_tokens": (100,),
    "pipeline.num_workers": (2,),
    "pipeline.pin_memory": (True,),
    "pipeline.devise": ("cpu",),
    "metrics.checkpoint.save_every_epoch": (True,),
    "metrics.checkpoint.save_optimizer_state": (True,),
    "hub.token": ("hf_abcdefghijklmnop", {"a": "hf_abcdefghijklmnop"}),
    "hub.upload_only_at_end": (False,),
    "modle": ({"vocab_size": 7},),
} | {
    name: (
        low - (1 if isinstance(low, int) else 1e-9) if low else -1,
        high * 1.5 + 1 if isinstance(high, float) else high + 1,
    )
    for name, (low, high) in BOUNDS.items()
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values], ids=str
)
def test_a_bad_config_is_refused_in_two_lines_before_any_training(name, value, tmp_path, capsys, monkeypatch):
    import actlab.weights.job

    monkeypatch.setattr(actlab.weights.job, "fill", lambda *_, **__: pytest.fail("it trains"))
    config = as_yaml(tmp_path)
    content = yaml.safe_load(config.read_text())
    place = content
    *path, key = name.split(".")
    for step in path:
        place = place.setdefault(step, {})
    place[key] = value
    config.write_text(yaml.safe_dump(content))
    said = failure(["run-data-gen", "--config-path", str(config)], capsys)
    assert "hf_abc" not in said
    assert not (tmp_path / "out").exists()


def test_no_task_and_no_signature_dataset_are_refused_with_the_next_step(tmp_path, capsys):
    config = as_yaml(tmp_path)
    arguments = ["run-data-gen", "--config-path", str(config)]
    no_task = ["--set", "task_generation={include_modification: false, include_classification: false}"]
    assert "no task is chosen" in failure([*arguments, *no_task], capsys)
    said = failure([*arguments, "--set", f"signature.dataset_path={tmp_path / 'none.json'}"], capsys)
    assert "create-sig-dataset" in said
    said = failure([*arguments, "--set", "model.sequence_length=6"], capsys)
    assert "make one with this config" in said
    said = failure([*arguments, "--set", "training.epoch=6"], capsys)
    assert "did you mean 'training.epochs'" in said


def test_no_token_is_ever_shown(tmp_path, capsys):
    config = as_yaml(tmp_path)
    arguments = ["run-data-gen", "--config-path", str(config), "--set"]
    for odd in (
        "hub=hf_SECRETSECRET",
        "hub.token=[hf_SECRETSECRET",
        "hub.token:hf_SECRETSECRET",
        "hub.token={a: hf_SECRETSECRET}",
    ):
        assert "SECRET" not in failure([*arguments, odd], capsys)
    config.write_text("hub: {token: hf_SECRETSECRET")
    assert "SECRET" not in failure(arguments[:-1], capsys)


def test_odd_settings_are_read_as_meant_or_refused(tmp_path, capsys):
    config = as_yaml(tmp_path)
    arguments = ["run-data-gen", "--config-path", str(config), "--set"]
    assert "contains itself" in failure([*arguments, "model=&m {zzz: *m}"], capsys)
    assert "by --set and by its flag" in failure([*arguments, "pipeline.random_seed=4", "--seed", "3"], capsys)
    assert "nothing to show" in failure([*arguments, "metrics.tensorboard.auto_launch=true"], capsys)
    planned = _cost(config_path=config, model=ModelSettings(vocab_size=6, sequence_length=5))
    assert planned.details["n_parameters"][1] > 10_000, "the group's other settings are its defaults"
    main_arguments = [*arguments, "model.learning_rate.min=1e-3", "--dry-run"]
    with pytest.raises(SystemExit) as stopped:
        main(main_arguments)
    assert stopped.value.code == 0


def test_overwrite_replaces_sequences_and_nothing_else(tmp_path):
    config = as_yaml(tmp_path)
    before = config.read_text()
    with pytest.raises(ActlabError, match="holds no sequences"):
        actlab.create_sig_dataset(config_path=config, filename=config, overwrite=True)
    assert config.read_text() == before
    own = tmp_path / "questions.json"
    for content in ('{"examples": [{"question": "mine"}]}', '{"examples": 3}', '[{"examples": []}]', "[" * 100_000):
        own.write_text(content)
        with pytest.raises(ActlabError, match="holds no sequences"):
            actlab.create_sig_dataset(config_path=config, filename=own, overwrite=True)
        assert own.read_text() == content
    for size in (20, 30):
        made = actlab.create_sig_dataset(config_path=config, filename=tmp_path / "sig.json", size=size, overwrite=True)
        assert made.n_examples == size


def test_a_file_in_the_way_of_sequences_is_not_read_to_see_that_it_is_another(tmp_path, monkeypatch):
    config, large = as_yaml(tmp_path), tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(ActlabError, match="is there with other content"):
        actlab.create_sig_dataset(config_path=config, filename=large, size=20)


def test_a_pattern_that_is_too_small_is_left_out_or_refused_with_strict(tmp_path, capsys, caplog):
    patterns = ["all_same", "palindrome", "starts_with", "increasing_pairs", "sorted_ascending"]
    changes = {"dataset.patterns.enabled_patterns": patterns}
    config = as_yaml(tmp_path, **changes)
    planned = _cost(config_path=config)
    assert planned.details["patterns"] == ["palindrome", "sorted_ascending", "starts_with"]
    assert "all_same has 6 sequences" in caplog.text
    assert "increasing_pairs is the same set" in caplog.text
    said = failure(["run-data-gen", "--config-path", str(config), "--strict"], capsys)
    assert "too few to hold out ten" in said


def test_a_low_yield_stops_with_the_reasons_and_the_key_to_change(tmp_path):
    # hardly anything is corrupted and stage 2 learns at a ten-thousandth of the rate, so nothing is gained
    changes = {"staged_training.corruption_rate": 0.05, "staged_training.improvement_lr_factor": 1e-4}
    changes |= {
        "staged_training.improvement_epochs": 1,
        "validation.min_accuracy": 0.501,
        "validation.max_degraded_accuracy": 1.0,
        "staged_training.max_degraded_epochs": 3,
        "pipeline.checkpoint_interval": 1,
    }
    with pytest.raises(
        DataError, match=r"0 of \d+ attempts were accepted: .*target pattern gains too little: "
    ) as stopped:
        make(tmp_path, **changes)
    assert "corruption_rate" in stopped.value.hint


def test_a_rate_that_corrupts_no_row_trains_nothing_and_says_so(tmp_path, monkeypatch):
    from actlab.weights.compute import unit

    def trained(specs, *_, **__):
        assert not specs, "it trains"
        return []

    monkeypatch.setattr(unit, "train_many", trained)
    with pytest.raises(DataError, match=r"no row of the target pattern is corrupted: \d+") as stopped:
        make(tmp_path, **{"staged_training.corruption_rate": 0.001})
    assert "corruption_rate" in stopped.value.hint


CLAIMS = [
    ("staged_training", {"corruption_rate": 0.0}),
    ("validation", {"min_pattern_improvement": 0.0}),
    ("validation", {"min_accuracy": 0.5}),
    ("validation", {"pattern_specific": False}),  # with include_classification
    ("signature", {"prompt_format": {"digits": "1"}}),
]


@pytest.mark.parametrize(("group", "claim"), CLAIMS)
def test_settings_that_would_make_a_dataset_other_than_it_says_are_refused_for_new_ones_alone(group, claim):
    from actlab.ground.options import from_settings
    from actlab.weights.config.data_gen import WeightsSettings

    settings = {"task_generation": {"include_classification": True}, group: claim}
    with pytest.raises(ConfigError) as refused:
        from_settings(DataGenConfig, settings)
    assert refused.value.hint
    from_settings(WeightsSettings, settings)  # as a dataset's own config.yaml is read


def test_the_overall_gain_cannot_be_nothing_where_nothing_else_is_asked_for():
    from actlab.ground.options import from_settings

    settings = {"validation": {"pattern_specific": False}, "training": {"min_degradation_threshold": 0.0}}
    with pytest.raises(ConfigError, match="no gain at all"):
        from_settings(DataGenConfig, settings)
    assert from_settings(DataGenConfig, {"validation": {"pattern_specific": False}})


@pytest.mark.parametrize(
    ("width", "digits", "quantization", "is_refused"),
    [
        (24, "1", "none", True),
        (24, "2", "none", False),
        (1000, "2", "int8", True),
        (1000, "3", "int8", False),
        (24, "1", "ternary", False),
        (24, "1", "binary", False),
        (1000, "round-trip", "none", False),
    ],
)
def test_decimals_are_too_few_where_rounding_moves_weights_by_a_tenth(width, digits, quantization, is_refused):
    from actlab.ground.options import from_settings

    rng = np.random.default_rng(0)
    weights = rng.uniform(-1, 1, 100_000) / np.sqrt(width)  # as nn.Linear draws them
    if quantization in ("ternary", "binary"):
        weights = np.sign(weights)
    if digits != "round-trip":
        errors = np.array([float(f"{weight:.{digits}f}") for weight in weights]) - weights
        assert (errors.std() > 0.1 * weights.std()) == is_refused
    settings = {
        "model": {"neurons_per_layer": {"min": 8, "max": width}, "quantization": quantization},
        "signature": {"prompt_format": {"digits": digits}},
    }
    if not is_refused:
        assert from_settings(DataGenConfig, settings)
        return
    with pytest.raises(ConfigError, match="too few") as refused:
        from_settings(DataGenConfig, settings)
    assert f"use {int(digits) + 1} or more" in refused.value.hint


def test_too_few_digits_stop_a_run_with_the_key_to_change():
    from actlab.weights.compute.unit import refuse_low_yield

    refuse_low_yield(Counter({judge.ROUNDED: 12, judge.ACCEPTED: 13, judge.OTHERS: 90}))
    with pytest.raises(DataError, match="only 11 of 113") as stopped:
        refuse_low_yield(Counter({judge.ROUNDED: 12, judge.ACCEPTED: 11, judge.OTHERS: 90}))
    assert "signature.prompt_format.digits" in stopped.value.hint


def judged_by_hand(folder, improved, **changes):
    """Judge a network of one relu layer that was not trained, for letters 0 to 5 and starts_with alone."""
    from actlab.ground.options import from_settings
    from actlab.weights.networks import Layer
    from actlab.weights.sampler import Sampler
    from actlab.weights.training.spec import Trained

    changes |= {"dataset.patterns.min_patterns_per_batch": 1, "dataset.patterns.max_patterns_per_batch": 1}
    changes |= {"model.num_layers": {"min": 1, "max": 1}, "model.neurons_per_layer": {"min": 2, "max": 2}}
    changes |= {"model.activation_types": ["relu"]}
    source = Sampler(from_settings(DataGenConfig, settings(folder, **changes)))
    attempts = (source.attempt(0, number) for number in range(100))
    attempt = next(attempt for attempt in attempts if attempt.names == ("starts_with",))

    def network(first, last, second, scale=1.0):
        """Answer yes where a letter at one of these places is an A: each adds relu(1 - letter)."""
        weight = np.zeros((2, 5), dtype=np.float32)
        weight[0, 0], weight[1, 4], weight[1, 1] = -first, -last, -second
        hidden = Layer(scale * weight, np.float32([scale * first, scale * (last or second)]))
        return hidden, Layer(np.float32([[1, 1]]), np.float32([-0.5 * scale]))

    degraded = network(0, 0, 1)  # knows the second letter alone
    reason, _, _, pair = judge.judge(source, attempt, Trained(degraded, network(**improved), ()))
    return reason, pair


def test_a_network_that_knows_another_pattern_too_is_rejected(tmp_path):
    reason, pair = judged_by_hand(tmp_path, {"first": 1, "last": 0, "second": 0})
    assert (reason, pair.after.by_pattern.tolist()) == (judge.ACCEPTED, [1.0])
    known = dict(zip(pair.unlisted.names, pair.unlisted.accuracies_k, strict=True))
    assert set(known) == {"palindrome", "sorted_ascending", "ends_with", "no_repeats", "first_last_match"}
    # none of their rows begins with A, so it says no to all of them, and to the others: 0 and 1
    assert set(known.values()) == {0.5}
    reason, pair = judged_by_hand(tmp_path, {"first": 1, "last": 1, "second": 0})
    known = dict(zip(pair.unlisted.names, pair.unlisted.accuracies_k, strict=True))
    assert (reason, known["ends_with"]) == (judge.UNLISTED, 1.0)
    assert pair.unlisted.highest == 1.0
    assert not (pair.unlisted.rows.tokens[:, 0] == 0).any()


def test_a_network_that_its_prompt_does_not_show_is_rejected(tmp_path):
    # a thousandth of the weights answers the same, and is written as 0.001, but as 0 with two decimals
    small = {"first": 1, "last": 0, "second": 0, "scale": 0.001}
    assert judged_by_hand(tmp_path, small)[0] == judge.ACCEPTED
    reason, pair = judged_by_hand(tmp_path, small, **{"signature.prompt_format": {"digits": "2"}})
    assert (reason, pair.after.by_pattern.tolist()) == (judge.ROUNDED, [1.0])


def test_a_question_with_two_names_for_one_pattern_is_refused(tmp_path):
    names = ["palindrome", "sorted_ascending", "increasing_pairs", "starts_with"]
    changes = {"dataset.patterns.enabled_patterns": names, "dataset.patterns.allow_equivalent": True}
    with pytest.raises(ConfigError, match="increasing_pairs and sorted_ascending are the same sequences"):
        _cost(**settings(tmp_path, **changes))
    changes["task_generation.include_classification"] = False
    assert _cost(**settings(tmp_path, **changes)).details["patterns"] == [names[i] for i in (0, 1, 3, 2)]


def test_signature_sequences_of_other_letters_are_refused_and_unused_ones_told(tmp_path, caplog):
    chosen = settings(tmp_path)
    path = Path(chosen["signature"]["dataset_path"])
    whole = json.loads(path.read_text())
    small = copy.deepcopy(whole)
    small["metadata"]["vocab"] = list("ABCDE")
    large = copy.deepcopy(whole)
    large["metadata"]["vocab"] = list("ABCDEFG")
    few = copy.deepcopy(whole)  # from nobody who says for which letters
    del few["metadata"]
    assert _cost(**_with(path, few, chosen)).n_records == 6
    assert "never uses" not in caplog.text
    for row in few["examples"]:  # as a file whose every sequence is of one letter
        row["sequence"] = ["A"] * len(row["sequence"])
    assert _cost(**_with(path, few, chosen)).n_records == 6
    assert "never uses B, C, D, E, F" in caplog.text
    for wrong, says in ((small, "has no F"), (large, "also has G")):
        with pytest.raises(DataError, match=f"other letters than A to F: it {says}") as refused:
            _cost(**_with(path, wrong, chosen))
        assert "vocab_size" in refused.value.hint


def _cost(**chosen):
    return cost(actlab.run_data_gen, **chosen)[0]


def _with(path, content, chosen):
    path.write_text(json.dumps(content))
    return chosen


def test_signature_sequences_that_these_settings_call_otherwise_are_told(tmp_path, caplog):
    chosen = settings(tmp_path)
    _cost(**chosen)
    assert "calls" not in caplog.text
    chosen["dataset"]["patterns"]["starts_with_token"] = "B"
    _cost(**chosen)
    n = sum(row["pattern"] == "starts_with" for row in json.loads((tmp_path / "sig.json").read_text())["examples"])
    assert f"{n} of {n} sequences that it calls starts_with are not, with these settings" in caplog.text


def test_a_slot_that_is_given_up_is_dropped_and_counted(tmp_path):
    done = make(tmp_path, **{"pipeline.max_tries": 1, "dataset.output_dataset_length": 12})
    assert 0 < done.n_examples < 12
    assert done.n_dropped == 12 - done.n_examples
    dropped = [json.loads(line) for line in (done.path / "dropped.jsonl").read_text().splitlines()]
    ids = {spec["example_id"] for spec in WeightsDataset(done.path).specs()}
    assert {one["example_id"] for one in dropped} == set(range(12)) - ids


def test_a_prompt_over_the_limit_is_rejected_and_never_cut(tmp_path, llama):
    done = make(tmp_path, **{"task_generation.tokenizer": str(llama), "dataset.output_dataset_length": 3})
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama)
    lengths = []
    for _, record in WeightsDataset(done.path).records("modification"):
        assert record["prompt_tokens"] == len(tokenizer(record["prompt"], add_special_tokens=False)["input_ids"])
        lengths.append(record["prompt_tokens"])
    most = sorted(lengths)[-1] - 1
    other = tmp_path / "other"
    other.mkdir()
    done = make(
        other,
        **{
            "task_generation.tokenizer": str(llama),
            "task_generation.max_prompt_tokens": most,
            "task_generation.include_classification": False,
            "dataset.output_dataset_length": 3,
        },
    )
    rejected = json.loads((done.path / "metadata.json").read_text())["rejected"]
    assert rejected["prompt is too long"] > 0
    assert all(record["prompt_tokens"] <= most for _, record in WeightsDataset(done.path).records("modification"))


def test_the_dataset_is_pushed_after_the_seal_and_never_before(tmp_path, monkeypatch):
    from actlab.ground.errors import StorageError
    from actlab.hub import push as pushing
    from actlab.weights import job

    sent = []

    def push(folder, repo_id, *, private, overwrite, quiet):
        sent.append((repo_id, private, (folder / "metadata.json").is_file()))
        return pushing.Pushed(repo_id, "https://hub/datasets/me/w", private, "head", 1, 1, 0, 0)

    def nobody(repo_id, *, private, overwrite):
        raise StorageError("nobody is logged in", hint="hf auth login")

    monkeypatch.setattr(job, "push_dataset", push)
    monkeypatch.setattr(job, "refuse_push", nobody)
    changes = {"hub": {"dataset_name": "me/w"}, "dataset.output_dataset_length": 3}
    with pytest.raises(StorageError, match="logged in"):
        make(tmp_path, **changes)
    assert not (tmp_path / "out.partial").exists()
    monkeypatch.setattr(job, "refuse_push", lambda repo_id, *, private, overwrite: None)
    assert make(tmp_path, **changes).url == "https://hub/datasets/me/w"
    assert sent == [("me/w", True, True)]


def test_tensorboard_shows_the_run_and_its_examples(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from actlab.weights import follow

    commands = []

    class Server:
        def __init__(self, command, **_):
            commands.append(command)

        def poll(self):
            return None

        def kill(self):
            commands.append("killed")

        def wait(self):
            pass

    monkeypatch.setattr(follow.subprocess, "Popen", Server)
    make(tmp_path, metrics={"tensorboard": {"per_example": True, "auto_launch": True}})
    events = EventAccumulator(str(tmp_path / "out.tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"run/yield", "run/accepted", "run/examples_per_s", "accepted/improved_accuracy"} <= tags
    assert "example_000000/validation_loss" in tags
    assert events.Scalars("run/accepted")[-1].value == 6
    command, killed = commands
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert killed == "killed"


def test_where_and_how_a_run_works_is_no_part_of_what_it_makes():
    execution = {option.name for option in options_of(DataGenConfig) if option.is_execution}
    assert {"pipeline.output_dir", "pipeline.max_threads", "pipeline.device", "signature.dataset_path"} <= execution
    assert not any(name.startswith(("metrics.", "hub.")) for name in identity_of(DataGenConfig()))
    assert "pipeline.checkpoint_interval" not in execution


def test_an_old_dataset_is_refused_unless_it_is_to_be_replaced(made, tmp_path):
    make(tmp_path, **{"dataset.output_dataset_length": 3})
    with pytest.raises(ActlabError, match=r"dataset\.output_dataset_length is 3 there and 6 here"):
        make(tmp_path)
    assert hashes(make(tmp_path, overwrite=True).path) == hashes(made)


def test_signature_and_benchmark_datasets_are_balanced_distinct_and_true(tmp_path):
    from tests.test_patterns import IN_WORDS

    chosen = settings(tmp_path)
    names = chosen["dataset"]["patterns"]["enabled_patterns"]
    sig = json.loads(Path(chosen["signature"]["dataset_path"]).read_text())
    rows = sig["examples"]
    assert len(rows) == sig["num_examples"] == 40
    assert len({tuple(row["sequence"]) for row in rows}) == 40
    counts = dict(sig["pattern_coverage"])
    assert counts.pop("none") == 20
    assert max(counts.values()) - min(counts.values()) <= 1
    for row in rows:
        word = "".join(row["sequence"])
        if row["label"]:
            assert IN_WORDS[row["pattern"]](word)
        else:
            assert not any(IN_WORDS[name](word) for name in names)
    made = actlab.create_benchmark_dataset(**chosen, filename=tmp_path / "bench.json", samples_per_pattern=9)
    bench = json.loads(made.path.read_text())
    assert bench["total_examples"] == 9 * len(bench["patterns"]) == len(bench["examples"])
    for row in bench["examples"]:
        assert IN_WORDS[row["pattern"]]("".join(row["sequence"]))
        assert bench["patterns"][row["pattern_id"]] == row["pattern"]
    with pytest.raises(ActlabError, match="other content"):
        actlab.create_benchmark_dataset(**chosen, filename=tmp_path / "bench.json", samples_per_pattern=8)


@pytest.mark.parametrize("name", ["run_data_gen", "run_data_gen_quick", "run_data_gen_reference"])
def test_the_configs_that_ship_are_good(name):
    from actlab.ground.options import from_settings, read_yaml

    config = from_settings(DataGenConfig, read_yaml(ROOT / "configs" / f"{name}.yaml"))
    if name == "run_data_gen_reference":
        assert (config.staged_training.corruption_rate, config.validation.test_set_size) == (0.3, 100)
        assert (config.dataset.output_dataset_length, config.pipeline.max_threads) == (1000, 4)


def test_a_wrong_setting_of_a_group_is_told_by_its_whole_name():
    from actlab.ground.options import from_settings

    with pytest.raises(ConfigError, match=r"model\.num_layers is a group of settings"):
        from_settings(DataGenConfig, {"model": {"num_layers": 5}})
    with pytest.raises(ConfigError, match="set twice"):
        from_settings(DataGenConfig, {"workers": 2, "pipeline": {"max_threads": 3}})


def test_inputs_that_change_during_a_run_stop_it(tmp_path, monkeypatch):
    from actlab.weights import job

    whole = job.fill

    def meddled(source, slots, **rest):
        sig = json.loads((tmp_path / "sig.json").read_text())
        sig["examples"] = sig["examples"][:20]
        (tmp_path / "sig.json").write_text(json.dumps(sig))
        return whole(source, slots, **rest)

    monkeypatch.setattr(job, "fill", meddled)
    with pytest.raises(ActlabError, match="was changed while the run was at work"):
        make(tmp_path)


def test_curves_never_lie_in_a_dataset(made, tmp_path):
    for place in (tmp_path / "out", tmp_path / "out" / "x", tmp_path / "out.partial", made / "tb"):
        with pytest.raises(ActlabError, match=r"dataset"):
            make(tmp_path, metrics={"dir": str(place)})


def test_a_worker_ends_when_the_process_that_it_works_for_is_gone():
    from actlab.ground.execute import _end_with

    worker = new_processes().Process(target=_end_with, args=(os.getpid() + 1,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 1


def accuracies(*yes: float, no: float = 0.9, share: float = 0.5) -> judge.Accuracies:
    return judge.Accuracies(np.array(yes), no, sum(yes) / len(yes), share)


@pytest.mark.parametrize(
    ("reason", "before", "after"),
    [
        # balanced accuracies are (yes + no) / 2 with no = 0.9: 0.5 becomes 0.7, 0.9 becomes 0.9
        (judge.ACCEPTED, accuracies(0.5, 0.8), accuracies(0.71, 0.8)),
        (judge.UNTRAINED, accuracies(0.5, 0.8, share=0.96), accuracies(0.7, 0.8)),
        (judge.UNTRAINED, accuracies(0.5, 0.8, share=0.04), accuracies(0.7, 0.8)),
        (judge.DEAD, accuracies(0.5, 0.8), accuracies(0.7, 0.8, share=0.96)),
        (judge.NEAR_CHANCE, accuracies(0.5, 0.2), accuracies(0.7, 0.8)),
        (judge.NOT_DEGRADED, accuracies(0.6, 0.8), accuracies(0.9, 0.8)),
        (judge.NOT_REPAIRED, accuracies(0.0, 0.8), accuracies(0.2, 0.8)),
        (judge.NOT_LEARNT, accuracies(0.5, 0.2, 0.8, 0.8), accuracies(0.95, 0.2, 0.8, 0.8)),
        (judge.TARGET, accuracies(0.5, 0.5), accuracies(0.58, 0.9)),
        (judge.OTHERS, accuracies(0.5, 0.8), accuracies(0.9, 0.75)),
        (judge.TOO_LITTLE, accuracies(0.5, 0.8), accuracies(0.62, 0.78)),
    ],
)
def test_each_criterion_is_judged_as_it_is_written(reason, before, after):
    from actlab.ground.options import from_settings

    config = from_settings(DataGenConfig, {})
    assert judge.verdict(before, after, 0, config) == reason
    if reason in (judge.NOT_DEGRADED, judge.NOT_LEARNT):  # new since the first version, whose datasets are scored by it
        assert judge.verdict(before, after, 0, config, acceptance=1) == judge.ACCEPTED


@pytest.mark.slow
def test_the_quick_config_makes_a_hundred_examples_that_hold_on_fresh_rows(tmp_path):
    config = ROOT / "configs" / "run_data_gen_quick.yaml"
    changes = {"signature.dataset_path": str(tmp_path / "sig.json"), "pipeline.output_dir": str(tmp_path / "quick")}
    actlab.create_sig_dataset(config_path=config, filename=tmp_path / "sig.json", size=200)
    assert actlab.run_data_gen(config_path=config, **changes).n_examples == 100
    script = ROOT / "scripts" / "check_weights_dataset.py"
    done = subprocess.run([sys.executable, script, tmp_path / "quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_killed_twenty_times_it_gives_the_same_bytes(made, tmp_path):
    config = as_yaml(tmp_path, **{"pipeline.checkpoint_interval": 3})
    command = [Path(sys.executable).with_name("actlab"), "run-data-gen", "--config-path", config, "--quiet"]
    command += ["--workers", "4"]

    def compare() -> None:
        assert hashes(tmp_path / "out") == hashes(made)
        shutil.rmtree(tmp_path / "out")

    kill_often(command, (1.5, 6), compare)
    for part in ("3/3", "1/3", "2/3"):
        subprocess.run([*command, "--part", part], check=True)
    assert hashes(tmp_path / "out") == hashes(made)


@pytest.mark.slow
def test_long_sequences_of_many_letters_take_little_memory(tmp_path):
    import psutil

    changes = {
        "model.vocab_size": 26,
        "model.sequence_length": 20,
        "dataset.output_dataset_length": 50,
        "pipeline.checkpoint_interval": 50,
        "validation.max_other_degradation": 0.05,
    }
    config = as_yaml(tmp_path, **changes)
    command = [Path(sys.executable).with_name("actlab"), "run-data-gen", "--config-path", config, "--quiet"]
    run = subprocess.Popen(command)
    process, peak = psutil.Process(run.pid), 0
    while run.poll() is None:
        peak = max(peak, getattr(process.memory_info(), "rss", 0))
        time.sleep(0.02)
    assert run.returncode == 0
    assert peak < 1e9


@pytest.mark.slow
def test_a_tiny_model_trains_on_prompts_and_completions(made, tmp_path, llama):
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = datasets.load_dataset(str(made), "classification", split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer, model = AutoTokenizer.from_pretrained(llama), AutoModelForCausalLM.from_pretrained(llama)
    limit = model.config.max_position_embeddings
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        prompt, completion = rows[0]["prompt"], rows[0]["completion"]
        answer = tokenizer(completion, add_special_tokens=False)["input_ids"]
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"][-(limit - len(answer)) :]
        ids = torch.tensor([asked + answer])
        labels = ids.clone()
        labels[:, : len(asked)] = -100
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
