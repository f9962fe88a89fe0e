"""Scoring predictions, making examples again, verifying: against counts by hand, scikit-learn, and tampering."""

import hashlib
import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from actlab.cli.main import main
from actlab.datasets import show_dataset, verify_dataset
from actlab.formats.weights import WeightsDataset, letters_of, tokens_of
from actlab.ground.errors import ActlabError, ConfigError, DataError, StorageError
from actlab.ground.manifest import fingerprint
from actlab.weights.compute.recorded import architecture_of
from actlab.weights.networks import Layer
from actlab.weights.number_format import ROUND_TRIP_FLOAT32
from actlab.weights.patterns.registry import PATTERNS
from actlab.weights.patterns.space import Space
from actlab.weights.prompts import weights_json
from actlab.weights.reproduce import reproduce
from actlab.weights.score.report import RepairFigures, name_figures
from actlab.weights.score.rows import Benchmark
from actlab.weights.score.run import score_interpreter
from actlab.weights.sequence_sets import create_benchmark_dataset
from tests.damage import refused_flips
from tests.tiny_weights import make

N = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    done = make(
        tmp_path_factory.mktemp("weights"),
        **{
            "dataset.output_dataset_length": N,
            "dataset.patterns.target_total_examples": 160,
            "training.batch_size": 64,
            "validation.min_pattern_improvement": 0.02,
            "validation.max_other_degradation": 0.2,
            "dataset.splits": {"validation": 0.1, "test": 0.1},
            "model.neurons_per_layer": {"min": 8, "max": 8},
            "model.quantization": "int8",
            "pipeline.checkpoint_interval": 4,
            "pipeline.random_seed": 2,
            "signature.prompt_format": {"digits": "round-trip"},
        },
    )
    assert (done.n_examples, done.is_sealed) == (N, True)
    assert max(spec["n_parameters"] for spec in WeightsDataset(done.path).specs()) <= 160, "not a tiny dataset"
    return done.path


@pytest.fixture
def copied(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "copied")


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def write(rows: list) -> Path:
        path = tmp_path / "predictions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def predictions(folder: Path, task: str, column: str = "completion") -> list[dict]:
    """Return a column of a task's table as predictions, in the examples' order."""
    rows = [row for file in folder.glob(f"{task}/*.parquet") for row in pq.read_table(file).to_pylist()]
    rows.sort(key=lambda row: row["example_id"])
    return [{"example_id": row["example_id"], "task": task, "completion": row[column]} for row in rows]


def all_but_one(folder: Path, task: str) -> list[dict]:
    """Return the references but one, whose split has others: a split without predictions is left out."""
    splits = [spec["split"] for spec in WeightsDataset(folder).specs()]
    rows = predictions(folder, task)
    del rows[max(place for place, split in enumerate(splits) if splits.count(split) > 1)]
    return rows


def figures(report, task: str = "modification", split: str = "overall") -> dict:
    return {one.who: one for one in report.tasks[task].figures if one.split == split}


def test_the_references_score_all_there_is(made, write):
    rows = predictions(made, "modification") + predictions(made, "classification")
    report = score_interpreter(dir=made, predictions=write(rows))
    for who in ("predictions", "strict"):
        found = figures(report)[who]
        assert (found.n, found.exact_text, found.exact_weights, found.accepted, found.distance) == (N, 1, 1, 1, 0)
        assert (found.recovered, found.recovered_median, found.n_recovered) == (1, 1, N)
        named = figures(report, "classification")[who]
        assert (named.n, named.exact, named.micro_f1, named.macro_f1, named.jaccard) == (N, 1, 1, 1, 1)
    stored = pq.read_table(made / "attempts.parquet").to_pylist()
    gains = [row["target_gain"] for row in stored if row["accepted"]]
    worst = min(row["worst_other_change"] for row in stored if row["accepted"])
    assert figures(report)["predictions"].gain == pytest.approx(np.mean(gains))
    assert figures(report)["predictions"].worst_other == pytest.approx(worst)


def test_unchanged_weights_gain_nothing_as_a_prediction_and_as_a_baseline(made, write):
    rows = predictions(made, "modification", "degraded_model_weights")
    found = figures(score_interpreter(dir=made, predictions=write(rows)))
    for who in ("predictions", "strict", "unchanged weights"):
        one = found[who]
        assert (one.n, one.gain, one.recovered, one.worst_other, one.accepted, one.distance) == (N, 0, 0, 0, 0, 1)
        assert (one.exact_text, one.exact_weights) == (0, 0)


def test_what_does_not_parse_or_is_missing_is_counted_by_reason_and_strictly_counts_as_unchanged(made, write):
    rows = all_but_one(made, "modification")
    short = json.loads(rows[3]["completion"])
    short["network.0.bias"] = short["network.0.bias"][1:]
    rows[0]["completion"], rows[1]["completion"], rows[2]["completion"] = "I cannot", "[1]", '{"network.1.weight":[]}'
    rows[3]["completion"] = json.dumps(short)
    rows[4]["completion"] = rows[4]["completion"].replace(":[[", ":[[NaN,", 1)
    rows[5]["completion"] = f"\n```json\n{rows[5]['completion']}\n```\n"
    report = score_interpreter(dir=made, predictions=write(rows)).tasks["modification"]
    assert report.failures == {"not JSON": 2, "unknown tensor": 1, "wrong shape": 2}
    overall = report.coverage[-1]
    assert (overall.n_examples, overall.n_predictions, overall.n_parsed) == (N, N - 1, N - 6)
    found = {one.who: one for one in report.figures if one.split == "overall"}
    assert (found["predictions"].n, found["strict"].n) == (N - 6, N)
    assert found["predictions"].exact_weights == 1
    assert found["predictions"].exact_text == pytest.approx((N - 7) / (N - 6))  # the fence
    assert found["strict"].recovered == pytest.approx((N - 6) / N)
    assert found["strict"].distance == pytest.approx(6 / N)


def test_names_that_do_not_parse_are_counted_by_reason_and_strictly_count_as_no_pattern(made, write):
    rows = all_but_one(made, "classification")
    rows[0]["completion"], rows[1]["completion"] = "none of them", f"{rows[1]['completion']}, zigzag"
    report = score_interpreter(dir=made, predictions=write(rows))
    assert report.tasks["classification"].failures == {"no known pattern": 1, "unknown pattern": 1}
    found = figures(report, "classification")
    assert (found["predictions"].n, found["predictions"].exact) == (N - 3, 1)
    assert (found["strict"].n, found["strict"].exact) == (N, pytest.approx((N - 3) / N))


def starts_with_a(spec: dict, rows: list[dict]) -> tuple[str, dict[str, float]]:
    """Return a network that says yes to what starts with A, and its balanced accuracies, counted in plain Python."""
    architecture = architecture_of(spec)
    layers = [Layer(np.zeros((o, i), dtype=np.float32), np.zeros(o, dtype=np.float32)) for o, i in architecture.sizes]
    for layer in layers[:-1]:
        layer.weight[0, 0] = 1  # the first letter's number goes through
    layers[-1].weight[0, 0], layers[-1].bias[0] = -1, 0.25
    test = [row for row in rows if row["example_id"] == spec["example_id"] and row["part"] == "test"]
    negatives = [row for row in test if not row["label"]]
    right_no = sum(row["sequence"][0] != "A" for row in negatives) / len(negatives)
    accuracies = {}
    for name in spec["patterns"]:
        own = [row for row in test if row["pattern"] == name]
        accuracies[name] = (sum(row["sequence"][0] == "A" for row in own) / len(own) + right_no) / 2
    return weights_json(architecture, tuple(layers), ROUND_TRIP_FLOAT32), accuracies


def test_a_network_made_by_hand_scores_what_counting_gives(made, write, tmp_path):
    dataset = WeightsDataset(made)
    specs, rows = dataset.specs(), dataset.table("rows").to_pylist()
    degraded = {
        (row["example_id"], row["pattern"]): row["accuracy"]
        for row in dataset.table("metrics").to_pylist()
        if row["model"] == "degraded"
    }
    expected, lines = {}, []
    for spec in specs:
        completion, accuracies = starts_with_a(spec, rows)
        lines.append({"example_id": spec["example_id"], "task": "modification", "completion": completion})
        change = {name: accuracies[name] - degraded[spec["example_id"], name] for name in spec["patterns"]}
        gain = change.pop(spec["target_pattern"])
        expected[spec["example_id"]] = (gain, min(change.values()))
    score_interpreter(dir=made, predictions=write(lines), output=tmp_path / "rows.jsonl")
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["example_id"]: (row["gain"], row["worst_other"]) for row in found} == {
        example_id: pytest.approx(values) for example_id, values in expected.items()
    }


def test_mean_weights_are_those_of_the_other_train_networks_of_the_shape(made, write):
    specs = WeightsDataset(made).specs()
    table = pq.read_table(made / "store" / "weights-00000.parquet").to_pylist()
    table += pq.read_table(made / "store" / "weights-00001.parquet").to_pylist()
    improved = {
        (row["example_id"], row["module"], part): np.array(row[part])
        for row in table
        if row["model"] == "improved"
        for part in ("weight", "bias")
    }
    shape = ("num_layers", "neurons_per_layer", "activation_type")
    lines, n_others = [], set()
    for spec in specs:
        others = [
            other["example_id"]
            for other in specs
            if other["split"] == "train"
            and other["example_id"] != spec["example_id"]
            and all(other[column] == spec[column] for column in shape)
        ]
        if others:
            n_others.add(len(others))
            names = [(module, part) for owner, module, part in improved if owner == spec["example_id"]]
            arrays = {name: np.mean([improved[other, *name] for other in others], axis=0) for name in names}
            n_inputs = {row["module"]: row["n_inputs"] for row in table if row["example_id"] == spec["example_id"]}
            completion = {
                f"{module}.{part}": (values.reshape(-1, n_inputs[module]) if part == "weight" else values).tolist()
                for (module, part), values in arrays.items()
            }
            lines.append(
                {"example_id": spec["example_id"], "task": "modification", "completion": json.dumps(completion)}
            )
    assert len(lines) > 2, "no shape comes twice in train"
    assert max(n_others) > 1, "a mean of one is no mean"
    found = figures(score_interpreter(dir=made, predictions=write(lines)))
    by_hand, mean = found["predictions"], found["mean weights"]
    assert (mean.n, mean.gain) == (len(lines), pytest.approx(by_hand.gain))
    assert mean.distance == pytest.approx(by_hand.distance)
    assert mean.worst_other == pytest.approx(by_hand.worst_other)


def test_the_baselines_do_not_hang_on_the_predictions(made, write):
    rows = predictions(made, "modification") + predictions(made, "classification")
    garbage = [row | {"completion": "?"} for row in rows]
    one, other = (score_interpreter(dir=made, predictions=write(lines)) for lines in (rows, garbage))
    for task, names in {
        "modification": ("unchanged weights", "mean weights", "improved weights"),
        "classification": ("majority set", "majority by pattern"),
    }.items():
        assert all(figures(one, task)[name] == figures(other, task)[name] for name in names)


def test_a_split_without_predictions_is_left_out(made, write):
    specs = WeightsDataset(made).specs()
    train = {spec["example_id"] for spec in specs if spec["split"] == "train"}
    assert 0 < len(train) < N
    rows = [row for row in predictions(made, "modification") if row["example_id"] not in train]
    report = score_interpreter(dir=made, predictions=write(rows)).tasks["modification"]
    assert "train" not in {one.split for one in report.coverage}
    assert report.coverage[-1].n_examples == N - len(train)
    assert all(isinstance(one, RepairFigures) and one.split != "train" for one in report.figures)


def test_the_majority_is_counted_in_train(made, write):
    specs = WeightsDataset(made).specs()
    train = [set(spec["patterns"]) for spec in specs if spec["split"] == "train"]
    usual = max(train, key=train.count)  # the first of equals
    report = score_interpreter(dir=made, predictions=write(predictions(made, "classification")))
    shares = [set(spec["patterns"]) == usual for spec in specs]
    assert figures(report, "classification")["majority set"].exact == pytest.approx(np.mean(shares))


def some_sets(n: int, k: int):
    return hnp.arrays(bool, (n, k))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6).flatmap(lambda n: st.tuples(some_sets(n, 4), some_sets(n, 4))))
def test_figures_of_names_are_scikit_learns(drawn):
    true_nk, said_nk = drawn
    true_nk[:, 0] |= ~true_nk.any(axis=1)  # every network has a pattern
    found = name_figures("overall", "predictions", true_nk, said_nk, ["a", "b", "c", "d"])
    assert found.macro_f1 == pytest.approx(f1_score(true_nk, said_nk, average="macro", zero_division=np.nan))
    assert found.micro_f1 == pytest.approx(f1_score(true_nk, said_nk, average="micro"))
    assert found.jaccard == pytest.approx(jaccard_score(true_nk, said_nk, average="samples"))
    for name, share in (("precision", precision_score), ("recall", recall_score)):
        ours = [np.nan if one[name] is None else one[name] for one in found.by_pattern.values()]
        assert ours == pytest.approx(share(true_nk, said_nk, average=None, zero_division=np.nan), nan_ok=True)


BAD_LINES = {
    "{": "is not JSON",
    "\udcff": "is not JSON",
    "[" * 100_000: "is not JSON",
    "[0]": "is no object",
    '{"completion": "x", "task": "modification"}': "example_id is None",
    '{"example_id": true, "completion": "x", "task": "modification"}': "example_id is True",
    '{"example_id": 0, "completion": ["x"], "task": "modification"}': "completion is",
    '{"example_id": 0, "completion": "x"}': "task is None, the dataset has modification and classification",
    '{"example_id": 0, "completion": "x", "task": ["modification"]}': "task is",
    '{"example_id": 8, "completion": "x", "task": "modification"}': "no example 8",
    '{"example_id": 1, "completion": "x", "task": "modification"}': "predicted in line 1 already",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=BAD_LINES.values())
def test_a_bad_line_is_refused_by_its_number_in_two_lines(made, tmp_path, capsys, line):
    path = tmp_path / "predictions.jsonl"
    first = json.dumps({"example_id": 1, "completion": "x", "task": "modification"})
    path.write_text(f"{first}\n\n{line}\n", errors="surrogateescape")
    with pytest.raises(SystemExit) as stopped:
        main(["score-interpreter", str(made), str(path)])
    error, hint = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1
    assert f"{path}, line 3" in error
    assert BAD_LINES[line] in error
    assert hint.startswith("Hint: ")


def test_a_file_without_predictions_is_refused(made, write, tmp_path):
    with pytest.raises(DataError, match="has no predictions"):
        score_interpreter(dir=made, predictions=write([]))
    with pytest.raises(DataError, match="cannot read"):
        score_interpreter(dir=made, predictions=tmp_path / "no.jsonl")


def test_the_output_replaces_nothing_unasked_and_goes_into_no_dataset(made, write, tmp_path):
    path, output = write(predictions(made, "classification")), tmp_path / "rows.jsonl"
    output.write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        score_interpreter(dir=made, predictions=path, output=output)
    with pytest.raises(StorageError, match="inside the dataset"):
        score_interpreter(dir=made, predictions=path, output=made / "rows.jsonl")
    with pytest.raises(ConfigError, match="the file of the predictions"):
        score_interpreter(dir=made, predictions=path, output=path, overwrite=True)
    with pytest.raises(StorageError, match="holds no scores"):
        score_interpreter(dir=made, predictions=path, output=output, overwrite=True)
    assert output.read_text() == "mine"
    output.unlink()
    for overwrite in (False, True):
        score_interpreter(dir=made, predictions=path, output=output, overwrite=overwrite)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["example_id"], row["exact"], row["jaccard"]) for row in rows] == [(k, True, 1.0) for k in range(N)]


def write_benchmark(path: Path, drawn: list[tuple[str, str]]) -> Path:
    path.write_text(json.dumps({"examples": [{"sequence": list(text), "pattern": name} for text, name in drawn]}))
    return path


def test_a_benchmark_labels_rows_by_the_examples_own_patterns(made, tmp_path):
    drawn = [("ABCBA", "palindrome"), ("AAABC", "sorted_ascending"), ("CBADB", "no_repeats"), ("BCDEA", "palindrome")]
    path = write_benchmark(tmp_path / "benchmark.json", drawn)
    benchmark = Benchmark(path, Space(6, 5), WeightsDataset(made))
    rows = benchmark.rows(["palindrome", "starts_with"])  # AAABC is a yes, and was drawn for neither
    assert rows.labels.tolist() == [True, True, False, False]
    assert rows.patterns.tolist() == [0, -1, -1, 0]
    assert benchmark({N: ["palindrome", "starts_with"], N + 1: ["palindrome"]}).keys() == {N + 1}
    lacking, few_negatives, few = benchmark.notes  # of N and N + 1 no rows are stored that could be left out
    assert "1 examples are not measured: the benchmark has no sequence for starts_with" in lacking
    assert "fewer than 30 negatives" in few_negatives
    assert "palindrome (2)" in few


def trained_on(made: Path) -> dict[int, set[str]]:
    """Return each example's train and validation sequences."""
    seen: dict[int, set[str]] = {}
    for row in WeightsDataset(made).table("rows").to_pylist():
        if row["part"] != "test":
            seen.setdefault(row["example_id"], set()).add(row["sequence"])
    return seen


@pytest.fixture(scope="module")
def benchmark_file(made, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    create_benchmark_dataset(**WeightsDataset(made).settings(), filename=path, samples_per_pattern=35)
    return path


def test_no_network_is_measured_on_benchmark_rows_that_it_was_trained_or_validated_on(made, write, benchmark_file):
    sequences = ["".join(row["sequence"]) for row in json.loads(benchmark_file.read_text())["examples"]]
    left = {
        example_id: [text for text in sequences if text not in seen] for example_id, seen in trained_on(made).items()
    }
    n_out = [len(sequences) - len(texts) for texts in left.values()]
    assert len(set(n_out)) > 1, "the examples would not be told apart"
    dataset = WeightsDataset(made)
    benchmark = Benchmark(benchmark_file, Space(6, 5), dataset)
    rows = benchmark({spec["example_id"]: spec["patterns"] for spec in dataset.specs()})
    assert {example_id: letters_of(one.tokens) for example_id, one in rows.items()} == left
    for spec in dataset.specs():
        for place, name in enumerate(spec["patterns"]):
            own = rows[spec["example_id"]].tokens[rows[spec["example_id"]].patterns == place]
            assert PATTERNS[name].holds(own, Space(6, 5)).all(), "tokens and patterns are no longer of the same row"

    report = score_interpreter(dir=made, predictions=write(predictions(made, "modification")), benchmark=benchmark_file)
    notes = " ".join(report.tasks["modification"].notes)
    assert f"{np.mean(n_out):.1f} of {len(sequences)} sequences on average, {max(n_out)} at most" in notes


def test_a_benchmark_without_a_row_of_an_examples_own_says_nothing_of_leaving_out(made, tmp_path):
    patterns = WeightsDataset(made).specs([0])[0]["patterns"]
    new = new_sequences(made, patterns)
    drawn = [(text, name) for name in patterns for text in new[name][:50]] + [(text, "none") for text in new["none"]]
    benchmark = Benchmark(write_benchmark(tmp_path / "b.json", drawn), Space(6, 5), WeightsDataset(made))
    assert len(benchmark({0: patterns})[0].labels) == len(drawn)
    assert benchmark.notes == []


def test_a_pattern_of_fewer_than_fifty_benchmark_rows_is_noted_as_inside_the_noise(made, tmp_path):
    patterns = WeightsDataset(made).specs([0])[0]["patterns"]
    new, seen = new_sequences(made, patterns), sorted(trained_on(made)[0])
    enough, few = patterns
    drawn = [(text, enough) for text in new[enough][:50]] + [(text, few) for text in new[few][:49]]
    drawn += [(text, "none") for text in new["none"]] + [(text, few) for text in seen[:9]]  # these do not count
    benchmark = Benchmark(write_benchmark(tmp_path / "b.json", drawn), Space(6, 5), WeightsDataset(made))
    benchmark({0: patterns})
    (note,) = [note for note in benchmark.notes if "inside the noise" in note]
    assert f"of {few} (49):" in note
    assert enough not in note


def new_sequences(made: Path, patterns: list[str]) -> dict[str, list[str]]:
    """Return, of sequences that example 0 has no rows of, each pattern's alone and 40 that satisfy neither."""
    seen = trained_on(made)[0]
    new = ["".join(letters) for letters in product("ABCDEF", repeat=5) if "".join(letters) not in seen]
    holds = {name: PATTERNS[name].holds(tokens_of(new), Space(6, 5)) for name in patterns}
    one, other = holds.values()
    alone = {name: [new[k] for k in np.flatnonzero(yes_n & (one != other))] for name, yes_n in holds.items()}
    return alone | {"none": [new[k] for k in np.flatnonzero(~(one | other))[:40]]}


def test_a_benchmark_takes_the_place_of_the_stored_rows(made, write, benchmark_file):
    path = write(predictions(made, "modification"))
    overall = figures(score_interpreter(dir=made, predictions=path, benchmark=benchmark_file))["predictions"]
    assert (overall.n, overall.exact_text) == (N, 1)
    assert overall.gain != figures(score_interpreter(dir=made, predictions=path))["predictions"].gain


def test_the_ceiling_is_what_the_datasets_own_completions_score(made, write, benchmark_file):
    references = write(predictions(made, "modification"))
    for benchmark in (None, benchmark_file):
        found = figures(score_interpreter(dir=made, predictions=references, benchmark=benchmark))
        assert found["improved weights"]._replace(who="predictions") == found["predictions"]
        assert (found["improved weights"].n, found["improved weights"].recovered) == (N, 1)


def test_the_command_prints_a_table_or_json(made, write, capsys):
    path = write(predictions(made, "modification") + predictions(made, "classification"))
    for arguments in ([], ["--json"]):
        with pytest.raises(SystemExit) as stopped:
            main(["score-interpreter", str(made), str(path), *arguments])
        assert stopped.value.code == 0
        printed = capsys.readouterr().out
        if arguments:
            assert json.loads(printed)["tasks"]["modification"]["figures"][-1]["who"] == "improved weights"
        else:
            assert f"overall     predictions          {N:>6}     1.000" in printed


def reseal(folder: Path, change: Callable[[dict], None]) -> None:
    """Change a manifest, and let it list the files that are there."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    manifest["files"] = [entry for entry in manifest["files"] if (folder / entry["path"]).is_file()]
    for entry in manifest["files"]:
        data = (folder / entry["path"]).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def tamper(folder: Path, name: str, change: Callable[[list[dict]], None]) -> None:
    """Change the rows of a file of a dataset, and seal it again as if it had been written so."""
    path = folder / name
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == name:
            entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def set_weight(rows: list[dict]) -> None:
    row = next(row for row in rows if (row["example_id"], row["model"]) == (2, "improved"))
    row["weight"] = [-row["weight"][0], *row["weight"][1:]]


def test_an_example_is_made_again_to_the_last_bit(made, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", str(made), "--example-id", "7", "--quiet", "--json"])
    assert stopped.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["identical"], found["same_decisions"], found["differences"]) == (True, True, [])
    assert (found["weight_error"], found["accuracy_error"], found["n_slots"]) == (0.0, 0.0, 4)


def test_reproduce_measures_a_weight_that_is_not_the_one_that_was_trained(copied, capsys):
    stored = WeightsDataset(copied).weights([2])[2, "improved"][0].weight[0, 0]
    tamper(copied, "store/weights-00000.parquet", set_weight)
    found = reproduce(dir=copied, example_id=2)
    assert (found.identical, found.same_decisions, found.differences) == (False, True, ["weights"])
    assert found.weight_error == pytest.approx(2 * abs(stored))
    assert found.accuracy_error == 0


def test_reproduce_fails_where_the_decisions_are_others(copied, capsys):
    def change(rows):
        row = next(row for row in rows if row["example_id"] == 2)
        row["reason"], row["degraded_accuracy"] = "training diverged", 0.25

    tamper(copied, "attempts.parquet", change)
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", str(copied), "--example-id", "2", "--quiet"])
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert "decisions (accepted try, why not the earlier ones): others" in printed
    assert "training diverged" in printed


def test_no_flip_of_a_dataset_changes_a_score(copied, write):
    said = write(predictions(copied, "modification"))
    read = [copied / "config.yaml", *(file for name in ("specs", "weights", "rows") for file in _stored(copied, name))]

    def scored():
        return score_interpreter(dir=copied, predictions=said).tasks

    assert refused_flips(scored, read, n=3) == 3 * len(read)


def _stored(folder: Path, table: str) -> list[Path]:
    return sorted(folder.glob(f"store/{table}-*.parquet"))


def test_no_flip_of_a_dataset_is_made_again(copied):
    def stored():
        dataset = WeightsDataset(copied)
        return dataset.settings(), dataset.specs(), dataset.attempts(), list(dataset.records("modification"))

    read = [copied / "config.yaml", copied / "attempts.parquet", *sorted(copied.glob("store/specs-*.parquet"))]
    read += sorted(copied.glob("modification/*.parquet"))
    assert refused_flips(stored, read) == 4 * len(read)


def test_reproduce_refuses_what_cannot_be_made_again(copied):
    with pytest.raises(DataError, match=f"there is no example {N}") as refused:
        reproduce(dir=copied, example_id=N)
    assert f"from 0 to {N - 1}" in refused.value.hint
    tamper(copied, "store/specs-00000.parquet", lambda rows: rows.pop(2))
    with pytest.raises(DataError, match="example 2 was given up"):
        reproduce(dir=copied, example_id=2)
    config = copied / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("random_seed: 2", "random_seed: 3"))
    with pytest.raises(StorageError, match=r"is damaged: config.yaml"):
        reproduce(dir=copied, example_id=3)
    config.write_text(text)

    def limit(manifest):
        manifest["identity"]["task_generation.max_prompt_tokens"] = 5000
        decides = ("format_version", "kind", "identity", "inputs")
        manifest["fingerprint"] = fingerprint({key: manifest[key] for key in decides})

    reseal(copied, limit)
    with pytest.raises(ConfigError, match="5000 tokens") as refused:
        reproduce(dir=copied, example_id=3)
    assert "--tokenizer" in refused.value.hint


def test_a_dataset_verifies_and_shows_its_numbers(made):
    found = verify_dataset(made, quiet=True)
    assert (found.problems, found.has_manifest) == ([], True)
    shown = show_dataset(made)
    assert (shown["kind"], shown["n_examples"], sum(shown["examples_by_split"].values())) == ("weights", N, N)
    with pytest.raises(ConfigError) as refused:
        verify_dataset(made, recompute=3)
    assert "actlab reproduce" in refused.value.hint


NEW = ("max_degraded_accuracy", "max_unlisted_accuracy")


def test_a_dataset_of_the_version_before_opens_and_verifies_and_is_not_taken_for_a_new_one(copied, write):
    """As it was written then: no unlisted rows, fewer columns of attempts and settings, no version of criteria."""
    for file in copied.glob("store/unlisted-*"):
        file.unlink()
    attempts = pq.read_table(copied / "attempts.parquet")
    columns = ("degraded_target_accuracy", "lowest_improved_accuracy", "highest_unlisted_accuracy")
    pq.write_table(attempts.drop_columns(list(columns)), copied / "attempts.parquet")
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["staged_training"]["corruption_rate"] = 0.0  # which new runs refuse
    for name in NEW:
        del config["validation"][name]
    (copied / "config.yaml").write_text(yaml.safe_dump(config))

    def age(manifest):
        for name in [*(f"validation.{name}" for name in NEW), "acceptance"]:
            del manifest["identity"][name]
        decides = ("format_version", "kind", "identity", "inputs")
        manifest["fingerprint"] = fingerprint({key: manifest[key] for key in decides})

    reseal(copied, age)
    assert verify_dataset(copied, quiet=True).problems == []
    assert show_dataset(copied)["n_examples"] == N
    assert WeightsDataset(copied).unlisted(range(N)) == {}
    assert WeightsDataset(copied).attempts().num_rows == attempts.num_rows
    # scored by the criteria under which it was made: a floor for the target alone
    report = score_interpreter(dir=copied, predictions=write(predictions(copied, "modification")))
    assert figures(report)["improved weights"].accepted == 1
    with pytest.raises(StorageError, match="another actlab version") as refused:
        reproduce(dir=copied, example_id=2)
    assert "actlab verify" in refused.value.hint


def swap_label(rows: list[dict]) -> None:
    row = next(row for row in rows if (row["example_id"], row["part"], row["label"]) == (2, "test", 0))
    row["label"], row["pattern"] = 1, "palindrome"


def repeat_sequence(rows: list[dict]) -> None:
    own = [row for row in rows if (row["example_id"], row["label"]) == (2, 0)]
    next(row for row in own if row["part"] == "test")["sequence"] = next(row for row in own if row["part"] == "train")[
        "sequence"
    ]


def move_family(rows: list[dict]) -> None:
    rows[2]["family"] = next(row["family"] for row in rows if row["split"] != rows[2]["split"])


def drop_network(rows: list[dict]) -> None:
    rows[:] = [row for row in rows if (row["example_id"], row["model"]) != (2, "degraded")]


def set_accuracy(rows: list[dict]) -> None:
    next(row for row in rows if row["example_id"] == 2)["accuracy"] += 1e-9


def set_code(rows: list[dict]) -> None:
    row = next(row for row in rows if row["example_id"] == 2)
    row["bias_codes"] = [row["bias_codes"][0] ^ 1, *row["bias_codes"][1:]]


def swap_completions(rows: list[dict]) -> None:
    rows[0]["completion"], rows[1]["completion"] = rows[1]["completion"], rows[0]["completion"]


def set_unlisted(rows: list[dict]) -> None:
    row = next(row for row in rows if row["example_id"] == 2)
    row["sequence"] = row["sequence"][::-1] if row["sequence"] != row["sequence"][::-1] else "ABCDE"


def repeat_unlisted(rows: list[dict]) -> None:
    one, other = [row for row in rows if row["example_id"] == 2][:2]
    one["sequence"] = other["sequence"]


def set_unlisted_accuracy(rows: list[dict]) -> None:
    next(row for row in rows if row["example_id"] == 2 and row["accepted"])["highest_unlisted_accuracy"] += 1e-9


TAMPERED = {
    "an unlisted sequence": ("store/unlisted-00000.parquet", set_unlisted, "example 2: 1 rows of store/unlisted"),
    "an unlisted one twice": ("store/unlisted-00000.parquet", repeat_unlisted, "example 2: 1 sequences of store/unl"),
    "no unlisted ones": ("store/unlisted-00000.parquet", lambda rows: rows.clear(), "example 2: it has no rows in"),
    "an accuracy of an attempt": ("attempts.parquet", set_unlisted_accuracy, "example 2: the improved network's"),
    "a weight": ("store/weights-00000.parquet", set_weight, "example 2: the improved network's network.0.weight"),
    "a swapped label": ("store/rows-00000.parquet", swap_label, "example 2: 1 labels of test rows"),
    "a test row of train": ("store/rows-00000.parquet", repeat_sequence, "example 2: 1 sequences come twice"),
    "an accuracy": ("store/metrics-00000.parquet", set_accuracy, "example 2: the degraded network's accuracies"),
    "a code": ("store/codes-00000.parquet", set_code, "example 2: the degraded network's network.0.bias"),
    "a missing network": ("store/weights-00000.parquet", drop_network, "example 2: the degraded network is missing"),
    "a family in two splits": ("store/specs-00000.parquet", move_family, "the family"),
    "a lost example": ("store/specs-00000.parquet", lambda rows: rows.pop(2), "example 2: in store/weights"),
    "a swapped text": ("modification/train-00000.parquet", swap_completions, "text c"),
    "a lost text": ("classification/train-00000.parquet", lambda rows: rows.pop(0), "classification: its files"),
    "an attempt": ("attempts.parquet", lambda rows: rows[0].update(accepted=not rows[0]["accepted"]), "attempts"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_verify_sees_even_in_a_dataset_that_was_sealed_again(copied, what):
    name, change, problem = TAMPERED[what]
    tamper(copied, name, change)
    problems = verify_dataset(copied, quiet=True).problems
    assert any(problem in found for found in problems), problems


def test_verify_sees_changed_bytes_and_looks_no_further(copied):
    (copied / "store" / "rows-00000.parquet").write_bytes(b"x")
    (problem,) = verify_dataset(copied, quiet=True).problems
    assert "store/rows-00000.parquet" in problem
    with pytest.raises(ActlabError) as failed:
        WeightsDataset(copied).rows([2])
    assert "actlab verify" in failed.value.hint
