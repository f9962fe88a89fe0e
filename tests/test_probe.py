"""Probes: what scikit-learn says when used directly, what was planted, and what must never leak."""

import hashlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import sysconfig
import typing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import scipy.optimize
import scipy.stats
import torch
from click.testing import CliRunner
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from actlab.cli.train_probe import command as train
from actlab.datasets import verify_dataset
from actlab.features.probe.compute.estimators import PROBE_TYPES, DifferenceOfMeans, fitted, make_pipeline, raw_weights
from actlab.features.probe.compute.intervals import recall_interval, regression_intervals, roc_auc_interval
from actlab.features.probe.compute.scores import calibration_error, predicted
from actlab.features.probe.compute.task import make_task
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.job import train_probe
from actlab.features.probe.source.dataset import read_datasets
from actlab.features.probe.source.dumps import read_dumps
from actlab.features.probe.source.samples import Affine
from actlab.features.split.job import make_split
from actlab.formats.activations import EXAMPLES_SCHEMA, SEED_KEYS, shard_bytes
from actlab.formats.classifier import save_dataset
from actlab.formats.splits import Splits, splits_bytes
from actlab.ground.errors import ActlabError, ConfigError, DataError
from actlab.ground.job import cost
from actlab.ground.manifest import fingerprint, to_json
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import is_complete

ROOT = Path(__file__).parent.parent
COMMON = [
    "n_samples_total",
    "n_samples_train",
    "n_samples_test",
    "n_features",
    "model_type",
    "training_time_sec",
    "cv_scores",
    "cv_mean",
    "cv_std",
    "config",
    "metadata",
]
CLASSIFICATION = [
    "test_accuracy",
    "test_f1",
    "confusion_matrix",
    "n_classes",
    "test_roc_auc",
    "test_cross_entropy_loss",
    "train_accuracy",
    "train_cross_entropy_loss",
]
REGRESSION = ["test_mae", "test_mse", "test_rmse", "test_r2", "pearson_r", "pearson_p", "train_mae", "train_r2"]
ABOUT = ["dataset_path", "dataset_hash", "n_samples", "n_features", "meta_strategy"]


def numbers(n=120, d=6, classes=2, seed=0):
    """Features whose first column says the class, off the origin and of unequal scale."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.argsort(np.argsort(X[:, 0] + 0.5 * rng.standard_normal(n))) * classes // n
    return (X * np.linspace(1, 20, d) + 50).astype(np.float32), y


@pytest.fixture
def write_npz(tmp_path):
    def write(X, y, name="data.npz", **metadata):
        metadata = {"strategy": "hidden-to-concept", "sentence_indices": np.arange(len(y))} | metadata
        save_dataset(X, y, metadata, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def npz(write_npz):
    return write_npz(*numbers())


@pytest.fixture
def write_split(tmp_path):
    """Put every fifth sentence on the test side, from a given offset on."""

    def write(n, offset=0, name="splits.json"):
        splits = Splits({i: "test" if i % 5 == offset else "train" for i in range(n)}, {}, {})
        (tmp_path / name).write_bytes(splits_bytes(splits))
        return tmp_path / name, splits.fingerprint

    return write


def write_dump(folder, layers_lnd, *, n_tokens=None, last_token_id=None, prompts=None, table=True, **metadata):
    """One split of a dump as extract-activations leaves it."""
    n, d = layers_lnd[0].shape
    for layer, rows in enumerate(layers_lnd):
        where = folder / f"layer_{layer:02d}"
        where.mkdir(parents=True)
        (where / "shard_000.pt").write_bytes(shard_bytes(torch.tensor(rows[:7], dtype=torch.float32)))
        (where / "shard_001.pt").write_bytes(shard_bytes(torch.tensor(rows[7:], dtype=torch.float32)))
    values = ("org/model", "bad_advice", folder.name, False, n, 512, 32, d, len(layers_lnd))
    (folder / "metadata.json").write_text(json.dumps(dict(zip(SEED_KEYS, values, strict=True)) | metadata))
    if table:
        columns = dict.fromkeys(EXAMPLES_SCHEMA.names, [0] * n) | {
            name: ["x"] * n for name in ("example_id", "token", "last_token")
        }
        columns["prompt_id"] = [f"p{i}" for i in range(n)] if prompts is None else prompts
        columns["n_tokens"] = np.arange(n) % 9 + 3 if n_tokens is None else n_tokens
        columns["last_token_id"] = np.arange(n) % 4 if last_token_id is None else last_token_id
        pq.write_table(pa.table(columns, schema=EXAMPLES_SCHEMA), folder / "examples.parquet")
    return folder


@pytest.fixture
def write_dumps(tmp_path):
    def write(n=60, d=8, n_layers=4, planted=2, root="dump", positive=None, negative=None):
        rng = np.random.default_rng(1)
        states = rng.standard_normal((2, n_layers, n, d)) * 3 + 10
        if planted is not None:
            states[1, planted, :, 3] += 9
        parts = {"Neutral": (states[0], negative or {}), "EM": (states[1], positive or {})}
        folders = {name: write_dump(tmp_path / root / name, rows, **more) for name, (rows, more) in parts.items()}
        return {"positive": folders["EM"], "negative": folders["Neutral"]}

    return write


def load_script(name):
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_results_have_the_documented_keys_first(npz, write_npz, tmp_path):
    X, _ = numbers()
    classified = train_probe(input=npz, output=tmp_path / "c", plots=False).results
    regressed = train_probe(
        input=write_npz(X, X[:, 0].astype(np.float32), "r.npz"), output=tmp_path / "r", plots=False
    ).results
    for results, more in ((classified, CLASSIFICATION), (regressed, REGRESSION)):
        assert list(results)[: len(COMMON)] == COMMON
        assert set(more) <= set(results)
        assert list(results["metadata"]) == ABOUT
        assert results["held_out"] is True
        assert set(results["baselines"]) >= {"shuffled_labels"}
    assert classified["model_type"] == "logistic"
    assert regressed["model_type"] == "ridge"
    assert json.loads((tmp_path / "c" / "results.json").read_text()) == classified
    assert is_complete(tmp_path / "c")


def test_the_scores_are_scikit_learns_on_the_files_own_split(write_npz, tmp_path):
    X, y = numbers(200)
    sides = np.where(np.arange(200) % 4 == 0, "test", "train")
    path = write_npz(X, y, split=sides, split_fingerprint="abc")
    results = train_probe(input=path, output=tmp_path / "out", regularization=0.5, plots=False).results
    train, test = sides == "train", sides == "test"
    regression = LogisticRegression(C=2.0, max_iter=10_000, tol=1e-10)  # of another solver, to the same optimum
    direct = sklearn_pipeline(StandardScaler(), regression).fit(X[train].astype(float), y[train])
    chances = direct.predict_proba(X[test].astype(float))[:, 1]
    said = direct.predict(X[test].astype(float))
    assert results["n_samples_test"] == 50
    assert results["split_fingerprint"] == "abc"
    assert results["test_roc_auc"] == pytest.approx(roc_auc_score(y[test], chances))
    assert results["brier"] == pytest.approx(brier_score_loss(y[test], chances), rel=1e-5)
    assert results["test_f1"] == pytest.approx(f1_score(y[test], said))
    assert results["test_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y[test], said))
    low, high = results["test_roc_auc_interval"]
    assert low < results["test_roc_auc"] < high
    majority = results["baselines"]["majority"]
    assert majority["test_roc_auc"] == 0.5
    assert majority["test_accuracy"] == pytest.approx(np.mean(y[test] == np.bincount(y[train]).argmax()))


def test_ridge_is_scikit_learns(write_npz, tmp_path):
    X, _ = numbers(150)
    y = (X[:, 0] + X[:, 2] / 9).astype(np.float32)
    sides = np.where(np.arange(150) < 100, "train", "test")
    results = train_probe(input=write_npz(X, y, split=sides), output=tmp_path / "out", plots=False).results
    direct = sklearn_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(X[:100].astype(float), y[:100].astype(float))
    assert results["test_r2"] == pytest.approx(r2_score(y[100:], direct.predict(X[100:].astype(float))))
    assert results["baselines"]["mean"]["test_r2"] < 0.1
    assert results["test_r2_interval"][0] > 0.9


@pytest.mark.parametrize("model_type", ["logistic", "ridge", "difference-of-means"])
@pytest.mark.parametrize("stored", ["none", "standardize", "minmax"])
def test_the_written_weights_say_on_raw_rows_what_the_pipeline_says_on_scaled_ones(
    model_type, stored, write_npz, tmp_path
):
    raw, y = numbers()
    X, norm = raw, {"method": "none"}
    if stored == "standardize":
        scaler = StandardScaler().fit(raw)
        X, norm = scaler.transform(raw), {"method": stored, "mean": scaler.mean_, "std": scaler.scale_}
    elif stored == "minmax":
        scaler = MinMaxScaler().fit(raw)
        X, norm = scaler.transform(raw), {"method": stored, "min": scaler.data_min_, "max": scaler.data_max_}
    sides = np.where(np.arange(len(y)) % 3 == 0, "test", "train")
    path = write_npz(X, y, split=sides, **norm)
    probe = train_probe(input=path, output=tmp_path / "out", model_type=model_type, plots=False)
    train = sides == "train"
    pipeline = fitted(make_pipeline(model_type, 1.0), X[train].astype(float), y[train])
    say = pipeline.predict if model_type == "ridge" else pipeline.decision_function
    written = json.loads((probe.path / "probe.json").read_text())
    assert written["space"] == probe.results["space"] == "raw activations"
    assert raw @ np.array(written["weight"]) + written["intercept"] == pytest.approx(
        say(X.astype(float)), rel=1e-4, abs=1e-4
    )
    tensors = safetensors.numpy.load_file(probe.path / "probe.safetensors")
    assert tensors["weight"] == pytest.approx(np.array(written["weight"]), rel=1e-6)
    assert tensors["bias"] == pytest.approx(written["intercept"], rel=1e-6)


def test_more_classes_have_a_row_of_weights_each(write_npz, tmp_path):
    X, y = numbers(200, classes=4)
    probe = train_probe(input=write_npz(X, y), output=tmp_path / "out")
    weight = torch.load(probe.path / "probe.pt", weights_only=True)
    assert (weight.shape, weight.dtype) == ((4, 6), torch.float32)
    assert probe.results["n_classes"] == 4
    assert np.array(probe.results["confusion_matrix"]).sum() == probe.results["n_samples_test"]
    X = X.astype(float)
    pipeline = fitted(make_pipeline("logistic", 1.0), X, y)
    linear = raw_weights(pipeline, None)
    assert X @ linear.weight.T + linear.intercept == pytest.approx(pipeline.decision_function(X), abs=1e-8)


@pytest.mark.parametrize("d", [20, 200])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_logistic_probe_is_at_its_optimum_also_with_more_columns_than_rows(d, classes):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, d)) * rng.exponential(1, d), np.arange(60) % classes
    pipeline = fitted(make_pipeline("logistic", 0.5), X, y)
    probe, Z = pipeline["probe"], pipeline["scale"].transform(X)
    missed = pipeline.predict_proba(X) - (y[:, None] == np.arange(classes))
    slope = missed[:, -len(probe.coef_) :].T @ Z + 0.5 * probe.coef_  # of the loss by the weights
    assert probe.coef_.shape == (1 if classes == 2 else classes, d)
    assert np.abs(slope).max() < 1e-7
    assert np.abs(missed.sum(axis=0)).max() < 1e-7


def test_folding_takes_a_constant_column_for_what_it_is():
    X, y = numbers()
    X = X.astype(float)
    X[:, 2] = 7.0
    scaled = Affine(np.full(6, 3.0), np.full(6, 0.25))
    pipeline = fitted(make_pipeline("logistic", 1.0), (X - 3.0) / 0.25, y)
    linear = raw_weights(pipeline, scaled)
    assert X @ linear.weight + linear.intercept == pytest.approx(pipeline.decision_function((X - 3) / 0.25), abs=1e-8)


def test_difference_of_means_points_from_mean_to_mean_and_cuts_near_the_middle():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((800, 3))
    X[400:, 0] += 4
    y = np.repeat([3, 8], 400)
    probe = DifferenceOfMeans().fit(X, y)
    expected = X[400:].mean(axis=0) - X[:400].mean(axis=0)
    cosine = probe.coef_[0] @ expected / np.linalg.norm(probe.coef_) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1.0)
    assert -probe.intercept_[0] / probe.coef_[0, 0] == pytest.approx(2.0, abs=0.3)
    assert probe.predict([[9.0, 0, 0], [-9.0, 0, 0]]).tolist() == [8, 3]


def plain_auroc_interval(is_positive, scores):
    """Newcombe's method 5 by a root finder, widened where DeLong's variance, by a loop over all pairs, is larger."""
    above, below = scores[is_positive], scores[~is_positive]
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in below] for a in above])
    theta, (m, n) = wins.mean(), wins.shape
    delong = np.var(wins.mean(axis=1), ddof=1) / m + np.var(wins.mean(axis=0), ddof=1) / n

    def variance(t):
        return t * (1 - t) / (m * n) * (1 + ((m + n) / 2 - 1) * ((1 - t) / (2 - t) + t / (1 + t)))

    scale = max(1.0, delong / variance(theta)) if 0 < theta < 1 else 1.0

    def beyond(t):
        return (theta - t) ** 2 - norm.ppf(0.975) ** 2 * scale * variance(t)

    def edge(end):
        return end if theta == end else scipy.optimize.brentq(beyond, end, theta + (1e-9 if end > theta else -1e-9))

    return [edge(0.0), edge(1.0)]


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("n_positive", [6, 20])
def test_the_interval_of_an_auroc_is_newcombes_solved_by_another_way(n_positive, shift):
    rng = np.random.default_rng(int(shift))
    y = (np.arange(40) < n_positive).astype(int)
    scores = np.round(rng.standard_normal(40) * (1 + 2 * y) + shift * y, 1)  # rounded: ties
    both = np.stack([-scores, scores], axis=1)
    found = roc_auc_interval(y, both, np.array([0, 1]), np.arange(40))
    assert found == pytest.approx(plain_auroc_interval(y == 1, scores), abs=1e-6)


def test_rows_five_times_in_a_group_are_worth_as_much_as_once():
    rng = np.random.default_rng(1)
    y = np.arange(24) % 2
    scores = rng.standard_normal(24) + y
    once = [np.stack([-scores, scores], axis=1), y, np.arange(24)]
    many = [np.repeat(one, 5, axis=0) for one in once]
    classes = np.array([0, 1])
    assert roc_auc_interval(many[1], many[0], classes, many[2]) == pytest.approx(
        roc_auc_interval(once[1], once[0], classes, once[2]), abs=1e-6
    )
    right = rng.random(24) < 0.7
    all_rows = [np.ones(24, dtype=bool)]
    assert recall_interval([np.repeat(all_rows[0], 5)], np.repeat(right, 5), np.repeat(scores, 5), many[2]) == (
        pytest.approx(recall_interval(all_rows, right, scores, once[2]), abs=1e-6)
    )


def test_the_interval_of_an_accuracy_is_wilsons():
    right = np.arange(30) < 24
    found = recall_interval([np.ones(30, dtype=bool)], right, np.arange(30.0), np.arange(30))
    wilson = scipy.stats.binomtest(24, 30).proportion_ci(method="wilson")
    # the sample's variance, divided by 29, is larger than the binomial's by 30/29
    assert found == pytest.approx([wilson.low, wilson.high], abs=0.005)
    perfect = recall_interval([np.ones(30, dtype=bool)], np.ones(30, dtype=bool), np.arange(30.0), np.arange(30))
    wilson = scipy.stats.binomtest(30, 30).proportion_ci(method="wilson")
    assert perfect == pytest.approx([wilson.low, 1.0], abs=1e-6)


def test_a_perfect_small_test_has_an_interval_and_no_point(write_npz, tmp_path):
    y = np.arange(60) % 2
    X = np.random.default_rng(0).standard_normal((60, 3)) + 40 * y[:, None]
    results = train_probe(input=write_npz(X, y), output=tmp_path / "out", plots=False).results
    assert results["test_roc_auc"] == results["test_accuracy"] == 1
    assert results["n_samples_test"] == 12
    for name in ("test_roc_auc", "test_accuracy", "test_balanced_accuracy"):
        low, high = results[f"{name}_interval"]
        assert 0.5 < low < 0.9
        assert high == 1
    assert results["no_intervals_because"] is None


def test_below_five_groups_in_a_class_there_is_no_interval_and_the_reason_is_told(write_npz, tmp_path, caplog):
    X, y = numbers(100)
    rows = np.argsort(y, kind="stable")
    groups = np.concatenate([np.arange(50), 50 + np.arange(50) // 10])  # class 1 has five groups in all
    path = write_npz(X[rows], y[rows], sentence_indices=groups)
    with caplog.at_level(logging.INFO, "actlab"):
        done = CliRunner().invoke(train, ["--input", str(path), "--output", str(tmp_path / "out"), "--no-plots"])
    assert done.exit_code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    reason = "class 1 has 1 group of test rows: no interval below 5"
    assert results["no_intervals_because"] == reason
    assert reason in results["notes"]
    assert f"(no interval: {reason})" in caplog.text
    names = ("test_roc_auc_interval", "test_accuracy_interval", "test_balanced_accuracy_interval")
    assert [results[name] for name in names] == [None] * 3
    few = write_npz(X, X[:, 0].astype(np.float32), "r.npz", sentence_indices=np.arange(100) // 5)
    results = train_probe(input=few, output=tmp_path / "few", plots=False).results
    assert results["test_r2_interval"] is None
    assert results["no_intervals_because"] == "the test rows are 4 groups: no interval below 5"


def test_a_regression_s_missing_interval_has_a_reason():
    y, groups = np.random.default_rng(0).standard_normal(20), np.arange(20)
    exact = regression_intervals(y, y, groups)
    assert set(exact.by_name.values()) == {None}
    assert "the prediction is exact" in exact.missing_because
    constant = regression_intervals(np.ones(20), y, groups)
    assert constant.by_name["test_r2_interval"] is None
    assert constant.by_name["test_mae_interval"] is not None
    assert "the target does not vary" in constant.missing_because
    assert regression_intervals(y, y + 1, groups).missing_because is None


@pytest.mark.slow
def test_intervals_of_regressions_hold_the_truth_of_new_rows():
    rng = np.random.default_rng(0)
    for n_groups, size in ((8, 1), (10, 5), (40, 5)):
        held = np.zeros(2)
        for _ in range(300):
            group_n = np.repeat(np.arange(n_groups), size)
            said = rng.standard_normal(n_groups * size)
            noise = (rng.standard_normal(n_groups)[group_n] + rng.standard_normal(len(said))) / 2**0.5
            found = regression_intervals(said + noise, said, group_n).by_name
            truth = {"test_r2_interval": 0.5, "test_mae_interval": (2 / np.pi) ** 0.5}
            held += [low <= truth[name] <= high for name, (low, high) in found.items()]
        assert (held / 300 > 0.9).all()


@pytest.mark.slow
def test_a_simulation_of_some_cells_finds_the_coverage_that_is_promised():
    coverage = load_script("bench/coverage.py")
    for cell in (
        coverage.Cell("1/2", 10, 1, 0.0, 0.9),
        coverage.Cell("1/2", 50, 5, 1.0, 0.7),
        coverage.Cell("1/2", 100, 5, 0.5, 0.95),
        coverage.Cell("mixed", 100, 2, 0.5, 0.7),
    ):
        share, _ = coverage.coverage(cell, 600)
        assert share > coverage.LEAST - 0.02
        assert share < coverage.MOST + 0.01 or not cell.has_ceiling


def test_the_calibration_error_is_the_one_worked_out_by_hand():
    chances = np.array([0.05, 0.05, 0.95, 0.95])
    both = np.stack([1 - chances, chances], axis=1)
    # lowest bin: says 0.05, one of two is positive: 0.45; highest: says 0.95, both are: 0.05
    assert calibration_error(np.array([0, 1, 1, 1]), both, np.array([0, 1])) == pytest.approx((0.45 + 0.05) / 2)
    three = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])  # sure by 0.5, right once
    assert calibration_error(np.array([1, 2]), three, np.array([0, 1, 2])) == pytest.approx(0.0)


def test_the_layer_with_the_planted_direction_is_found(write_dumps, tmp_path):
    probe = train_probe(**write_dumps(), output=tmp_path / "Probes" / "model")
    layers = probe.results["layers"]
    assert list(layers) == ["0", "1", "2", "3"]
    assert probe.results["best_layer"] == 2
    assert layers["2"]["test_roc_auc"] > 0.95 > 0.75 > layers["0"]["test_roc_auc"]
    assert list(layers["0"])[: len(COMMON)] == COMMON
    weight = torch.load(probe.path / "layer_02" / "bad_advice.pt", weights_only=True)
    assert (weight.ndim, weight.dtype) == (1, torch.float32)
    assert int(weight.abs().argmax()) == 3
    assert weight[3] > 0
    metrics = json.loads((probe.path / "layer_02" / "bad_advice_metrics.json").read_text())
    assert metrics == {"layer": 2, **layers["2"]}
    plots = {path.name for path in (probe.path / "plots").iterdir()}
    assert plots == {"layers.png", "roc.png", "confusion.png", "projection.png"}


def test_shuffled_labels_keep_their_groups_and_score_like_chance(write_npz, tmp_path):
    X, y = numbers(200)
    groups = np.arange(200) // 4
    config = ProbeConfig(input=str(write_npz(X, y[groups * 4], sentence_indices=groups)), output="x")
    task = make_task(read_datasets(config)[0], config)
    for labels in task.shuffled:
        assert labels.tolist() != task.y[task.train].tolist()
        for group in set(groups[task.train]):
            assert len(set(labels[groups[task.train] == group])) == 1
    results = train_probe(input=config.input, output=tmp_path / "out", plots=False).results
    chance = results["baselines"]["shuffled_labels"]
    assert chance["n_draws"] == len(task.shuffled)
    assert chance["test_roc_auc_range"][0] <= chance["test_roc_auc"] <= chance["test_roc_auc_range"][1]
    assert chance["test_roc_auc"] < results["test_roc_auc"] - 0.1


def test_the_best_layer_is_chosen_without_the_test_rows(write_dumps, tmp_path):
    folders = write_dumps(planted=None)
    samples = read_dumps(ProbeConfig(positive=str(folders["positive"]), negative=str(folders["negative"]), output="x"))
    task = make_task(samples, ProbeConfig(input="x", output="x"))
    rows = {layer: samples.read(layer) for layer in samples.layers}
    rows[1][task.test, 0] += 100 * task.y[task.test]  # only the test rows of layer 1 give the class away
    rows[3][task.train, 0] += 4 * task.y[task.train]
    for layer, content in rows.items():
        for place, folder in enumerate((folders["negative"], folders["positive"])):
            part = torch.tensor(content[place * 60 : place * 60 + 60], dtype=torch.float32)
            (folder / f"layer_{layer:02d}" / "shard_000.pt").write_bytes(shard_bytes(part[:7]))
            (folder / f"layer_{layer:02d}" / "shard_001.pt").write_bytes(shard_bytes(part[7:]))
    results = train_probe(**folders, output=tmp_path / "out", plots=False).results
    assert results["best_layer"] == max(range(4), key=lambda k: results["layers"][str(k)]["cv_mean"]) == 3


def test_layers_are_chosen_by_the_usual_words(write_dumps, tmp_path):
    folders = write_dumps()
    results = train_probe(**folders, output=tmp_path / "out", layers="0,-1", plots=False).results
    assert list(results["layers"]) == ["0", "3"]
    with pytest.raises(ActlabError, match="names layer 7"):
        train_probe(**folders, output=tmp_path / "other", layers="7")


def test_noise_gives_intervals_that_hold_one_half(write_npz, tmp_path):
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        path = write_npz(rng.standard_normal((150, 10)), rng.permutation(np.arange(150) % 2), f"{seed}.npz")
        out = tmp_path / f"out{seed}"
        results = train_probe(input=path, output=out, seed=seed, plots=False).results
        low, high = results["test_roc_auc_interval"]
        held += low <= 0.5 <= high
    assert held >= 16


@pytest.mark.parametrize("seed", range(3))
def test_a_group_is_on_one_side_of_the_test_set_and_of_every_fold(write_npz, seed):
    X, y = numbers(180)
    groups = np.random.default_rng(seed).integers(0, 40, size=180)
    for target in (y, X[:, 0].astype(np.float32)):
        config = ProbeConfig(input=str(write_npz(X, target, sentence_indices=groups)), output="x", seed=seed)
        task = make_task(read_datasets(config)[0], config)
        assert not set(groups[task.train]) & set(groups[task.test])
        assert sorted([*task.train, *task.test]) == list(range(180))
        assert sorted(np.concatenate([fold.test for fold in task.folds])) == task.train.tolist()
        for fold in task.folds:
            assert not set(groups[fold.train]) & set(groups[fold.test])
            assert not set(fold.train) & set(task.test)


def test_nothing_is_drawn_by_numpy_or_divided_by_scikit_learn(write_npz, write_dumps, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    X, y = numbers()
    paths = [write_npz(X, y), write_npz(X, X[:, 0].astype(np.float32), "r.npz")]
    folders = write_dumps(n_layers=1, planted=0)
    monkeypatch.setattr("numpy.random.default_rng", never)
    monkeypatch.setattr("sklearn.utils.check_random_state", never)
    monkeypatch.setattr("sklearn.model_selection.BaseCrossValidator.split", never)
    monkeypatch.setattr("sklearn.model_selection.GroupShuffleSplit.split", never)
    for number, path in enumerate(paths):
        train_probe(input=path, output=tmp_path / str(number), plots=False)
    train_probe(**folders, output=tmp_path / "dumps", plots=False)


def plain_order(n, seed):
    """What decides by chance, said in plain Python."""
    stream = hashlib.shake_256(f"actlab order {seed}".encode()).digest(8 * n)
    return sorted(range(n), key=lambda i: int.from_bytes(stream[8 * i : 8 * i + 8], "little"))


def test_the_test_rows_and_the_folds_are_those_that_plain_python_places(write_npz):
    y = np.array([0, 0, 1, 1, 0, 1, 1, 0, 1, 0] * 4)
    config = ProbeConfig(input=str(write_npz(np.random.default_rng(0).standard_normal((40, 2)), y)), output="x", seed=3)
    task = make_task(read_datasets(config)[0], config)
    counts = {"test": np.array([4, 4]), "train": np.array([16, 16])}
    placed = {"test": [], "train": []}
    for row in plain_order(40, derive_seed(derive_seed(3, "test rows"), "groups")):
        side = max(("train", "test"), key=lambda name: counts[name][y[row]])
        counts[side][y[row]] -= 1
        placed[side].append(row)
    assert task.test.tolist() == sorted(placed["test"])
    assert sorted(len(fold.test) for fold in task.folds) == [6, 6, 6, 7, 7]
    assert all(abs(np.bincount(y[fold.test]) - 3.2).max() < 1 for fold in task.folds)


def test_a_prompt_in_both_dumps_is_one_group_and_the_classes_keep_their_shares(write_dumps):
    folders = write_dumps(n=50)
    config = ProbeConfig(positive=str(folders["positive"]), negative=str(folders["negative"]), output="x")
    task = make_task(read_dumps(config), config)
    assert sorted(task.test % 50) == sorted(list(set(task.test % 50)) * 2)
    assert task.y[task.test].mean() == 0.5
    assert len(task.test) == 20


def test_a_given_split_decides_the_rows(write_npz, write_split, tmp_path):
    X, y = numbers(100)
    path, fingerprint = write_split(100)
    results = train_probe(input=write_npz(X, y), split=path, output=tmp_path / "out", plots=False).results
    assert (results["n_samples_train"], results["n_samples_test"]) == (80, 20)
    assert results["split_fingerprint"] == fingerprint


def twice(n=60, d=40, seed=0):
    """Noise, every row there twice under numbers of its own; the two have one label."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(2 * n)
    return np.repeat(rng.standard_normal((n, d)), 2, axis=0)[order], np.repeat(rng.permutation(n) % 2, 2)[order]


@pytest.mark.parametrize("copies_are", ["equal rows", "near-equal texts"])
def test_copies_of_a_row_are_never_on_two_sides(copies_are, write_npz, tmp_path):
    X, y = twice()
    more = {}
    if copies_are == "near-equal texts":
        more = {"text_groups": np.unique(X[:, 0], return_inverse=True)[1]}
        X = X + np.random.default_rng(1).standard_normal(X.shape) / 100
    path = write_npz(X, y, **more)
    results = train_probe(input=path, output=tmp_path / "out", plots=False).results
    assert results["n_groups"] == 60
    assert results["test_roc_auc"] < 0.8, "it was 0.9 and more with the copies on both sides"
    sides = np.where(np.arange(120) % 3 == 0, "test", "train")
    own = write_npz(X, y, "own.npz", split=sides, **more)
    with pytest.raises(DataError, match="through the middle of groups of rows"):
        train_probe(input=own, output=tmp_path / "own")


def test_rows_without_any_active_feature_and_equal_tokens_are_no_copies(write_npz):
    X, y = twice(d=2)
    for metadata in ({"input_source": "activations"}, {"input_source": "embeddings", "rows": "final"}):
        config = ProbeConfig(input=str(write_npz(X, y, **metadata)), output="x")
        assert len(set(read_datasets(config)[0].groups.tolist())) == 120
    config = ProbeConfig(input=str(write_npz(np.zeros((120, 2)), y)), output="x")
    assert len(set(read_datasets(config)[0].groups.tolist())) == 120


@pytest.mark.parametrize("order", ["as generated", "shuffled"])
def test_of_all_rows_of_a_sentence_only_the_last_says_that_two_are_one_text(order, write_npz):
    X = np.random.default_rng(0).standard_normal((90, 4))
    X[0::3] = X[0]  # every sentence begins with the same token
    X[[1, 4, 7]] = X[1]
    X[[5, 26]] = X[5]  # sentences 1 and 8 end alike
    about = {"sentence_indices": np.arange(90) // 3, "row_indices": np.arange(90) % 3}
    rows = np.arange(90) if order == "as generated" else np.random.default_rng(1).permutation(90)
    path = write_npz(X[rows], np.arange(90) // 3 % 2, rows="all", **{key: of[rows] for key, of in about.items()})
    groups = read_datasets(ProbeConfig(input=str(path), output="x"))[0].groups
    by_sentence = {sentence: set(groups[rows // 3 == sentence].tolist()) for sentence in range(30)}
    assert len(set(groups.tolist())) == 29
    assert by_sentence[1] == by_sentence[8]


def test_foreign_embeddings_and_features_are_known_by_their_strategy(write_npz):
    X, y = twice(d=2)
    for strategy in ("embedding-to-concept", "embedding-to-feature", "feature-to-concept"):
        config = ProbeConfig(input=str(write_npz(X, y, strategy=strategy)), output="x")
        assert len(set(read_datasets(config)[0].groups.tolist())) == 120


def test_equal_rows_of_dumps_are_one_group_whatever_their_prompts(write_dumps):
    folders = write_dumps(n=30, n_layers=2, planted=1)
    for layer in ("layer_00", "layer_01"):
        paths = [folders[name] / layer / "shard_000.pt" for name in ("positive", "negative")]
        rows = [torch.load(path) for path in paths]
        rows[0][5] = rows[1][2]
        paths[0].write_bytes(shard_bytes(rows[0].clone()))
    config = ProbeConfig(positive=str(folders["positive"]), negative=str(folders["negative"]), output="x")
    groups = read_dumps(config).groups
    assert groups[2] == groups[30 + 5] == groups[5] == groups[32]
    assert len(set(groups.tolist())) == 29


@pytest.mark.parametrize("kind", ["two classes", "four classes", "numbers"])
@pytest.mark.parametrize("confound", ["n_tokens", "last_token"])
def test_a_dataset_s_length_or_last_token_that_tells_all_is_warned_of(kind, confound, write_npz, tmp_path, caplog):
    X, y = numbers(160, classes=4 if kind == "four classes" else 2)
    y = y if kind != "numbers" else (y + 0.5).astype(np.float32)
    values = {"n_tokens": np.arange(160) % 7 + 5, "last_token": np.array([" .", " !", " it"])[np.arange(160) % 3]}
    values[confound] = (10 * y).astype(int) + 5 if confound == "n_tokens" else np.array([f" w{one}" for one in y])
    path = write_npz(X, y, **values)
    with caplog.at_level(logging.INFO, "actlab"):
        results = train_probe(input=path, output=tmp_path / "out", plots=False).results
    metric = "r2" if kind == "numbers" else "roc_auc"
    found = {name: one[metric] for name, one in results["confounds"].items()}
    (other,) = set(found) - {confound}
    assert found[confound] > 0.97
    assert found[other] < (0.3 if metric == "r2" else 0.7)
    word = {"n_tokens": "the length", "last_token": "the last token"}[confound]
    does = "predicts the target" if kind == "numbers" else "tells the classes apart"
    assert any(note.startswith(f"{word} alone {does} as well as the probe") for note in results["notes"])
    assert caplog.text.count("alone: ") == 2, "what each tells is printed"


def test_on_noise_no_confound_is_said_to_do_as_well_as_the_probe(write_npz, tmp_path):
    rng = np.random.default_rng(0)
    values = {"n_tokens": rng.integers(5, 40, 200), "last_token": rng.choice([".", "!", " so"], 200)}
    path = write_npz(rng.standard_normal((200, 4)), rng.permutation(200) % 2, **values, text_groups=np.arange(200))
    results = train_probe(input=path, output=tmp_path / "out", plots=False).results
    assert results["notes"] == []
    assert all(0.35 < one["roc_auc"] < 0.65 for one in results["confounds"].values())


def test_a_dataset_that_does_not_say_its_lengths_has_a_note(npz, tmp_path):
    results = train_probe(input=npz, output=tmp_path / "out", plots=False).results
    assert any("does not say each row's length and last token" in note for note in results["notes"])
    assert any("which texts are nearly equal" in note for note in results["notes"])


def test_lengths_and_layers_that_are_no_numbers_are_not_used(write_npz, tmp_path):
    path = write_npz(*numbers(), n_tokens=np.full(120, "long"), input_layers="all", last_token=np.arange(120) % 3)
    results = train_probe(input=path, output=tmp_path / "out", plots=False).results
    assert list(results["confounds"]) == ["last_token"]
    assert any("does not say each row's length:" in note for note in results["notes"])


@pytest.mark.parametrize("key", ["n_tokens", "last_token", "text_groups"])
def test_a_foreign_value_under_a_newer_name_is_not_taken_for_one_a_row(key, write_npz, tmp_path):
    path = write_npz(*numbers(), **{key: np.array(7), "manifest": "{}"})
    samples = read_datasets(ProbeConfig(input=str(path), output="x"))[0]
    assert samples.confounds == {}
    assert len(samples.notes) == 3
    assert make_split(input=path, output=tmp_path / "s.json").splits.group_of == {}


def test_a_dataset_that_says_no_sentences_has_notes_that_agree(write_npz):
    path = write_npz(*numbers(), sentence_indices=None)
    notes = read_datasets(ProbeConfig(input=str(path), output="x"))[0].notes
    assert any("each was taken for a sentence of its own" in note for note in notes)
    assert any("rows of such texts may be on both sides" in note for note in notes)
    assert not any("only equal rows" in note for note in notes)


def test_of_two_files_of_one_name_the_chosen_one_is_told_by_its_place(write_npz, tmp_path):
    rng, paths = np.random.default_rng(0), []
    y = rng.permutation(np.arange(60) % 2)
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        X = rng.standard_normal((60, 3)) + 3 * k * y[:, None]
        paths.append(write_npz(X, y, f"{k}/same.npz"))
    results = train_probe(input=paths, output=tmp_path / "out", plots=False).results
    assert results["chosen"] == "same.npz"
    assert results["chosen_index"] == 1


def test_of_several_datasets_one_is_chosen_without_the_test_rows(write_npz, tmp_path, caplog):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(120) % 2)
    base = rng.standard_normal((3, 120, 4))
    config = ProbeConfig(input=str(write_npz(base[0], y)), output="x")
    task = make_task(read_datasets(config)[0], config)
    base[1, task.test, 0] += 100 * y[task.test]  # whoever looks at the test rows takes this one
    base[2, task.train, 0] += 2 * y[task.train]
    paths = [write_npz(X, y, f"h{k}.npz", input_layers=np.array([k])) for k, X in enumerate(base)]
    arguments = [one for path in paths for one in ("--input", str(path))]
    with caplog.at_level(logging.INFO, "actlab"):
        done = CliRunner().invoke(train, [*arguments, "--output", str(tmp_path / "out"), "--no-plots"])
    assert done.exit_code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["chosen"] == results["metadata"]["dataset_path"] == "h2.npz"
    assert results["chosen_index"] == 2
    assert results["chosen_by"] == "cv_mean"
    assert [one["input_layers"] for one in results["chosen_from"]] == [[0], [1], [2]]
    assert max(one["cv_mean"] for one in results["chosen_from"]) == results["cv_mean"]
    assert not any(key.startswith("test") for one in results["chosen_from"] for key in one)
    assert "h2.npz (input 3 of 3, the best by its folds): test AUROC" in caplog.text
    alone = train_probe(input=paths[2], output=tmp_path / "alone", plots=False).results
    assert results["test_roc_auc"] == alone["test_roc_auc"]
    assert results["cv_scores"] == alone["cv_scores"]


def test_datasets_of_other_rows_are_not_compared(npz, write_npz, tmp_path):
    X, y = numbers()
    shifted = {"sentence_indices": np.arange(120) + 1}
    others = {"targets": write_npz(X, 1 - y, "t.npz"), "sentences": write_npz(X, y, "s.npz", **shifted)}
    for name, other in others.items():
        with pytest.raises(DataError, match=f"has other {name}"):
            train_probe(input=[npz, other], output=tmp_path / "out")
    with pytest.raises(ConfigError, match="one dataset twice"):
        train_probe(input=[npz, npz], output=tmp_path / "out")


def test_a_probe_of_an_earlier_version_verifies_and_is_not_taken_for_this_one(npz, tmp_path):
    probe = train_probe(input=npz, output=tmp_path / "out", plots=False)
    path = probe.path / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["identity"].pop("versions")["split"] == 2
    described = {key: manifest[key] for key in ("format_version", "kind", "identity", "inputs")}
    path.write_text(json.dumps(manifest | {"fingerprint": fingerprint(described)}))
    metadata = json.loads((probe.path / "metadata.json").read_text())
    stored = next(one for one in manifest["files"] if one["path"] == "metadata.json")
    data = to_json(metadata | {"fingerprint": fingerprint(described)})
    (probe.path / "metadata.json").write_bytes(data)
    stored |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(manifest | {"fingerprint": fingerprint(described)}))
    assert verify_dataset(probe.path).problems == []
    with pytest.raises(ActlabError, match="made by another version of actlab: versions is None there"):
        train_probe(input=npz, output=tmp_path / "out", plots=False)


def test_resamples_are_taken_and_change_nothing(npz, tmp_path, caplog):
    one = train_probe(input=npz, output=tmp_path / "one", plots=False)
    assert train_probe(input=npz, output=tmp_path / "one", plots=False, bootstrap=20) == one
    assert "--bootstrap has no effect any more" in caplog.text


CHOSEN = {"strategy": "feature-to-concept"}


def test_features_chosen_on_all_rows_are_refused_unless_allowed(write_npz, tmp_path):
    path = write_npz(*numbers(), **CHOSEN, features_chosen_on="all")
    with pytest.raises(DataError, match="ranking on all rows") as refused:
        train_probe(input=path, output=tmp_path / "out")
    assert "--split" in refused.value.hint
    assert "--allow-leak" in refused.value.hint
    assert not (tmp_path / "out").exists()
    results = train_probe(input=path, output=tmp_path / "out", allow_leak=True, plots=False).results
    assert results["held_out"] is False
    assert any("ranking on all rows" in note for note in results["notes"])


def test_features_chosen_on_the_training_side_want_the_same_split(write_npz, write_split, tmp_path):
    split, fingerprint = write_split(120)
    other, _ = write_split(120, offset=1, name="other.json")
    path = write_npz(*numbers(), **CHOSEN, features_chosen_on=f"train:{fingerprint}")
    results = train_probe(input=path, split=split, output=tmp_path / "out", plots=False).results
    assert results["held_out"] is True
    for settings in ({"split": other}, {}):
        with pytest.raises(DataError, match=f"chosen on the split {fingerprint}"):
            train_probe(input=path, output=tmp_path / "no", **settings)
    sides = np.where(np.arange(120) % 5 == 0, "test", "train")
    own = write_npz(
        *numbers(), "own.npz", **CHOSEN, features_chosen_on=f"train:{fingerprint}",
        split=sides, split_fingerprint=fingerprint,
    )  # fmt: skip
    assert train_probe(input=own, output=tmp_path / "own", plots=False).results["held_out"] is True


@pytest.mark.parametrize(
    ("metadata", "says", "held_out"),
    [
        ({"features_chosen_on": "given", **CHOSEN}, "not known", None),
        (CHOSEN, "not known, so held_out is null", None),
        ({"features_chosen_on": "all rows", **CHOSEN}, "not known, so held_out is null", None),
        ({"method": "standardize", "mean": np.zeros(6), "std": np.ones(6), "fit_norm": "all"}, "mild leak", True),
    ],
)
def test_what_may_be_a_leak_is_noted_and_warned_of(metadata, says, held_out, write_npz, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="actlab"):
        results = train_probe(input=write_npz(*numbers(), **metadata), output=tmp_path / "out", plots=False).results
    assert results["held_out"] is held_out
    assert any(says in note for note in results["notes"])
    assert says in caplog.text


def test_a_split_through_the_middle_of_groups_is_a_leak(write_npz, tmp_path):
    sides = np.where(np.arange(120) % 2, "test", "train")
    path = write_npz(*numbers(), sentence_indices=np.arange(120) // 2, split=sides)
    with pytest.raises(DataError, match=r"through the middle of groups of rows \(60") as refused:
        train_probe(input=path, output=tmp_path / "out")
    assert "actlab split --input DATASET" in refused.value.hint
    assert "--allow-leak" in refused.value.hint
    split = make_split(input=path, output=tmp_path / "own.json").path
    assert train_probe(input=path, split=split, output=tmp_path / "out", plots=False).results["held_out"] is True


@pytest.mark.parametrize(
    ("confound", "says"),
    [({"n_tokens": np.arange(60) % 5 + 9}, "length"), ({"last_token_id": np.arange(60) % 3 + 50}, "last token")],
)
def test_a_planted_confound_is_warned_of(confound, says, write_dumps, tmp_path, caplog):
    folders = write_dumps(positive=confound)
    with caplog.at_level(logging.WARNING, logger="actlab"):
        results = train_probe(**folders, output=tmp_path / "out", plots=False).results
    (name,) = confound
    assert results["confounds"][name]["roc_auc"] > 0.8
    assert f"the {says} alone tells the classes apart" in caplog.text
    assert any(says in note for note in results["notes"])


def test_equal_lengths_and_tokens_are_no_confound(write_dumps, tmp_path):
    results = train_probe(**write_dumps(), output=tmp_path / "out", plots=False).results
    assert all(0.4 < one["roc_auc"] < 0.6 for one in results["confounds"].values())
    assert results["notes"] == []


@pytest.mark.parametrize(("name", "says"), [("n_tokens", "length"), ("last_token_id", "last token")])
def test_a_table_that_lacks_a_value_leaves_its_confound_out_and_says_so(name, says, write_dumps):
    folders = write_dumps(positive={name: [None, *range(59)]})
    config = ProbeConfig(positive=str(folders["positive"]), negative=str(folders["negative"]), output="x")
    samples = read_dumps(config)
    assert set(samples.confounds) == {"n_tokens", "last_token_id"} - {name}
    assert any(f"does not say each row's {says}:" in note for note in samples.notes)


def test_dumps_without_a_table_pair_rows_by_number_and_say_so(write_dumps, tmp_path):
    folders = write_dumps(positive={"table": False})
    results = train_probe(**folders, output=tmp_path / "out", plots=False).results
    assert results["layers"]["0"]["n_groups"] == 60
    assert "no examples.parquet" in results["notes"][0]


def test_the_same_input_gives_the_same_bytes_wherever_it_is_written(write_dumps, write_npz, tmp_path):
    folders = write_dumps(n=30, n_layers=2, planted=1)
    for place in ("a", "b"):
        train_probe(**folders, output=tmp_path / place / "dumps")
        train_probe(input=write_npz(*numbers(60)), output=tmp_path / f"{place}-npz")
    assert all_bytes(tmp_path / "a" / "dumps") == all_bytes(tmp_path / "b" / "dumps")
    assert all_bytes(tmp_path / "a-npz") == all_bytes(tmp_path / "b-npz")
    assert "training_time_sec" in (tmp_path / "a-npz.log.jsonl").read_text()


def test_a_second_run_with_the_same_settings_fits_nothing(npz, tmp_path, monkeypatch):
    first = train_probe(input=npz, output=tmp_path / "out", plots=False)

    def never(*_):
        raise AssertionError

    monkeypatch.setattr("actlab.features.probe.job.fit_probe", never)
    assert train_probe(input=npz, output=tmp_path / "out", plots=False) == first
    with pytest.raises(ActlabError, match="seed is 0 there and 1 here"):
        train_probe(input=npz, output=tmp_path / "out", plots=False, seed=1)


def test_nothing_that_is_written_is_a_pickled_object(npz, tmp_path):
    probe = train_probe(input=npz, output=tmp_path / "out")
    weight = torch.load(probe.path / "probe.pt", weights_only=True)
    assert weight.shape == (6,)
    suffixes = {path.suffix for path in probe.path.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".pt", ".safetensors", ".png"}
    assert not [name for name, data in all_bytes(probe.path).items() if b"sklearn" in data]


def test_a_class_that_the_test_rows_lack_gives_null_and_a_note(write_npz, tmp_path):
    X, y = numbers(120, classes=3)
    sides = np.where((np.arange(120) % 3 == 0) & (y < 2), "test", "train")
    results = train_probe(input=write_npz(X, y, split=sides), output=tmp_path / "out").results
    assert results["test_roc_auc"] is None
    assert results["test_roc_auc_interval"] is None
    assert results["test_f1"] is not None
    assert any("have no class 2" in note for note in results["notes"])


def test_a_class_that_only_the_test_rows_have_is_noted(write_npz, tmp_path):
    X, y = numbers(120, classes=3)
    sides = np.where((np.arange(120) % 3 == 0) | (y == 2), "test", "train")
    results = train_probe(input=write_npz(X, y, split=sides), output=tmp_path / "out").results
    assert any("training rows have no class 2" in note for note in results["notes"])
    assert results["cv_mean"] > 0.8


def _npz(X, y, **metadata):
    def make(write_npz, _):
        return {"input": write_npz(X, y, **metadata)}

    return make


def _dumps(**changes):
    return lambda _, write_dumps: write_dumps(**changes)


X, Y = numbers(40)
MALFORMED = {
    "one class": (_npz(X, np.zeros(40, int)), "nothing to tell apart"),
    "a constant target": (_npz(X, np.full(40, 0.5, np.float32)), "nothing to tell apart"),
    "several targets": (_npz(X, np.zeros((40, 3), np.float32)), "3 targets"),
    "fewer groups than folds": (_npz(X, Y, sentence_indices=np.arange(40) % 4), "4 groups are too few"),
    "a class a row": (_npz(X, np.arange(40)), "too few to hold some out"),
    "a split without test rows": (_npz(X, Y, split=np.full(40, "train")), "no rows to test on"),
    "a split of another length": (_npz(X, Y, split=np.full(30, "train")), "not one value a sample"),
    "one class to fit on": (_npz(X, Y, split=np.where(Y == 1, "test", "train")), "only one class"),
    "other widths": (_dumps(positive={"hidden_dim": 9}), "differ in hidden_dim"),
    "other models": (_dumps(positive={"model_name": "b/other"}), "differ in model_name: 'b/other'"),
    "an empty dump": (_dumps(n=0), "is empty"),
    "a table of other length": (lambda _, write: _with_short_table(write()), "60 rows and 7 examples"),
    "a row without a prompt": (_dumps(positive={"prompts": [None, *"p" * 59]}), "rows without a prompt_id"),
    "NaN in a layer": (lambda _, write: _with_nan(write()), "layer 1 holds NaN"),
    "features of no size": (_npz(X * 1e-40, Y), "float32"),
    "no dump": (lambda *_: {"positive": "nowhere", "negative": "nowhere/else"}, "holds no finished activations"),
    "no file": (lambda *_: {"input": "nowhere.npz"}, "there is no dataset"),
}


def _with_short_table(folders):
    table = pq.read_table(folders["positive"] / "examples.parquet")
    pq.write_table(table[:7], folders["positive"] / "examples.parquet")
    return folders


def _with_nan(folders):
    shard = folders["positive"] / "layer_01" / "shard_000.pt"
    shard.write_bytes(shard_bytes(torch.full((7, 8), float("nan"))))
    return folders


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_is_an_error_with_a_hint(name, write_npz, write_dumps, tmp_path):
    make, says = MALFORMED[name]
    with pytest.raises(ActlabError, match=says) as refused:
        train_probe(**make(write_npz, write_dumps), output=tmp_path / "out")
    assert refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_probe_for_classes_wants_classes(write_npz, tmp_path):
    X, y = numbers(60, classes=3)
    with pytest.raises(DataError, match="two classes apart, and y has 3"):
        train_probe(input=write_npz(X, y), output=tmp_path / "out", model_type="difference-of-means")
    with pytest.raises(DataError, match="needs classes"):
        train_probe(input=write_npz(X, y.astype(np.float32)), output=tmp_path / "out", model_type="logistic")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "nothing to read"),
        ({"input": "a.npz", "positive": "b"}, "one kind of input"),
        ({"positive": "b"}, "--negative is not given"),
        ({"positive": "b", "negative": "c", "split": "s.json"}, "--split names sentences"),
        ({"input": "a.npz", "layers": "0-3"}, "--layers is for dumps"),
        ({"input": "a.npz", "folds": 1}, "--folds 1"),
        ({"input": "a.npz", "test_size": 1.0}, "--test-size"),
        ({"input": "a.npz", "regularization": float("nan")}, "--regularization"),
        ({"input": "a.npz", "regularization": 1e300}, "--regularization 1e.300 is no strength"),
        ({"input": "a.npz", "regularization": 0.0}, "--regularization"),
        ({"input": "a.npz", "bootstrap": 0}, "--bootstrap"),
    ],
)
def test_wrong_settings_are_found_before_anything_is_read(settings, says):
    with pytest.raises(ConfigError, match=says):
        train_probe(output="out", **settings)


def test_a_plan_counts_and_writes_nothing(write_dumps, tmp_path):
    (plan,) = cost(train_probe, **write_dumps(), output=tmp_path / "out")
    counts = {"n_samples": 120, "n_groups": 60, "n_train": 96, "n_test": 24, "layers": (0, 1, 2, 3)}
    assert plan.details.items() >= counts.items()
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]


def test_the_command_line_prints_the_folder_or_json(npz, tmp_path):
    arguments = ["--input", str(npz), "--output", str(tmp_path / "out"), "--no-plots"]
    planned = CliRunner().invoke(train, [*arguments, "--dry-run"], catch_exceptions=False)
    assert "120 samples in 120 groups: 96 to fit on, 24 to test on" in planned.stdout
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert done.stdout == f"{tmp_path / 'out'}\n"
    again = CliRunner().invoke(train, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["results"]["n_samples_test"] == 24


def test_json_has_the_counts_of_a_plan_by_name_and_of_a_probe_its_folder_and_results(npz, tmp_path):
    arguments = ["--input", str(npz), "--output", str(tmp_path / "out"), "--no-plots", "--json"]
    planned = json.loads(CliRunner().invoke(train, [*arguments, "--dry-run"], catch_exceptions=False).stdout)
    names = ("model_type", "n_samples", "n_train", "n_test", "n_groups", "n_features", "layers", "held_out")
    assert [planned[name] for name in names] == ["logistic", 120, 96, 24, 120, 6, [], True]
    assert planned["bytes_of_memory"] == 4 * 8 * 120 * 6
    done = json.loads(CliRunner().invoke(train, arguments, catch_exceptions=False).stdout)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert done == {"path": str(tmp_path / "out"), "results": results}


def test_each_model_type_that_can_be_asked_for_is_there_and_reaches_its_scores():
    asked = typing.get_args(typing.get_type_hints(ProbeConfig)["model_type"])
    assert set(asked) == {"auto", *PROBE_TYPES}
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    for name, probe in PROBE_TYPES.items():
        y = (X[:, 0] > 0) if probe.target.metric == "roc_auc" else X[:, 0]
        classes = np.array([0, 1] if probe.target.metric == "roc_auc" else [], dtype=int)
        said = predicted(fitted(make_pipeline(name, 1.0), X, y.astype(float)), X, classes)
        scores = probe.target.scores(y, said, classes)
        assert probe.target.main(y, said, classes) == scores[probe.target.key] > 0.99
        assert {f"test_{one}" for one in probe.target.on_train} <= set(scores)
        assert f"{probe.target.key}_interval" in probe.target.intervals(y, said, classes, np.arange(60)).by_name


OLD = ("numpy==1.26.4", "scipy==1.12.0", "scikit-learn==1.4.2", "pandas==2.2.3", "pyarrow==15.0.2", "pytz")
TRAIN = """
import json, sys
import numpy, scipy, sklearn
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.compute.task import make_task
from actlab.features.probe.job import train_probe
from actlab.features.probe.source.dataset import read_datasets
from actlab.features.split.job import make_split

found = {"versions": [numpy.__version__, sklearn.__version__]}
for path in sys.argv[2:]:
    for model_type in ("ridge",) if "r.npz" in path else ("logistic", "ridge", "difference-of-means"):
        if "four" in path and model_type == "difference-of-means":
            continue
        output = f"{sys.argv[1]}/{path[-8:]}-{model_type}"
        config = ProbeConfig(input=path, output=output, model_type=model_type, plots=False)
        task = make_task(read_datasets(config)[0], config)
        results = train_probe(config).results
        rows = [one.tolist() for one in (task.test, *(fold.test for fold in task.folds), *task.shuffled)]
        found[f"{path} {model_type}"] = {"rows": rows, "results": results}
found["split"] = make_split(input=sys.argv[2], output=f"{sys.argv[1]}/s.json").splits.fingerprint
print(json.dumps(found))
"""


def numbers_in(value, where=""):
    """Yield every leaf of a JSON value with its place."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers_in(one, f"{where}/{key}")
    else:
        yield where, value


@pytest.mark.slow
def test_scikit_learn_1_4_with_numpy_1_26_gives_the_same_rows_and_figures(write_npz, tmp_path):
    """The old environment is built here, with its pins alone; all else is this environment's."""
    X, y = numbers(200, d=30)
    groups = np.random.default_rng(0).integers(0, 70, 200)
    wide = np.random.default_rng(1).standard_normal((200, 500)) + X[:, :1] / 30
    paths = [
        write_npz(X, y, "two.npz", sentence_indices=groups),
        write_npz(X, numbers(200, classes=4)[1], "four.npz"),
        write_npz(wide, y, "wide.npz"),
        write_npz(X, (X[:, 0] + X[:, 1]).astype(np.float32), "r.npz", n_tokens=groups),
    ]
    old = tmp_path / "old"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", old], check=True)
    pip = [sys.executable, "-m", "pip", "--python", old / "bin" / "python", "install", "--quiet", "--no-deps"]
    if (done := subprocess.run([*pip, *OLD], capture_output=True, text=True)).returncode:
        pytest.skip(f"the old environment cannot be built: {done.stderr[-300:]}")
    (site,) = (old / "lib").glob("python*/site-packages")
    (site / "zz_rest.pth").write_text(sysconfig.get_path("purelib") + "\n")  # after its own
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    found = []
    for name, python in (("new", sys.executable), ("old", old / "bin" / "python")):
        command = [python, "-c", TRAIN, tmp_path / f"out-{name}", *paths]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    new, old = found
    assert old.pop("versions") == ["1.26.4", "1.4.2"] != new.pop("versions")
    assert new["split"] == old["split"]
    pairs = zip(numbers_in(new), numbers_in(old), strict=True)
    for (where, here), (there_where, there) in pairs:
        assert where == there_where
        if isinstance(here, float) and here is not None:
            assert here == pytest.approx(there, abs=1e-6, rel=1e-6), where
        else:
            assert here == there, where
