"""A planted concept is found, noise is not, and every figure is what SciPy, scikit-learn or a loop says."""

import csv
import hashlib
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.axes import Axes
from PIL import Image
from sklearn.metrics import roc_auc_score

from actlab.cli.rank_features import command
from actlab.features.rank.compute.columns import columns_of
from actlab.features.rank.compute.ranking import permuted_labels
from actlab.features.rank.compute.statistics import describe
from actlab.features.rank.job import rank_features
from actlab.formats.ranking import DOCUMENT_COLUMNS, read_ranking
from actlab.formats.sentences.file import sentence_name
from actlab.formats.sentences.folder import load_all_sentences
from actlab.formats.sentences.write import NewSentence, write_sentence
from actlab.formats.splits import Splits, splits_bytes, text_id
from actlab.ground.errors import ActlabError, ConfigError, DataError, StorageError
from actlab.ground.job import cost
from actlab.ground.seeds import derive_seed
from tests.damage import seal
from tests.folders import hashes

LAYERS = (3, 3, 12)
L0S = (20, 80, 60)
N_FEATURES = 50
PLANTED = 17
CAPTION = "label {} of sentence {}"


def make_sentence(index: int, label: float, acts_crf: np.ndarray, layers=LAYERS, l0s=L0S) -> NewSentence:
    n_configs, n_rows, n_features = acts_crf.shape
    words = [*CAPTION.format(label, index).split(), "$x", "\n", "and", "more", "words", "to", "fill"]
    fragments = [" ".join(words[: row + 1]) for row in range(n_rows)]
    return NewSentence(
        index=index,
        text=fragments[-1],
        label=label,
        fragments=fragments,
        token_positions=range(1, n_rows + 1),
        fragment_lengths=range(1, n_rows + 1),
        is_final=np.arange(n_rows) == n_rows - 1,
        embeddings_rd=np.zeros((n_rows, 2), np.float32),
        hidden_crd=np.zeros((n_configs, n_rows, 2), np.float32),
        layers=layers,
        average_l0s=l0s,
        latents=scipy.sparse.csr_array(acts_crf.reshape(-1, n_features)),
    )


def spoil(path: Path, spoiled) -> None:
    """Write a file again, its activations through a function: actlab itself writes none that are not finite."""
    with np.load(path) as file:
        arrays = dict(file)
    arrays["activations_data"] = spoiled(arrays["activations_data"])
    np.savez(path, **arrays)


def write_folder(folder: Path, labels, *, planted: bool = True, sparse: bool = True, n_rows: int = 7) -> Path:
    """Write one sentence a label: random sparse features, and in layer 12 one that follows the label."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index, label in enumerate(labels):
        shape = (len(LAYERS), n_rows, N_FEATURES)
        acts_crf = (rng.random(shape) < 0.1) * rng.gamma(2, 1, shape)
        if planted:
            acts_crf[2, -1, PLANTED] = max(0.0, label + rng.normal(0, 0.2))
        with (folder / sentence_name(index)).open("wb") as file:
            write_sentence(
                file, make_sentence(index, label, acts_crf.astype(np.float32)), sparse=sparse, dtype="float32"
            )
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "in", [index % 4 for index in range(80)])


def check_against_the_slow_way(dense_nf: np.ndarray, label_n: np.ndarray) -> None:
    columns = columns_of(scipy.sparse.csc_array(dense_nf))
    found = describe(columns, label_n)
    assert columns.feature_s.tolist() == np.flatnonzero((dense_nf != 0).any(axis=0)).tolist()
    threshold_s = columns.percentile(95, label_n == label_n.min())
    low, high = label_n.min(), label_n.max()
    close = {"rtol": 1e-7, "atol": 1e-9}
    for s, feature in enumerate(columns.feature_s):
        x = dense_nf[:, feature].astype(np.float64)
        low_x, high_x = x[label_n == low], x[label_n == high]
        threshold = np.percentile(low_x, 95)
        np.testing.assert_allclose(threshold_s[s], threshold, **close)
        assert found.scores.tpr_s[s] == (high_x > threshold).mean()
        assert found.scores.fpr_s[s] == (low_x > threshold).mean()
        np.testing.assert_allclose(found.auroc_s[s], roc_auc_score(label_n > (low + high) / 2, x), **close)
        means = [x[label_n == label].mean() for label in np.unique(label_n)]
        np.testing.assert_allclose(found.mean_sl[s], means, **close)
        assert found.n_active_s[s] == np.count_nonzero(x)
        if (x == x[0]).all():
            assert found.scores.pearson_s[s] == found.spearman_s[s] == found.scores.separation_s[s] == 0
            assert found.monotonic_s[s]
            assert found.cohens_d_s[s] == 0
            assert found.p_value_s[s] == 1
            continue
        separation = (high_x.mean() - low_x.mean()) / x.std()
        np.testing.assert_allclose(found.scores.separation_s[s], separation, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.scores.pearson_s[s], scipy.stats.pearsonr(x, label_n)[0], **close)
        rho, p_value = scipy.stats.spearmanr(x, label_n)
        np.testing.assert_allclose(found.spearman_s[s], rho, **close)
        np.testing.assert_allclose(found.p_value_s[s], p_value, rtol=1e-5, atol=1e-12)
        n_degrees = len(high_x) + len(low_x) - 2
        squares = ((high_x - high_x.mean()) ** 2).sum() + ((low_x - low_x.mean()) ** 2).sum()
        if squares > 1e-12:
            cohens_d = (high_x.mean() - low_x.mean()) / np.sqrt(squares / n_degrees)
            np.testing.assert_allclose(found.cohens_d_s[s], cohens_d, rtol=1e-6, atol=1e-7)
        score = (
            0.4 * found.scores.pearson_s[s] + 0.3 * separation + 0.3 * (found.scores.tpr_s[s] - found.scores.fpr_s[s])
        )
        np.testing.assert_allclose(found.scores.score_s[s], score, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("decimals", [0, 6])
@pytest.mark.parametrize("shift", [0.0, 1.5], ids=["negative too", "mostly positive"])
def test_every_figure_is_what_scipy_and_scikit_learn_say(density, decimals, shift):
    rng = np.random.default_rng(1)
    dense_nf = np.round(rng.normal(shift, 1, (61, 40)), decimals) * (rng.random((61, 40)) < density)
    dense_nf[:, 5] = 2.5
    dense_nf[:, 6] = np.arange(61) % 4
    check_against_the_slow_way(dense_nf.astype(np.float32), np.arange(61) % 4 + 0.0)


values = st.one_of(st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 2.0]), st.floats(-100, 100, width=16))


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(4, 12), st.just(3)), elements=values),
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=12, max_size=12),
)
def test_it_holds_for_any_small_table_with_ties_and_negative_values(dense_nf, labels):
    label_n = np.array(labels[: len(dense_nf)])
    label_n[:2] = 0.0, 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_against_the_slow_way(dense_nf, label_n)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_planted_concept_is_ranked_first_at_its_layer(tmp_path, sparse):
    folder = write_folder(tmp_path / "in", [index % 4 for index in range(80)], sparse=sparse)
    ranked = rank_features(input=folder, output=tmp_path / "out", permutations=19)
    best = ranked.features[0]
    assert (best.rank, best.layer, best.average_l0, best.feature_id) == (1, 12, 60, PLANTED)
    assert best.pearson_corr > 0.95
    assert best.auroc > 0.95
    assert best.q_value < 1e-20
    assert best.p_permutation == 1 / 20
    assert best.monotonic
    assert best.ranked_on == "all"
    assert ranked.n_dropped == 0
    with (ranked.path / "ranked_features.csv").open() as file:
        names = next(csv.reader(file))
    ours = ["auroc", "cohens_d", "p_value", "q_value", "n_active", "p_permutation", "ranked_on"]
    assert names == [*DOCUMENT_COLUMNS, *ours]
    metadata = json.loads((ranked.path / "metadata.json").read_text())
    assert metadata["labels"] == {"0": 20, "1": 20, "2": 20, "3": 20}
    assert metadata["n_rows"] == 80
    assert metadata["n_features_tested"] == 150
    for name in metadata["plots"]:
        image = np.asarray(Image.open(ranked.path / name).convert("L"))
        assert image.std() > 3, f"{name} is blank"


def test_dense_compressed_and_sparse_stored_files_give_the_same_ranking(tmp_path):
    labels = [index % 3 for index in range(30)]
    one = rank_features(input=write_folder(tmp_path / "a", labels, sparse=True), output=tmp_path / "one")
    two = rank_features(input=write_folder(tmp_path / "b", labels, sparse=False), output=tmp_path / "two")
    assert one.features == two.features
    assert one.features


def test_the_features_listed_are_those_that_a_plain_loop_lists(folder, tmp_path):
    bounds = {"min_pearson": 0.05, "min_tpr": 0.1, "max_fpr": 0.3}
    ranked = rank_features(input=folder, output=tmp_path / "out", plots=False, **bounds)
    labels = np.array([index % 4 for index in range(80)])
    expected, p_values = [], []
    finals = [np.load(folder / sentence_name(index))["is_final_token"].argmax() for index in range(80)]
    acts_ncf = np.array(
        [sentence["activations"][:, final] for sentence, final in zip(load_all_sentences(folder), finals, strict=True)]
    )
    for config, (layer, l0) in enumerate(zip(LAYERS, L0S, strict=True)):
        for feature in range(N_FEATURES):
            x = acts_ncf[:, config, feature].astype(np.float64)
            if not x.any():
                continue
            threshold = np.percentile(x[labels == 0], 95)
            tpr, fpr = (x[labels == 3] > threshold).mean(), (x[labels == 0] > threshold).mean()
            pearson = np.corrcoef(x, labels)[0, 1]
            separation = (x[labels == 3].mean() - x[labels == 0].mean()) / x.std()
            p_values.append(scipy.stats.spearmanr(x, labels)[1])
            if pearson >= 0.05 and tpr >= 0.1 and fpr <= 0.3:
                score = 0.4 * pearson + 0.3 * separation + 0.3 * (tpr - fpr)
                expected.append((-score, layer, l0, feature, len(p_values) - 1))
    expected.sort()
    assert len(expected) > 5
    assert [(one.layer, one.average_l0, one.feature_id) for one in ranked.features] == [one[1:4] for one in expected]
    q_values = scipy.stats.false_discovery_control(p_values)
    for one, (score, *_, place) in zip(ranked.features, expected, strict=True):
        assert one.interpretability_score == pytest.approx(-score, rel=1e-6)
        assert one.q_value == pytest.approx(q_values[place], rel=1e-6)


def test_with_labels_of_noise_nothing_passes_and_no_permutation_p_is_small(tmp_path, caplog):
    labels = np.random.default_rng(3).permutation([index % 4 for index in range(80)]).tolist()
    folder = write_folder(tmp_path / "in", labels, planted=False)
    with caplog.at_level(logging.WARNING, "actlab"):
        ranked = rank_features(input=folder, output=tmp_path / "out")
    assert ranked.features == []
    assert "no feature passes" in caplog.text
    assert "the best score is" in caplog.text
    assert len((ranked.path / "ranked_features.csv").read_text().splitlines()) == 1
    every = {"min_pearson": -1, "min_tpr": 0, "max_fpr": 1}
    ranked = rank_features(input=folder, output=tmp_path / "all", permutations=39, plots=False, **every)
    assert ranked.features[0].p_permutation > 0.05


def test_where_nothing_passes_a_false_discovery_rate_the_ranking_its_plot_and_the_command_say_so(
    tmp_path, caplog, monkeypatch
):
    labels = np.random.default_rng(3).permutation([index % 4 for index in range(80)]).tolist()
    folder = write_folder(tmp_path / "in", labels, planted=False)
    titles = []
    set_title = Axes.set_title
    monkeypatch.setattr(Axes, "set_title", lambda self, text: titles.append(text) or set_title(self, text))
    loose = ["--min-pearson", "0", "--min-tpr", "0", "--max-fpr", "1", "--examples", "0"]
    arguments = ["--input", str(folder), "--output", str(tmp_path / "out"), *loose]
    with caplog.at_level(logging.INFO, "actlab"):
        printed = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    listed = read_ranking(tmp_path / "out")
    smallest = min(one.q_value for one in listed)
    assert len(listed) > 20
    assert smallest > 0.05
    says = f"none of the {len(listed)} listed features passes a false discovery rate of 5%: the smallest q is "
    says += f"{smallest:.2g}"
    assert says in caplog.text
    assert says in printed["warning"]
    assert (printed["n_below_false_discovery_rate"], printed["smallest_q"]) == (0, smallest)
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["n_below_false_discovery_rate"] == 0
    assert metadata["smallest_q"] == pytest.approx(smallest)
    assert f"none passes a false discovery rate of 5% (smallest q {smallest:.2g})" in titles[0]
    caplog.clear()
    rank_features(input=folder, output=tmp_path / "out", min_pearson=0.0, min_tpr=0.0, max_fpr=1.0, examples=0)
    assert says in caplog.text, "also of a ranking that is there already"


def test_features_that_pass_the_false_discovery_rate_are_counted_and_nothing_is_warned_of(folder, tmp_path, caplog):
    arguments = ["--input", str(folder), "--output", str(tmp_path / "out"), "--no-plots"]
    with caplog.at_level(logging.INFO, "actlab"):
        CliRunner().invoke(command, arguments)
    listed = read_ranking(tmp_path / "out")
    n_passing = sum(one.q_value <= 0.05 for one in listed)
    assert n_passing >= 1
    assert f"{len(listed)} features listed, {n_passing} with a false discovery rate below 0.05" in caplog.text
    assert "none of the" not in caplog.text


def test_permutations_are_those_of_a_plain_sort_and_have_a_version_of_their_own(folder, tmp_path):
    labels = np.arange(7.0)
    (found,) = permuted_labels(labels, np.arange(7), 1, seed=4)
    stream = hashlib.shake_256(f"actlab order {derive_seed(4, 'permutation', 0)}".encode()).digest(56)
    keys = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(7)]
    assert found.tolist() == sorted(range(7), key=lambda i: keys[i])
    for permutations, versions in ((0, None), (2, {"permutations": 2})):
        out = rank_features(input=folder, output=tmp_path / str(permutations), permutations=permutations, plots=False)
        identity = json.loads((out.path / "manifest.json").read_text())["identity"]
        assert identity.get("versions") == versions, "without permutations a ranking is what it was"


def test_permuting_moves_whole_sentences_so_that_their_many_rows_count_once(tmp_path):
    """A feature that marks each sentence of one topic on all its rows is no evidence when sentences are few."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        acts_crf = np.zeros((1, 9, 4), np.float32)
        acts_crf[0, :, 0] = float(index >= 3) + rng.random(9) / 10
        new = make_sentence(index, float(index >= 3), acts_crf, layers=(0,), l0s=(5,))
        with (folder / sentence_name(index)).open("wb") as file:
            write_sentence(file, new, sparse=True, dtype="float32")
    best = rank_features(input=folder, output=tmp_path / "out", rows="all", permutations=199).features[0]
    assert best.p_value < 1e-10
    assert best.p_permutation > 0.02  # one of the 20 ways to choose three of six


@pytest.mark.parametrize("rows", ["final", "all", "mean", "max"])
def test_each_choice_of_rows_ranks_those_rows(folder, tmp_path, rows):
    chosen = rank_features(
        input=folder, output=tmp_path / rows, rows=rows, layers="12", min_pearson=-1, min_tpr=0, max_fpr=1, plots=False
    )
    (planted,) = [one for one in chosen.features if one.feature_id == PLANTED]
    rows_of = []
    for sentence in load_all_sentences(folder):
        x = sentence["activations"][2, :, PLANTED].astype(np.float64)
        label = sentence.facts.label
        rows_of += {
            "final": [(x[-1], label)],
            "all": [(value, label) for value in x],
            "mean": [(x.mean(), label)],
            "max": [(x.max(), label)],
        }[rows]
    x, labels = np.array(rows_of).T
    assert planted.spearman_corr == pytest.approx(scipy.stats.spearmanr(x, labels)[0], rel=1e-6)
    assert {one.layer for one in chosen.features} == {12}


@pytest.mark.parametrize(
    ("values", "columns"),
    [((0, 5), ["mean_label_5"]), ((0.5, 1, 4), ["mean_label_0.5", "mean_label_4"]), ((-1, 1), ["mean_label_-1"])],
)
def test_other_labels_than_0_to_3_work_and_have_their_own_columns_at_the_right(tmp_path, values, columns):
    folder = write_folder(tmp_path / "in", [values[index % len(values)] for index in range(60)])
    ranked = rank_features(input=folder, output=tmp_path / "out", min_pearson=0.3, plots=False)
    with (ranked.path / "ranked_features.csv").open() as file:
        reader = csv.DictReader(file)
        row = next(reader)
    assert reader.fieldnames[-len(columns) - 1 :] == ["ranked_on", *columns]
    assert int(row["feature_id"]) == PLANTED
    assert row["mean_label_3"] == ""
    assert list(ranked.features[0].means) == sorted(values)


def write_split(path: Path, n: int, texts: dict[int, str] | None = None) -> Splits:
    splits = Splits({index: "test" if index % 5 == 0 else "train" for index in range(n)}, texts or {}, {})
    path.write_bytes(splits_bytes(splits))
    return splits


def test_a_split_keeps_its_test_sentences_out_and_is_named_in_every_row(folder, tmp_path):
    splits = write_split(tmp_path / "splits.json", 80)
    ranked = rank_features(input=folder, output=tmp_path / "out", split=tmp_path / "splits.json", top=1)
    assert [one.ranked_on for one in ranked.features] == [f"train:{splits.fingerprint}"]
    assert json.loads((ranked.path / "metadata.json").read_text())["n_sentences"] == 64
    shown = json.loads((ranked.path / "feature_examples.json").read_text())
    assert all(one["sentence_index"] % 5 for one in shown[0]["examples"])
    alone = tmp_path / "train"
    alone.mkdir()
    for index in splits.indices("train"):
        (alone / sentence_name(index)).write_bytes((folder / sentence_name(index)).read_bytes())
    expected = rank_features(input=alone, output=tmp_path / "expected", top=1).features[0]
    assert ranked.features[0].interpretability_score == expected.interpretability_score


def test_the_examples_are_the_sentences_of_highest_activation_token_by_token(folder, tmp_path):
    ranked = rank_features(input=folder, output=tmp_path / "out", examples=3, top_examples=1)
    (shown,) = json.loads((ranked.path / "feature_examples.json").read_text())
    assert shown["feature_id"] == PLANTED
    with np.load(folder / sentence_name(0)) as file:
        assert "activations_data" in file.files
    final = {one.facts.index: float(one["activations"][2, -1, PLANTED]) for one in load_all_sentences(folder)}
    best = sorted(final, key=lambda index: -final[index])[:3]
    assert [one["sentence_index"] for one in shown["examples"]] == best
    for one in shown["examples"]:
        assert one["activation"] == final[one["sentence_index"]] == one["activations"][-1]
        assert "".join(one["tokens"]) == one["sentence"]
        assert len(one["tokens"]) == len(one["activations"]) == 7
        assert one["label"] == 3


def test_the_same_input_gives_the_same_bytes_and_a_second_run_does_nothing(folder, tmp_path):
    first = rank_features(input=folder, output=tmp_path / "one", permutations=3)
    rank_features(input=folder, output=tmp_path / "two", permutations=3)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    before = (first.path / "metadata.json").stat().st_mtime_ns
    assert rank_features(input=folder, output=tmp_path / "one", permutations=3) == first
    assert (first.path / "metadata.json").stat().st_mtime_ns == before
    with pytest.raises(StorageError, match="rows is 'final' there and 'max' here"):
        rank_features(input=folder, output=tmp_path / "one", permutations=3, rows="max")


def test_a_file_with_nan_is_left_out_counted_and_named_without_its_folder(folder, tmp_path):
    spoil(folder / sentence_name(4), lambda data: data * np.nan)
    (folder / sentence_name(5)).write_bytes(b"PK nothing")
    done = CliRunner().invoke(command, ["--input", str(folder), "--output", str(tmp_path / "out"), "--no-plots"])
    assert done.exit_code == 3
    assert done.stdout.splitlines()[0] == str(tmp_path / "out")
    metadata = (tmp_path / "out" / "metadata.json").read_text()
    assert {one["name"] for one in json.loads(metadata)["dropped"]} == {sentence_name(4), sentence_name(5)}
    assert str(tmp_path) not in metadata
    assert json.loads(metadata)["n_sentences"] == 78


def test_a_value_that_is_not_finite_outside_the_ranked_rows_is_null_among_the_examples(folder, tmp_path):
    acts_crf = np.zeros((3, 7, N_FEATURES), np.float32)
    acts_crf[2, -1, PLANTED] = 5
    acts_crf[2, 0, PLANTED] = 7
    with (folder / sentence_name(3)).open("wb") as file:
        write_sentence(file, make_sentence(3, 3, acts_crf), sparse=True, dtype="float32")
    spoil(folder / sentence_name(3), lambda data: np.where(data == 7, np.inf, data))
    ranked = rank_features(input=folder, output=tmp_path / "out", top_examples=1)
    (shown,) = json.loads((ranked.path / "feature_examples.json").read_text())
    assert shown["examples"][0]["activations"] == [None, 0, 0, 0, 0, 0, 5]
    assert ranked.n_dropped == 0


def test_a_neuronpedia_link_is_written_only_for_the_sae_that_it_hosts(folder, tmp_path):
    saes = [
        {"layer": 12, "average_l0": 60, "neuronpedia_id": "gemma-2-2b/12-gemmascope-res-16k"},
        {"layer": 3, "average_l0": 20, "neuronpedia_id": None},
    ]
    (folder / "metadata.json").write_text("{}")
    seal(folder, "sentence-features", saes=saes)
    every = {"min_pearson": -1, "min_tpr": 0, "max_fpr": 1}
    ranked = rank_features(input=folder, output=tmp_path / "out", plots=False, **every)
    for one in ranked.features:
        hosted = f"https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k/{one.feature_id}"
        assert one.neuronpedia_url == (hosted if one.layer == 12 else "")


def test_the_document_s_own_csv_is_read(tmp_path):
    row = "1,12,82,7,https://x,0.9,0.8,0.7,1.2,0.9,0.1,0.0,0.1,0.2,0.3,True"
    (tmp_path / "r.csv").write_text(",".join(DOCUMENT_COLUMNS) + "\n" + row + "\n")
    (one,) = read_ranking(tmp_path / "r.csv")
    assert (one.rank, one.layer, one.average_l0, one.feature_id, one.ranked_on) == (1, 12, 82, 7, None)
    assert one.means == {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3}
    assert one.monotonic is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'rank'"),
        ("rank,layer\n1,2\n", "no column 'feature_id'"),
        ("rank,layer,feature_id\n1,2,x\n", "line 2: feature_id is 'x'"),
        ("rank,layer,feature_id\n1,2,-3\n", "line 2: feature_id is -3"),
        ("rank,layer,feature_id\n1,,3\n", "line 2: layer is empty"),
        ("rank,layer,feature_id\n1,nan,3\n", "line 2: layer is nan"),
        (b"\xff\xfe\x00rank", "cannot read"),
    ],
)
def test_a_csv_that_is_no_ranking_is_refused(tmp_path, text, says):
    (tmp_path / "r.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=says):
        read_ranking(tmp_path / "r.csv")
    with pytest.raises(DataError, match="there is no ranking"):
        read_ranking(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"layers": "4"}, ConfigError, "Layer 4 not found in data"),
        ({"layers": "all", "average_l0": 7}, ConfigError, "average_l0 mismatch"),
        ({"top": 0}, ConfigError, "too small"),
        ({"min_pearson": 2.0}, ConfigError, "no correlation"),
        ({"input": "/nonexistent"}, ConfigError, "there is no folder"),
        ({"split": "/nonexistent.json"}, DataError, "there is no split"),
    ],
)
def test_a_wrong_setting_is_refused(folder, tmp_path, settings, kind, says):
    with pytest.raises(kind, match=says):
        rank_features(**{"input": folder, "output": tmp_path / "out", **settings})
    assert not (tmp_path / "out").exists()


def test_one_label_and_a_split_of_other_sentences_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="all 5 sentences have the label 2"):
        rank_features(input=write_folder(tmp_path / "one", [2] * 5), output=tmp_path / "out")
    write_split(tmp_path / "short.json", 10)
    with pytest.raises(DataError, match="knows nothing of sentence 10"):
        rank_features(input=folder, output=tmp_path / "out", split=tmp_path / "short.json")
    write_split(tmp_path / "texts.json", 80, {0: text_id("another text")})
    with pytest.raises(DataError, match="another text than sentence 0"):
        rank_features(input=folder, output=tmp_path / "out", split=tmp_path / "texts.json")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(folder, tmp_path):
    arguments = ["--input", str(folder), "--output", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0
    assert "80 sentences (all), 80 rows" in done.output
    assert not list(tmp_path.glob("out*"))
    assert cost(rank_features, input=folder, output=tmp_path / "out", rows="all")[0].details["n_rows"] == 560
    assert json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)["n_configurations"] == 3


def test_as_json_the_command_prints_the_ranking(folder, tmp_path):
    arguments = ["--input", str(folder), "--output", str(tmp_path / "out"), "--json", "--quiet", "--top", "1"]
    printed = json.loads(CliRunner().invoke(command, arguments).stdout)
    assert printed["features"][0]["feature_id"] == PLANTED
    assert printed["n_dropped"] == 0


def test_every_wrong_file_is_an_error_of_ours(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / sentence_name(0)).write_bytes(b"no zip")
    with pytest.raises(ActlabError):
        rank_features(input=folder, output=tmp_path / "out")
