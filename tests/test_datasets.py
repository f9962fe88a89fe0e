"""X and y are what plain numpy reads from the same files; flags, keys and messages are the document's."""

import dataclasses
import functools
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import actlab
from actlab.features.sweep.config import SweepConfig
from actlab.formats.classifier import save_dataset
from actlab.formats.npz import NpzReader
from actlab.ground.errors import StorageError
from actlab.ground.options import from_settings, read_yaml
from actlab.ground.storage import Plan
from tests.command_line import fails_in_two_lines, run
from tests.damage import seal
from tests.fabricated import arrays_of, write_folder

ROOT = Path(__file__).parent.parent


def final_rows(folder: Path, key: str) -> np.ndarray:
    """The final rows of every file, by plain numpy."""
    rows = []
    for path in sorted(folder.glob("sentence_*.npz")):
        with np.load(path) as file:
            final = int(np.flatnonzero(file["is_final_token"])[0])
            rows.append(file[key][final] if file[key].ndim == 2 else file[key][:, final])
    return np.stack(rows)


def labels_of(folder: Path) -> list[int]:
    return [int(np.load(path)["concept_strength_label"]) for path in sorted(folder.glob("sentence_*.npz"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("sentences") / "dishonesty_100_features")


def generate(folder: Path, output: Path, **settings) -> actlab.ClassifierDataset:
    (made,) = actlab.generate_datasets(input=folder, output=output, **settings)
    return actlab.load_dataset(made.path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_X_and_y_are_what_numpy_reads(tmp_path, compressed, dtype, order):
    folder = write_folder(tmp_path / "in", 9, compressed=compressed, dtype=dtype, order=order)
    raw = {"normalize": "none"}
    embeddings, hidden, latents = (final_rows(folder, key) for key in ("embeddings", "hidden_states", "activations"))
    one = generate(folder, tmp_path / "1.npz", strategy="embedding-to-feature", target_layer=2, target_feature=7, **raw)
    assert (embeddings.astype(np.float32) == one.X).all()
    assert (one.y == latents[:, 2, 7].astype(np.float32)).all()
    two = generate(folder, tmp_path / "2.npz", strategy="hidden-to-feature", target_layer=1, target_feature=39, **raw)
    assert (hidden[:, 1].astype(np.float32) == two.X).all()
    assert (two.y == latents[:, 1, 39].astype(np.float32)).all()
    three = generate(folder, tmp_path / "3.npz", strategy="hidden-to-concept", layers="0-1,3", **raw)
    assert (hidden[:, [0, 1, 3]].astype(np.float32).reshape(9, -1) == three.X).all()
    assert three.y.tolist() == labels_of(folder)
    four = generate(
        folder, tmp_path / "4.npz", strategy="feature-to-concept", target_layer=0, target_features="5,2", **raw
    )
    assert (latents[:, 0][:, [5, 2]].astype(np.float32) == four.X).all()
    assert [value.dtype for value in (one.X, one.y, three.y)] == [np.float32, np.float32, np.int64]


def test_rows_all_and_mean_are_numpys(folder, tmp_path):
    files = [np.load(path) for path in sorted(folder.glob("*.npz"))]
    settings = {"strategy": "hidden-to-feature", "target_layer": 3, "target_features": "1,4", "normalize": "none"}
    every = generate(folder, tmp_path / "all.npz", rows="all", groups=True, **settings)
    assert (np.concatenate([file["hidden_states"][3] for file in files]) == every.X).all()
    assert (every.y == np.concatenate([file["activations"][3][:, [1, 4]] for file in files])).all()
    expected = [index for index, file in enumerate(files) for _ in file["is_final_token"]]
    assert every.metadata["groups"].tolist() == every.metadata["sentence_indices"].tolist() == expected
    mean = generate(folder, tmp_path / "mean.npz", rows="mean", **settings)
    np.testing.assert_allclose(mean.X, [file["hidden_states"][3].mean(0) for file in files], rtol=1e-5, atol=1e-6)


def test_the_input_layer_may_differ_from_the_targets(folder, tmp_path):
    made = generate(
        folder,
        tmp_path / "o.npz",
        strategy="hidden-to-feature",
        input_layer=0,
        target_layer=3,
        target_feature=2,
        normalize="none",
    )
    assert (final_rows(folder, "hidden_states")[:, 0] == made.X).all()
    assert (made.y == final_rows(folder, "activations")[:, 3, 2]).all()
    assert made.metadata["input_layers"].tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 30),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    constant=st.sampled_from([0.0, 0.1, -3.0, 1e5]),
)
def test_normalisation_is_scikit_learns_and_a_constant_column_is_zero(seed, n, scale, constant):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, 6)) * scale + rng.standard_normal(6)).astype(np.float32)
    X[:, 2] = np.float32(constant)
    for method, scaler in (("standardize", StandardScaler()), ("minmax", MinMaxScaler())):
        got, params = actlab.normalize_features(X, method)
        expected = scaler.fit_transform(X.astype(np.float64)).astype(np.float32)
        varied = [0, 1, 3, 4, 5] if n > 1 else []
        np.testing.assert_allclose(got[:, varied], expected[:, varied], rtol=1e-6, atol=1e-6)
        assert (got[:, 2] == 0).all(), "also where the computed deviation is 1e-10 and not 0"
        assert params["std" if method == "standardize" else "range"][2] == 1
        assert got.dtype == np.float32
        assert params["method"] == method
    raw, params = actlab.normalize_features(X, "none")
    assert (raw == X).all()
    assert params == {"method": "none"}


@pytest.mark.parametrize("value", [1e39, -1e39, float("inf"), float("nan")])
@pytest.mark.parametrize("method", ["standardize", "minmax", "none"])
def test_numbers_outside_float32_are_not_normalised(method, value):
    X = np.random.default_rng(0).normal(size=(6, 3))
    X[4, 1] = value
    with pytest.raises(actlab.ActlabError, match="NaN or a number too large for float32"):
        actlab.normalize_features(X, method)


@pytest.mark.parametrize(("method", "column"), [("minmax", [-3e38, 3e38]), ("standardize", [1e-50, 2e-50])])
def test_a_spread_outside_float32_is_refused_and_not_written_as_infinity_or_zero(method, column):
    X = np.array([[1.0, 2.0], column]).T
    with pytest.raises(actlab.ActlabError, match="column 1 of X varies by"):
        actlab.normalize_features(X, method)


def test_float64_columns_that_vary_by_rounding_only_are_constant():
    X = np.full((50, 1), 0.1) + np.random.default_rng(0).choice([0, 1.4e-17], (50, 1))
    scaled, params = actlab.normalize_features(X)
    assert (scaled == 0).all()
    assert params["std"] == 1


def test_with_a_split_the_normaliser_sees_the_train_rows_only(folder, tmp_path):
    content = {"kind": "splits", "train": [0, 1, 2, 3, 4, 5], "validation": [6], "test": [7, 8, 9, 10, 11]}
    (tmp_path / "splits.json").write_text(json.dumps(content))
    settings = {"strategy": "hidden-to-concept", "layer": 1, "split": tmp_path / "splits.json"}
    made = generate(folder, tmp_path / "o.npz", **settings)
    raw = final_rows(folder, "hidden_states")[:, 1]
    expected = StandardScaler().fit(raw[:6].astype(np.float64)).transform(raw.astype(np.float64))
    np.testing.assert_allclose(made.X, expected, rtol=1e-5, atol=1e-6)
    assert made.metadata["split"].tolist() == ["train"] * 6 + ["validation"] + ["test"] * 5
    assert made.metadata["fit_norm"] == "train"
    everywhere = generate(folder, tmp_path / "all.npz", fit_norm="all", **settings)
    np.testing.assert_allclose(
        everywhere.X, StandardScaler().fit_transform(raw.astype(np.float64)), rtol=1e-5, atol=1e-6
    )


def test_the_file_has_every_documented_key(folder, tmp_path):
    common = {"strategy", "input_source", "input_layers", "input_dims", "n_samples", "sentence_indices"}
    target = {"target_layer", "target_feature", "average_l0"}
    for strategy, chosen, own in (
        ("embedding-to-feature", {"target_layer": 2, "target_feature": 3}, target),
        ("hidden-to-feature", {"target_layer": 2, "target_feature": 3}, target),
        ("hidden-to-concept", {"layer": 2}, {"n_classes"}),
    ):
        for normalize, norm in (("standardize", {"mean", "std"}), ("minmax", {"min", "max"}), ("none", set())):
            path = tmp_path / f"{strategy}_{normalize}.npz"
            generate(folder, path, strategy=strategy, normalize=normalize, **chosen)
            with np.load(path, allow_pickle=False) as file:
                assert {f"meta_{key}" for key in common | own} <= set(file.files)
                assert {f"norm_{key}" for key in norm | {"method"}} <= set(file.files)
                assert str(file["norm_method"]) == normalize
                assert str(file["meta_strategy"]) == strategy
                assert file["meta_strategy"].ndim == 0
                assert file["meta_n_samples"] == 12
                assert file["meta_sentence_indices"].tolist() == list(range(12))
                if own is target:
                    assert (file["meta_target_layer"], file["meta_target_feature"]) == (2, 3)
                    assert file["meta_average_l0"] == 72


def test_final_rows_that_a_reader_writes_into_are_read_again_as_they_were(folder):
    data = actlab.get_final_token_data(actlab.load_all_sentences(folder))
    for key in data:
        before = data[key].copy()
        data[key][:] = 7
        assert np.array_equal(data[key], before)


def test_a_sentences_tokens_cannot_be_changed_for_the_next_reader(folder):
    sentence = actlab.load_all_sentences(folder)[0]
    assert isinstance(sentence.token_texts, tuple)
    assert "".join(sentence.token_texts) == sentence.text


def test_the_documents_python_example_runs_but_for_its_import(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from actlab import get_final_token_data, load_all_sentences, normalize_features, parse_layers_arg, save_dataset

    sentences = load_all_sentences(str(folder))
    data = get_final_token_data(sentences)
    embeddings = data["embeddings"]
    hidden_states = data["hidden_states"]
    labels = data["labels"]
    layers = parse_layers_arg("0-1,3")
    X = hidden_states[:, layers, :].reshape(len(hidden_states), -1)
    X_norm, norm_params = normalize_features(X, method="standardize")
    metadata = {
        "strategy": "custom",
        "input_source": "hidden_states",
        "input_layers": layers,
        "input_dims": X.shape[1],
        "n_samples": len(X),
    }
    metadata.update(norm_params)
    save_dataset(X_norm, labels, metadata, "custom_dataset.npz")

    assert embeddings.shape == (12, 8)
    with np.load("custom_dataset.npz") as file:
        assert {"meta_strategy", "meta_input_layers", "norm_method", "norm_mean", "norm_std"} <= set(file.files)
        assert "meta_mean" not in file.files
        assert (file["X"] == X_norm).all()
    read = actlab.load_dataset("custom_dataset.npz")
    assert read.metadata["input_layers"].tolist() == [0, 1, 3]
    assert (read.metadata["mean"] == norm_params["mean"]).all()
    assert (data["activations"] == final_rows(folder, "activations")).all()


def test_files_of_the_older_dialect_open_too(tmp_path):
    X = np.eye(3, dtype=np.float32)
    np.savez(
        tmp_path / "old.npz",
        X=X,
        y=np.arange(3),
        meta_strategy="hidden-to-concept",
        meta_method="standardize",
        meta_mean=np.ones(3),
        meta_std=np.ones(3),
        meta_normalization="standardize",
    )
    read = actlab.load_dataset(tmp_path / "old.npz")
    assert read.metadata["method"] == "standardize"
    assert read.metadata["mean"].tolist() == [1, 1, 1]
    X_again, y, metadata = read
    assert (X_again == X).all()
    assert len(read.to_torch()) == len(y) == 3
    assert metadata["strategy"] == "hidden-to-concept"


def test_parquet_holds_the_same(folder, tmp_path):
    settings = {"strategy": "hidden-to-feature", "target_layer": 0, "target_features": "1,2"}
    one = generate(folder, tmp_path / "o.npz", **settings)
    other = generate(folder, tmp_path / "o.parquet", **settings)
    assert (one.X == other.X).all()
    assert (one.y == other.y).all()
    same = set(one.metadata) - {"manifest"}
    assert all(np.array_equal(one.metadata[key], other.metadata[key]) for key in same)


def test_a_layer_with_several_saes_needs_its_average_l0(tmp_path):
    folder = write_folder(tmp_path / "in", layers=(2, 2, 5), l0s=(20, 80, 60))
    settings = {"strategy": "hidden-to-feature", "target_layer": 2, "target_feature": 3, "normalize": "none"}
    with pytest.raises(actlab.ActlabError, match="layer 2 has 2 SAEs") as error:
        generate(folder, tmp_path / "o.npz", **settings)
    assert "20, 80" in error.value.hint
    with pytest.raises(actlab.ActlabError, match="average_l0 mismatch"):
        generate(folder, tmp_path / "o.npz", average_l0=30, **settings)
    made = generate(folder, tmp_path / "o.npz", average_l0=80, **settings)
    assert (made.y == final_rows(folder, "activations")[:, 1, 3]).all()
    hidden = generate(folder, tmp_path / "h.npz", strategy="hidden-to-concept", layer=2, normalize="none")
    assert (final_rows(folder, "hidden_states")[:, 0] == hidden.X).all()


def write_ranking(path: Path, rows: list[tuple[int, int, int]], ranked_on: str = "all") -> Path:
    lines = ["rank,layer,average_l0,feature_id,neuronpedia_url,interpretability_score,pearson_corr,ranked_on"]
    lines += [f"{k + 1},{layer},{l0},{feature},,0.9,0.8,{ranked_on}" for k, (layer, l0, feature) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_features_of_a_ranking_make_a_file_each_or_the_columns_of_one(folder, tmp_path):
    ranking = write_ranking(tmp_path / "r.csv", [(3, 73, 8), (0, 70, 5), (3, 73, 1)])
    latents = final_rows(folder, "activations")
    made = actlab.generate_datasets(
        strategy="hidden-to-feature",
        input=folder,
        features_from=ranking,
        top=2,
        normalize="none",
        output=tmp_path / "d_h{layer}_to_f{feature}.npz",
    )
    assert [one.path.name for one in made] == ["d_h3_to_f8.npz", "d_h0_to_f5.npz"]
    assert (actlab.load_dataset(made[1].path).y == latents[:, 0, 5]).all()
    with pytest.raises(actlab.ActlabError, match="two datasets would be named"):
        actlab.generate_datasets(
            strategy="hidden-to-feature", input=folder, features_from=ranking, top=2, output=tmp_path / "d.npz"
        )
    concept = generate(
        folder, tmp_path / "c.npz", strategy="feature-to-concept", features_from=ranking, top=3, normalize="none"
    )
    assert (np.stack([latents[:, 3, 8], latents[:, 0, 5], latents[:, 3, 1]], 1) == concept.X).all()
    assert concept.metadata["features_chosen_on"] == "all"


def test_a_sweep_reads_each_file_once_and_makes_what_single_runs_make(folder, tmp_path, monkeypatch):
    opened: list[str] = []
    enter = NpzReader.__enter__
    monkeypatch.setattr(NpzReader, "__enter__", lambda self: opened.append(self.path.name) or enter(self))
    made = actlab.sweep_datasets(
        input=folder,
        output=tmp_path / "{input}_{name}_{normalize}",
        strategy=["embedding-to-feature", "hidden-to-feature", "hidden-to-concept"],
        layers=["0-2", "1"],
        target=["3:7", "1:2"],
        normalize=["standardize", "none"],
    )
    assert len(made) == 12
    assert len(opened) == 3 * 12, "once for its facts, its text and its rows, and not once a dataset"
    one = actlab.load_dataset(tmp_path / "dishonesty_100_features_h0-2_to_concept_standardize.npz")
    alone = generate(folder, tmp_path / "alone.npz", strategy="hidden-to-concept", layers="0-2")
    assert (one.X == alone.X).all()
    assert one.metadata["manifest"] == alone.metadata["manifest"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("workflow_*.yaml")), ids=lambda path: path.stem)
def test_the_documents_workflows_are_one_config_each(path, tmp_path):
    config = from_settings(SweepConfig, read_yaml(str(path)))
    names = []
    for trait in config.input:
        here = write_folder(
            tmp_path / Path(trait).name, 4, layers=tuple(range(26)), width=4, n_features=16384, compressed=True
        )
        names.append(str(here))
    settings = dataclasses.replace(config, input=tuple(names), output=f"{tmp_path}/out/{Path(config.output).name}")
    if config.features_from is not None:
        ranking = write_ranking(tmp_path / "r.csv", [(12, 82, 10 * k) for k in range(5)])
        settings = dataclasses.replace(settings, features_from=str(ranking))
    made = actlab.sweep_datasets(settings)
    expected = {
        "workflow_1_all_strategies": 4,
        "workflow_2_layers": 7,
        "workflow_3_normalization": 3,
        "workflow_4_traits": 5,
        "workflow_5_top_features": 5,
    }
    assert len(made) == expected[path.stem]
    assert all(actlab.load_dataset(one.path).X.size for one in made)


DOCUMENT_LINES = [
    "--strategy embedding-to-feature --target-layer 12 --target-feature 1234 --output g/emb_to_l12_f1234.npz",
    "--strategy embedding-to-feature --target-layer 12 --target-feature 1234 --normalize minmax --output g/minmax.npz",
    "--strategy hidden-to-feature --target-layer 15 --target-feature 8923 --normalize none --output g/raw.npz",
    "--strategy hidden-to-concept --layer 12 --output g/dishonesty_h12_to_concept.npz",
    "--strategy hidden-to-concept --layers 0-2,10,15-17 --output g/dishonesty_mixed.npz",
]


def test_the_documents_command_lines_run_on_its_shapes(tmp_path):
    folder = write_folder(
        tmp_path / "s1" / "dishonesty_100_features",
        5,
        layers=tuple(range(26)),
        width=2048,
        n_features=16384,
        compressed=True,
    )
    for line in DOCUMENT_LINES:
        done = run("generate-datasets", *line.split(), "--input", folder, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        path = tmp_path / done.stdout.strip()
        assert "Only 5 samples (expected ~100)" in done.stderr
        X = np.load(path)["X"]
        n_layers = 7 if "mixed" in path.name else 1
        assert X.shape == (5, n_layers * 2048)
    for arguments, says in (
        (["--layer", 40], "Layer 40 not found in data"),
        (["--layers", "0-40"], "Layer 26 not found in data"),
        (["--layer", -1], "--layer -1 is not an index"),
        (["--layer", 1, "--layers", "1"], "needs --layer or --layers"),
        ([], "needs --layer or --layers"),
    ):
        done = run(
            "generate-datasets", "--strategy", "hidden-to-concept", "--input", folder, "--output", "x.npz", *arguments
        )
        fails_in_two_lines(done, 2, says)
    done = run(
        *("generate-datasets", "--strategy", "hidden-to-feature", "--input", folder, "--output", "x.npz"),
        *("--target-layer", 3, "--target-feature", 16384),
    )
    fails_in_two_lines(done, 2, "Feature index must be 0-16383")
    (tmp_path / "empty").mkdir()
    done = run(
        "generate-datasets",
        "--strategy",
        "hidden-to-concept",
        "--layer",
        1,
        "--input",
        tmp_path / "empty",
        "--output",
        "x",
    )
    fails_in_two_lines(done, 2, "No sentence_*.npz files found")


def test_the_same_again_is_done_another_is_refused_and_overwrite_replaces(folder, tmp_path):
    settings = {"strategy": "hidden-to-concept", "layer": 1}
    generate(folder, tmp_path / "o.npz", **settings)
    before = (tmp_path / "o.npz").read_bytes()
    stamp = (tmp_path / "o.npz").stat().st_mtime_ns
    generate(folder, tmp_path / "o.npz", **settings)
    assert (tmp_path / "o.npz").stat().st_mtime_ns == stamp
    with pytest.raises(actlab.ActlabError, match="made with other settings or inputs: normalize is 'standardize'"):
        generate(folder, tmp_path / "o.npz", normalize="none", **settings)
    assert (tmp_path / "o.npz").read_bytes() == before
    generate(folder, tmp_path / "o.npz", normalize="none", overwrite=True, **settings)
    generate(folder, tmp_path / "again.npz", **settings)
    assert (tmp_path / "again.npz").read_bytes() == before


def test_nothing_but_actlabs_own_datasets_is_overwritten(tmp_path):
    folder = write_folder(tmp_path / "in", 5)
    np.savez(tmp_path / "mine.npz", X=np.eye(2), y=np.arange(2), my_only_copy=np.arange(9))
    for victim in (folder / "sentence_000001.npz", tmp_path / "mine.npz"):
        before = victim.read_bytes()
        with pytest.raises(actlab.ActlabError, match="was not made by actlab generate-datasets"):
            generate(folder, victim, strategy="hidden-to-concept", layer=1, overwrite=True)
        assert victim.read_bytes() == before


def test_the_best_ranks_are_taken_whatever_the_order_of_the_rows(folder, tmp_path):
    ranking = write_ranking(tmp_path / "r.csv", [(3, 73, 8), (0, 70, 5), (2, 72, 1)])
    header, *rows = ranking.read_text().splitlines()
    ranking.write_text("\n".join([header, *reversed(rows)]) + "\n")
    made = generate(folder, tmp_path / "o.npz", strategy="feature-to-concept", features_from=ranking, top=2)
    assert made.metadata["input_features"].tolist() == [8, 5]


def test_files_that_a_sealed_folder_lost_or_that_changed_are_counted(tmp_path):
    folder = write_folder(tmp_path / "in", 6)
    (folder / "metadata.json").write_text("{}")
    seal(folder, "sentence-features")
    assert not actlab.load_all_sentences(folder).lost
    (folder / "sentence_000002.npz").unlink()
    np.savez(folder / "sentence_000004.npz", **arrays_of(3, n_rows=9))
    (made,) = actlab.generate_datasets(
        input=folder, strategy="hidden-to-concept", layer=1, output=tmp_path / "o.npz", quiet=True
    )
    assert made.n_dropped == 2
    assert actlab.load_dataset(made.path).metadata["sentence_indices"].tolist() == [0, 2, 4, 5]


def test_warnings_name_a_dead_target_one_class_and_many_columns(folder, tmp_path, caplog):
    one_class = tmp_path / "one"
    one_class.mkdir()
    for index in range(3):
        arrays = arrays_of(index, width=64, label=2)
        arrays["activations"][:, :, 9] = 0
        np.savez(one_class / f"sentence_{index + 1:06d}.npz", **arrays)
    generate(one_class, tmp_path / "a.npz", strategy="hidden-to-concept", layer=1)
    generate(one_class, tmp_path / "b.npz", strategy="hidden-to-feature", target_layer=1, target_feature=9)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "every sample has the label 2" in said
    assert "feature 9 of layer 1 is 0 in every sample" in said
    assert "64 columns and only 3 samples" in said


class Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


@functools.cache
def zip_bomb(path: Path) -> bytes:
    """The sentence file with 60 MB of zeros for its activations; the same each time, so packed once."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in np.load(path).items():
            with archive.open(f"{key}.npy", "w") as member:
                big = np.zeros((4, 5, 3_000_000), np.uint8) if key == "activations" else value
                np.lib.format.write_array(member, big)
    return packed.getvalue()


def mutate(path: Path, kind: str, rng: np.random.Generator) -> None:
    """Spoil one sentence file in a way drawn from `rng`."""
    arrays = dict(np.load(path))
    names = ["is_final_token", "layers", "average_l0s", "embeddings", "hidden_states", "activations"]
    name = names[rng.integers(len(names))]
    if kind == "truncated":
        data = path.read_bytes()
        path.write_bytes(data[: rng.integers(0, len(data) - 100)])
        return
    if kind == "zip bomb":
        path.write_bytes(zip_bomb(path))
        return
    if kind == "wrong shape":
        value = arrays[name]
        arrays[name] = value[..., :-1] if rng.random() < 0.5 else value[None]
    elif kind == "missing key":
        del arrays[name]
    elif kind == "object array":
        value = np.empty(arrays[name].shape, dtype=object)
        value[...] = Payload()
        arrays[name] = value
    elif kind == "text for numbers":
        arrays[name] = arrays[name].astype(str)
    elif kind == "NaN":
        name = names[3 + rng.integers(3)]
        value = arrays[name]
        value[...] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == "NaN label":
        arrays["concept_strength_label"] = np.array(rng.choice([np.nan, np.inf]))
    elif kind == "duplicate index":
        arrays["sentence_index"] = np.array(0)
    elif kind == "other layers":
        arrays["layers"] = arrays["layers"] + 1
    elif kind == "one layer twice":
        arrays["layers"][:] = 0
        arrays["average_l0s"][:] = 10
    elif kind == "no final row":
        arrays["is_final_token"][:] = False
    elif kind == "fewer layers":
        for key in ("layers", "average_l0s", "hidden_states", "activations"):
            arrays[key] = arrays[key][:-1]
    np.savez(path, **arrays)


KINDS = (
    *("truncated", "wrong shape", "missing key", "object array", "text for numbers", "NaN", "NaN label"),
    *("duplicate index", "other layers", "one layer twice", "no final row", "fewer layers", "zip bomb"),
)


def test_300_malformed_files_each_cost_themselves_or_stop_the_run_by_name(tmp_path):
    rng = np.random.default_rng(0)
    good = write_folder(tmp_path / "good", 4, n_features=20)
    hidden, latents = final_rows(good, "hidden_states"), final_rows(good, "activations")
    embeddings = final_rows(good, "embeddings")
    dropped = dict.fromkeys(KINDS, 0)
    for number in range(300):
        folder = tmp_path / "work"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        kind = KINDS[number % len(KINDS)]
        mutate(folder / "sentence_000003.npz", kind, rng)
        strategy = ("embedding-to-feature", "hidden-to-feature", "hidden-to-concept")[number % 3]
        wanted = {"layers": "1,3"} if strategy == "hidden-to-concept" else {"target_layer": 2, "target_feature": 7}
        output = folder / "o.npz"
        try:
            (made,) = actlab.generate_datasets(
                strategy=strategy, input=folder, output=output, normalize="none", quiet=True, **wanted
            )
        except actlab.ActlabError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert "sentence_000003.npz" in refused, kind
            assert not output.exists()
            continue
        read = actlab.load_dataset(output)
        kept = read.metadata["sentence_indices"].tolist()
        assert kept in ([0, 1, 3], [0, 1, 2, 3]), kind
        assert (len(kept) == 3) == (made.n_dropped == 1), "what is dropped is counted"
        dropped[kind] += made.n_dropped
        X = {"embedding": embeddings, "hidden": hidden[:, 2]}.get(strategy.split("-")[0])
        X = hidden[:, [1, 3]].reshape(4, -1) if strategy == "hidden-to-concept" else X
        assert (X[kept] == read.X).all(), "no wrong number is written"
        if strategy != "hidden-to-concept":
            assert (read.y == latents[kept, 2, 7]).all()
        if made.n_dropped:
            reasons = json.loads(read.metadata["manifest"])["dropped"]
            assert list(reasons) == ["sentence_000003.npz"]
            assert str(tmp_path) not in read.metadata["manifest"]
    assert not Payload.ran
    always = set(KINDS) - {"object array", "missing key", "text for numbers", "wrong shape", "NaN"}
    assert all(
        dropped[kind] == 300 // len(KINDS) + (place < 300 % len(KINDS))
        for place, kind in enumerate(KINDS)
        if kind in always
    )
    assert all(dropped[kind] >= 5 for kind in KINDS), "of the others, those whose spoilt array is read"


def test_bad_files_make_the_exit_status_3_or_stop_the_run(tmp_path):
    folder = write_folder(tmp_path / "in", 5)
    mutate(folder / "sentence_000002.npz", "no final row", np.random.default_rng(0))
    line = ("generate-datasets", "--strategy", "hidden-to-concept", "--layer", 1, "--input", folder)
    done = run(*line, "--output", tmp_path / "o.npz")
    assert done.returncode == 3
    assert "sentence_000002.npz" in done.stderr
    again = run(*line, "--output", tmp_path / "o.npz")
    assert again.returncode == 3, "the status is repeated"
    done = run(*line, "--output", tmp_path / "p.npz", "--on-bad", "error")
    assert done.returncode == 1
    assert not (tmp_path / "p.npz").exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_is_the_outputs_size_and_little_more(compressed, tmp_path):
    """Eight files of 34 MB: holding one array whole would show."""
    folder = tmp_path / "in"
    folder.mkdir()
    arrays = arrays_of(0, n_rows=20, layers=tuple(range(26)), width=64, n_features=16384)
    save = np.savez_compressed if compressed else np.savez
    save(folder / "sentence_000001.npz", **arrays)
    for number in range(2, 9):
        target = folder / f"sentence_{number:06d}.npz"
        save(target, **(arrays | {"sentence_index": np.array(number - 1)}))
    code = (
        "import resource, actlab, numpy, sklearn.preprocessing, actlab.features.datasets.job\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"s = dict(strategy='hidden-to-feature', input={str(folder)!r}, target_layer=12, target_feature=3)\n"
        "before = peak()\n"
        f"actlab.generate_datasets(output={str(tmp_path / 'o.npz')!r}, **s)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 25_000, "kilobytes; one file's activations are 34 MB"


STRATEGIES = {
    "embedding-to-feature": {"target_layer": 2, "target_feature": 3},
    "hidden-to-feature": {"target_layer": 2, "target_feature": 3},
    "hidden-to-concept": {"layer": 2},
    "feature-to-concept": {"target_layer": 2, "target_features": "3,4"},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rows", ["final", "all", "mean"])
def test_every_dataset_says_each_samples_length_and_last_token(folder, tmp_path, strategy, rows):
    made = generate(folder, tmp_path / "o.npz", strategy=strategy, rows=rows, **STRATEGIES[strategy])
    n_tokens, tokens = [], []
    for index in range(12):
        n = 3 + index % 4
        kept = range(n) if rows == "all" else [n - 1]
        n_tokens += [row + 1 for row in kept]
        tokens += [f"{' ' if row else ''}word{index}_{row}" for row in kept]
    assert made.metadata["n_tokens"].tolist() == n_tokens
    assert made.metadata["last_token"].tolist() == tokens
    assert made.metadata["text_groups"].tolist() == made.sentence_indices.tolist()


def test_the_length_is_the_sentence_s_where_only_its_last_row_is_kept(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(6):
        arrays = arrays_of(index, n_rows=1)
        arrays["fragments"] = np.array([f"a text of many words {index}"])
        arrays["fragment_lengths"] = np.array([7 + index])
        np.savez(folder / f"sentence_{index + 1:06d}.npz", **arrays)
    made = generate(folder, tmp_path / "o.npz", strategy="hidden-to-concept", layer=1)
    assert made.metadata["n_tokens"].tolist() == [7, 8, 9, 10, 11, 12]
    assert "last_token" not in made.metadata, "the token before it is not there, so nobody knows where it begins"


def test_files_of_other_programs_without_fragments_count_their_rows(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(4):
        arrays = arrays_of(index, n_rows=3 + index)
        for key in ("fragments", "fragment_lengths", "sentence"):
            del arrays[key]
        np.savez(folder / f"sentence_{index + 1:06d}.npz", **arrays)
    made = generate(folder, tmp_path / "o.npz", strategy="hidden-to-concept", layer=1)
    assert made.metadata["n_tokens"].tolist() == [3, 4, 5, 6]
    assert "last_token" not in made.metadata
    assert made.metadata["text_groups"].tolist() == [0, 1, 2, 3]


def test_near_equal_texts_are_one_group_also_without_a_split(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(8):
        arrays = arrays_of(index)
        text = f"the {['bear', 'lake', 'moon', 'rock'][index // 2] * 5} is where I told the truth" + "!" * (index % 2)
        arrays["sentence"] = np.array(text)
        np.savez(folder / f"sentence_{index + 1:06d}.npz", **arrays)
    made = generate(folder, tmp_path / "o.npz", strategy="feature-to-concept", target_layer=0, target_features="1,2")
    assert made.metadata["text_groups"].tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    assert made.together.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_near_equal_texts_of_another_script_are_one_group_and_the_identity_names_their_rule(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(8):
        arrays = arrays_of(index)
        place = ["山上的旧庙", "城里的书店", "河边的小船", "海边的灯塔"][index // 2]
        arrays["sentence"] = np.array(f"{place}在大雨之后显得格外安静，门口没有一个人{'说' if index % 2 else '讲'}话。")
        np.savez(folder / f"sentence_{index + 1:06d}.npz", **arrays)
    made = generate(folder, tmp_path / "o.npz", strategy="hidden-to-concept", layer=1)
    assert made.metadata["text_groups"].tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    manifest = json.loads(made.metadata["manifest"])
    assert manifest["identity"]["versions"] == {"near_duplicates": 2}
    identity = {key: value for key, value in manifest["identity"].items() if key != "versions"}
    before = Plan(manifest["kind"], identity, manifest["inputs"])  # of the version that had one rule for all
    metadata = made.metadata | {
        "manifest": json.dumps(manifest | {"identity": identity, "fingerprint": before.fingerprint})
    }
    save_dataset(made.X, made.y, metadata, tmp_path / "o.npz")
    with pytest.raises(StorageError, match="made by another version of actlab: versions"):
        generate(folder, tmp_path / "o.npz", strategy="hidden-to-concept", layer=1)


def test_what_a_dataset_says_of_its_samples_adds_nothing_to_its_identity(folder, tmp_path):
    made = generate(folder, tmp_path / "o.npz", strategy="hidden-to-concept", layer=1)
    identity = json.loads(made.metadata["manifest"])["identity"]
    assert set(identity) == {
        *("strategy", "rows", "input_layers", "features", "features_chosen_on"),
        *("normalize", "fit_norm", "groups", "format"),
    }
