"""Probes: what scikit-learn says when used directly, what was planted, and what must never leak."""

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from actlab.cli.probe import train
from actlab.features.probe.compute.estimators import DifferenceOfMeans, fitted, make_pipeline, raw_weights
from actlab.features.probe.compute.scores import calibration_error
from actlab.features.probe.compute.task import make_task
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.run import plan_probe, train_probe
from actlab.features.probe.source.dataset import read_datasets
from actlab.features.probe.source.dumps import read_dumps
from actlab.features.probe.source.samples import Affine
from actlab.formats.activations import EXAMPLES_SCHEMA, SEED_KEYS, shard_bytes
from actlab.formats.classifier import save_dataset
from actlab.formats.splits import Splits, splits_bytes
from actlab.ground.errors import ActlabError, ConfigError, DataError
from actlab.ground.storage import is_complete

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
        (CHOSEN, "not known", None),
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
    with pytest.raises(DataError, match=r"through the middle of groups of rows \(60"):
        train_probe(input=path, output=tmp_path / "out")


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

    monkeypatch.setattr("actlab.features.probe.run.fit_probe", never)
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
    "NaN in a layer": (lambda _, write: _with_nan(write()), "layer 1 holds NaN"),
    "features of no size": (_npz(X * 1e-40, Y), "float32"),
    "no dump": (lambda *_: {"positive": "nowhere", "negative": "nowhere/else"}, "holds no finished activations"),
    "no file": (lambda *_: {"input": "nowhere.npz"}, "is not there"),
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
        ({"input": "a.npz", "bootstrap": 0}, "--bootstrap"),
    ],
)
def test_wrong_settings_are_found_before_anything_is_read(settings, says):
    with pytest.raises(ConfigError, match=says):
        train_probe(output="out", **settings)


def test_a_plan_counts_and_writes_nothing(write_dumps, tmp_path):
    plan = plan_probe(**write_dumps(), output=tmp_path / "out")
    assert (plan.n_samples, plan.n_groups, plan.n_train, plan.n_test) == (120, 60, 96, 24)
    assert plan.layers == (0, 1, 2, 3)
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
