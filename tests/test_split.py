"""No sentence on two sides, near-duplicates together, labels in their shares, the same bytes every time."""

import csv
import hashlib
import itertools
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actlab.cli.split import command
from actlab.features.split.compute.duplicates import near_duplicate_groups
from actlab.features.split.compute.sides import classes_of, divide, quotas, shuffled_order
from actlab.features.split.job import make_split
from actlab.formats.classifier import save_dataset
from actlab.formats.documents import Document, document_line
from actlab.formats.sentences.file import sentence_name
from actlab.formats.sentences.write import NewSentence, write_sentence
from actlab.formats.splits import read_splits, text_id
from actlab.ground.errors import ConfigError, DataError, StorageError

WORDS = """when I told my friend that the money was gone she looked at me and said nothing
for a long while""".split()  # noqa: SIM905


def make_text(index: int) -> str:
    rng = np.random.default_rng(index)
    return " ".join(str(word) for word in rng.permutation(WORDS)[:12]) + f" {index * 7919}"


@pytest.fixture
def write_csv(tmp_path):
    def write(rows, names=("sentence", "concept_strength_label")) -> Path:
        path = tmp_path / "texts.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
        return path

    return write


@pytest.fixture
def hundred(write_csv):
    return write_csv([(make_text(index), index % 4) for index in range(100)])


def pieces(text: str) -> set[str]:
    """The slow way to say what a piece is: five characters, the ends marked."""
    text = "##" + " ".join(text.lower().split()) + "##"
    return {text[start : start + 5] for start in range(len(text) - 4)}


def overlap(one: str, other: str) -> float:
    return len(pieces(one) & pieces(other)) / len(pieces(one) | pieces(other))


def test_sides_are_disjoint_whole_and_of_the_sizes_asked_for_in_every_label(hundred, tmp_path):
    made = make_split(input=hundred, output=tmp_path / "s.json", validation_size=0.1)
    sides = {side: made.splits.indices(side) for side in ("train", "validation", "test")}
    assert {side: len(indices) for side, indices in sides.items()} == {"train": 70, "validation": 10, "test": 20}
    assert sorted(itertools.chain(*sides.values())) == list(range(100))
    for side, per_label in (("test", (5, 5)), ("validation", (2, 3)), ("train", (17, 18))):
        counts = np.bincount(np.array(sides[side]) % 4)
        assert counts.min() >= per_label[0]
        assert counts.max() <= per_label[1]
    assert read_splits(made.path) == made.splits
    assert made.splits.text_ids == {index: text_id(make_text(index)) for index in range(100)}


def test_the_same_settings_give_the_same_bytes_and_another_seed_other_sides(hundred, tmp_path):
    one = make_split(input=hundred, output=tmp_path / "one.json")
    two = make_split(input=hundred, output=tmp_path / "two.json")
    other = make_split(input=hundred, output=tmp_path / "other.json", seed=1)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.splits.fingerprint != other.splits.fingerprint


def test_another_file_is_refused_until_overwrite_is_given(hundred, tmp_path):
    path = tmp_path / "s.json"
    make_split(input=hundred, output=path)
    before = path.stat().st_mtime_ns
    make_split(input=hundred, output=path)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(StorageError, match="another split"):
        make_split(input=hundred, output=path, seed=1)
    assert path.stat().st_mtime_ns == before
    made = make_split(input=hundred, output=path, seed=1, overwrite=True)
    assert read_splits(path) == made.splits
    with pytest.raises(StorageError, match="is a folder"):
        make_split(input=hundred, output=tmp_path)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14)), min_size=20, max_size=80),
    st.floats(0.1, 0.5),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 5),
)
def test_no_group_is_on_two_sides_and_no_side_is_empty(items, test_size, validation_size, seed):
    classes, groups = np.array(items).T
    class_i = np.unique(classes, return_inverse=True)[1]
    group_i = np.unique(groups, return_inverse=True)[1]
    shares = (1 - test_size - validation_size, validation_size, test_size)
    try:
        side_i = divide(class_i, group_i, shares, seed)
    except DataError:
        assert group_i.max() + 1 < (3 if validation_size else 2)
        return
    assert all(len(set(side_i[group_i == group].tolist())) == 1 for group in range(group_i.max() + 1))
    assert set(side_i.tolist()) == ({0, 1, 2} if validation_size else {0, 2})
    again = divide(class_i, group_i, shares, seed)
    assert side_i.tolist() == again.tolist()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=12, max_size=120), st.floats(0.1, 0.5), st.integers(0, 5))
def test_single_sentences_meet_the_sizes_exactly_and_each_label_is_on_both_sides(labels, test_size, seed):
    class_i = classes_of(labels, len(labels))
    shares = (1 - test_size, 0.0, test_size)
    side_i = divide(class_i, np.arange(len(labels)), shares, seed)
    n_classes = class_i.max() + 1
    counts_zc = np.array([np.bincount(class_i[side_i == side], minlength=n_classes) for side in range(3)])
    wanted_zc = quotas(np.bincount(class_i), shares)
    assert (counts_zc.sum(axis=1) == wanted_zc.sum(axis=1)).all()
    assert np.abs(counts_zc - wanted_zc).max() <= 1, "equal but for who of equals gets the odd item"
    assert abs(counts_zc[2].sum() - len(labels) * test_size) < 1
    enough = np.bincount(class_i) >= 2
    for side in (0, 2):
        if counts_zc[side].sum() >= n_classes:
            assert (counts_zc[side, enough] >= 1).all()


def test_groups_of_many_sizes_come_near_to_the_share_of_each_label():
    rng = np.random.default_rng(0)
    group_i = np.repeat(np.arange(120), rng.integers(1, 8, 120))
    class_i = rng.integers(0, 4, len(group_i))
    side_i = divide(class_i, group_i, (0.8, 0.0, 0.2), seed=0)
    assert abs((side_i == 2).mean() - 0.2) < 0.01
    for label in range(4):
        assert abs((side_i[class_i == label] == 2).mean() - 0.2) < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_a_class_with_a_group_for_each_side_is_on_each(seed):
    class_i, group_i = np.repeat([0, 1], [60, 10]), np.concatenate([np.arange(60), np.repeat([60, 61], 5)])
    side_i = divide(class_i, group_i, (0.8, 0.0, 0.2), seed)
    assert [np.bincount(class_i[side_i == side]).tolist() for side in (0, 2)] == [[48, 5], [12, 5]]
    class_i, group_i = np.append(class_i, [1] * 5), np.append(group_i, [62] * 5)
    for fold in range(3):
        assert len(set(class_i[divide(class_i, group_i, [1 / 3] * 3, seed) == fold].tolist())) == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=6, max_size=30), st.integers(0, 5))
@example([(0, 1), (0, 1), (0, 1), (1, 1), (2, 1), (2, 2)], 0)
def test_no_side_lacks_a_class_of_as_many_pure_groups_as_sides(groups, seed):
    classes, sizes = np.array(groups).T
    class_g = np.unique(classes, return_inverse=True)[1]
    class_i, group_i = np.repeat(class_g, sizes), np.repeat(np.arange(len(sizes)), sizes)
    shares = (0.5, 0.2, 0.3)
    try:
        side_i = divide(class_i, group_i, shares, seed)
    except DataError:
        return
    size_z = quotas(np.bincount(class_i), shares).sum(axis=1)
    has_room_for_all = np.flatnonzero(
        size_z >= class_g.max() + 1
    )  # in a smaller side chance says which class has a row
    for one in np.flatnonzero(np.bincount(class_g) >= 3).tolist():
        for side in has_room_for_all.tolist():
            assert (class_i[side_i == side] == one).any()


texts = st.lists(
    st.text(st.sampled_from("ab ."), min_size=1, max_size=12).filter(lambda text: text.strip()), min_size=1, max_size=15
)


@settings(max_examples=100, deadline=None)
@given(texts, st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_near_duplicates_are_those_of_the_slow_way_and_what_they_join(some, threshold):
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(len(some)))
    for one, other in itertools.combinations(range(len(some)), 2):
        if overlap(some[one], some[other]) >= threshold - 1e-9:
            graph.add_edge(one, other)
    expected = {frozenset(members) for members in networkx.connected_components(graph)}
    groups = near_duplicate_groups(some, threshold)
    assert {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())} == expected


def test_near_duplicates_of_thousands_of_texts_are_found_in_a_moment():
    distinct = [make_text(index) for index in range(3000)]
    groups = near_duplicate_groups([*distinct, *(text.upper() + "!" for text in distinct)], 0.8)
    assert (groups[:3000] == groups[3000:]).all()
    alone = near_duplicate_groups(["same", "same"], 0)
    assert alone.tolist() == near_duplicate_groups(["same", "same"], 1.01).tolist() == [0, 1]


def test_near_duplicates_stay_on_one_side(write_csv, tmp_path, caplog):
    rows = [(make_text(index // 2) + "!" * (index % 2), index % 4) for index in range(200)]
    with caplog.at_level(logging.INFO, "actlab"):
        made = make_split(input=write_csv(rows), output=tmp_path / "s.json")
    assert all(made.splits.side_of[index] == made.splits.side_of[index + 1] for index in range(0, 200, 2))
    assert "100 groups of near-duplicates (200 sentences) are kept together" in caplog.text
    assert len(made.splits.indices("test")) == 40
    apart = make_split(input=tmp_path / "texts.csv", output=tmp_path / "apart.json", near_duplicates=0)
    assert any(apart.splits.side_of[index] != apart.splits.side_of[index + 1] for index in range(0, 200, 2))


def test_labels_that_are_not_whole_are_divided_by_quantiles(write_csv, tmp_path):
    values = np.random.default_rng(0).normal(size=200)
    made = make_split(
        input=write_csv([(make_text(index), value) for index, value in enumerate(values)]), output=tmp_path / "s.json"
    )
    test = values[made.splits.indices("test")]
    deciles = np.searchsorted(np.quantile(values, np.linspace(0, 1, 11)[1:-1]), test)
    assert np.bincount(deciles).tolist() == [4] * 10
    assert made.splits.settings["stratified_by"] == "quantiles of the label"


def test_a_column_chooses_the_test_and_its_near_duplicates_elsewhere_are_told(write_csv, tmp_path, caplog):
    topics = ["law", "food", "sport"]
    rows = [(make_text(index), index % 2, topics[index % 3]) for index in range(60)]
    rows[1] = (rows[0][0] + "!", 0, "food")
    path = write_csv(rows, ("sentence", "concept_strength_label", "topic"))
    made = make_split(input=path, output=tmp_path / "s.json", by_column="topic", test_values="law", validation_size=0.1)
    assert made.splits.indices("test") == list(range(0, 60, 3))
    assert len(made.splits.indices("validation")) == 6
    assert "1 groups of near-duplicates are on two sides" in caplog.text
    assert made.splits.settings["near_duplicates_on_two_sides"] == [[0, 1]]
    with pytest.raises(ConfigError, match="no sentence has 'lav'") as caught:
        make_split(input=path, output=tmp_path / "o.json", by_column="topic", test_values="lav")
    assert caught.value.hint == "did you mean 'law'?"
    with pytest.raises(ConfigError, match="no column 'topik'"):
        make_split(input=path, output=tmp_path / "o.json", by_column="topik", test_values="law")
    with pytest.raises(DataError, match="every sentence"):
        make_split(input=path, output=tmp_path / "o.json", by_column="topic", test_values="law,food,sport")


def test_a_column_s_groups_stay_together_and_what_has_no_value_is_alone(write_csv, tmp_path):
    rows = [(make_text(index), index % 2, f"story {index // 4}" if index < 80 else "") for index in range(100)]
    path = write_csv(rows, ("sentence", "concept_strength_label", "story"))
    made = make_split(input=path, output=tmp_path / "s.json", group_column="story")
    sides = [made.splits.side_of[index] for index in range(100)]
    assert all(len(set(sides[start : start + 4])) == 1 for start in range(0, 80, 4))
    assert len(made.splits.indices("test")) == 20
    assert made.splits.group_of == {index: index // 4 * 4 for index in range(80)}
    assert made.splits.settings["n_groups"] == 40
    with pytest.raises(ConfigError, match="no column 'stori'"):
        make_split(input=path, output=tmp_path / "o.json", group_column="stori")
    plain = make_split(input=path, output=tmp_path / "plain.json").splits
    assert "group_column" not in plain.settings
    assert any(plain.side_of[index] != plain.side_of[index + 1] for index in range(0, 80, 4))


@pytest.mark.parametrize("as_folder", [True, False])
def test_skeletons_of_generated_text_are_such_a_column(tmp_path, as_folder):
    docs = [
        Document(f"template-{k:07d}", make_text(k), 0, "template", {"skeleton": f"plan {k % 12}", "slots": {"a": k}})
        for k in range(120)
    ]
    path = tmp_path / "text" / "documents.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"".join(map(document_line, docs)))
    given = path.parent if as_folder else path
    made = make_split(input=given, output=tmp_path / "s.json", group_column="skeleton", test_size=0.25)
    assert len(made.splits.indices("test")) == 30
    for k in range(120):
        assert made.splits.side_of[k] == made.splits.side_of[k % 12]
    assert made.splits.text_ids[7] == text_id(make_text(7))
    with pytest.raises(ConfigError, match="has the label 'skeletton'") as caught:
        make_split(input=given, output=tmp_path / "o.json", group_column="skeletton")
    assert caught.value.hint == "did you mean 'skeleton'?"


def test_a_group_column_needs_columns(tmp_path):
    save_dataset(np.eye(8), np.arange(8) % 2, {}, tmp_path / "d.npz")
    with pytest.raises(ConfigError, match="--group-column needs a CSV"):
        make_split(input=tmp_path / "d.npz", output=tmp_path / "s.json", group_column="topic")


def test_equal_rows_and_near_equal_texts_of_a_dataset_stay_together(tmp_path):
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((40, 3)), 2, axis=0)
    save_dataset(X, np.arange(80) // 2 % 2, {"sentence_indices": np.arange(80)}, tmp_path / "equal.npz")
    groups = {"sentence_indices": np.arange(80), "text_groups": np.arange(80) // 2}
    save_dataset(rng.standard_normal((80, 3)), np.arange(80) // 2 % 2, groups, tmp_path / "near.npz")
    for name in ("equal", "near"):
        splits = make_split(input=tmp_path / f"{name}.npz", output=tmp_path / f"{name}.json").splits
        assert all(splits.side_of[index] == splits.side_of[index + 1] for index in range(0, 80, 2))
        assert splits.group_of == {index: index // 2 * 2 for index in range(80)}


def test_a_dataset_that_says_its_near_equal_texts_is_not_said_to_have_none(tmp_path, caplog):
    X = np.random.default_rng(0).standard_normal((20, 3))
    for name, more in (("says", {"text_groups": np.arange(20) // 2}), ("silent", {})):
        save_dataset(X, np.arange(20) // 2 % 2, {"sentence_indices": np.arange(20), **more}, tmp_path / f"{name}.npz")
        caplog.clear()
        with caplog.at_level(logging.INFO, "actlab"):
            make_split(input=tmp_path / f"{name}.npz", output=tmp_path / f"{name}.json")
        assert ("the input has no texts" in caplog.text) == (name == "silent")


def test_a_split_that_an_earlier_version_drew_is_kept_and_said_to_be_valid(hundred, tmp_path):
    path = tmp_path / "s.json"
    made = make_split(input=hundred, output=path)
    assert made.splits.settings["versions"] == {"split": 2}
    content = json.loads(path.read_text())
    del content["settings"]["versions"], content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(StorageError, match="another version of actlab drew") as caught:
        make_split(input=hundred, output=path)
    assert "it stays valid" in caught.value.hint
    assert read_splits(path).fingerprint == made.splits.fingerprint


def test_the_order_is_that_of_a_plain_sort_and_numpy_draws_nothing(hundred, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("numpy.random.default_rng", never)  # the texts are there
    make_split(input=hundred, output=tmp_path / "s.json")
    for n, seed in ((1, 0), (10, 0), (10, 1), (500, 2**62)):
        stream = hashlib.shake_256(f"actlab order {seed}".encode()).digest(8 * n)
        keys = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(n)]
        assert shuffled_order(n, seed).tolist() == sorted(range(n), key=keys.__getitem__)


def test_a_sentence_folder_is_divided_by_its_own_indices_and_texts(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(10, 40):
        new = NewSentence(
            index=index,
            text=make_text(index),
            label=index % 2,
            fragments=[make_text(index)],
            token_positions=[1],
            fragment_lengths=[1],
            is_final=np.array([True]),
            embeddings_rd=np.zeros((1, 2), np.float32),
            hidden_crd=np.zeros((1, 1, 2), np.float32),
            layers=[0],
            average_l0s=[1],
            latents=scipy.sparse.csr_array(np.ones((1, 3), np.float32)),
        )
        with (folder / sentence_name(index)).open("wb") as file:
            write_sentence(file, new, sparse=True, dtype="float32")
    made = make_split(input=folder, output=tmp_path / "s.json")
    assert sorted(made.splits.side_of) == list(range(10, 40))
    assert len(made.splits.indices("test")) == 6
    assert made.splits.text_ids[10] == text_id(make_text(10))


@pytest.mark.parametrize("name", ["d.npz", "d.parquet"])
def test_a_classifier_dataset_is_divided_by_the_sentences_of_its_rows(tmp_path, name):
    indices = np.repeat(np.arange(5, 45), 3)
    save_dataset(np.zeros((120, 2)), indices % 2, {"sentence_indices": indices}, tmp_path / name)
    made = make_split(input=tmp_path / name, output=tmp_path / "s.json")
    assert sorted(made.splits.side_of) == list(range(5, 45))
    test = np.array(made.splits.indices("test"))
    assert np.bincount(test % 2).tolist() == [4, 4]
    assert made.splits.text_ids == {}
    assert str(tmp_path) not in made.path.read_text()


def test_rows_without_text_or_label_are_on_no_side_and_keep_the_numbers_of_the_others(write_csv, tmp_path):
    rows = [(make_text(index), index % 2) for index in range(20)]
    rows[3], rows[7] = ("", 1), (make_text(7), "high")
    path = write_csv(rows)
    done = CliRunner().invoke(command, ["--input", str(path), "--output", str(tmp_path / "s.json")])
    assert done.exit_code == 3
    splits = read_splits(tmp_path / "s.json")
    assert sorted(splits.side_of) == [index for index in range(20) if index not in (3, 7)]
    assert splits.text_ids[8] == text_id(make_text(8))


def test_labels_in_words_are_divided_as_their_numbers_are(write_csv, tmp_path):
    words = [(make_text(k), ("low", "high")[k % 2]) for k in range(40)]
    one = write_csv(words)
    with pytest.raises(DataError, match="no sentence with a label") as caught:
        make_split(input=one, output=tmp_path / "a.json")
    assert "--labels low=0,high=3" in caught.value.hint
    named = make_split(input=one, output=tmp_path / "a.json", labels="low=0,high=3")
    numbers = write_csv([(text, {"low": 0, "high": 3}[label]) for text, label in words])
    numbered = make_split(input=numbers, output=tmp_path / "b.json")
    assert named.splits.side_of == numbered.splits.side_of
    assert "labels" not in numbered.splits.settings


def test_the_command_prints_the_path_and_says_how_many_are_where(hundred, tmp_path, caplog):
    output = str(tmp_path / "s.json")
    arguments = ["--input", str(hundred), "--output", output]
    dry = CliRunner().invoke(command, [*arguments, "--dry-run"])
    assert dry.stdout.splitlines()[:3] == [output, "  1 unit, 100 sentences", "  train 80, validation 0, test 20"]
    assert not Path(output).exists()
    with caplog.at_level(logging.INFO, "actlab"):
        done = CliRunner().invoke(command, arguments)
    assert done.stdout == output + "\n"
    assert "test: 20 sentences (0: 5, 1: 5, 2: 5, 3: 5)" in caplog.text
    printed = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    assert printed["test"] == 20


def test_a_label_with_one_sentence_is_warned_of(write_csv, tmp_path, caplog):
    rows = [(make_text(index), 1 if index else 9) for index in range(30)]
    make_split(input=write_csv(rows), output=tmp_path / "s.json")
    assert "has no sentence of label 9" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        ({"test_size": 0.0}, ConfigError, "nothing is left"),
        ({"test_size": 0.8, "validation_size": 0.3}, ConfigError, "nothing is left"),
        ({"test_size": 1.5}, ConfigError, "no share"),
        ({"near_duplicates": -0.1}, ConfigError, "no overlap"),
        ({"by_column": "topic"}, ConfigError, "belong together"),
        ({"by_column": "topic", "test_values": "law", "group_column": "story"}, ConfigError, "does not go with"),
        ({"test_size": 0.001}, DataError, "too few"),
        ({"input": "/nonexistent"}, ConfigError, "no input"),
    ],
)
def test_a_wrong_setting_is_refused(hundred, tmp_path, wrong, kind, says):
    with pytest.raises(kind, match=says):
        make_split(**{"input": hundred, "output": tmp_path / "s.json", **wrong})
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("a.csv", b"text,label\nhello,1\n", ConfigError, "no column 'sentence'"),
        ("a.csv", b"sentence,concept_strength_label\n", DataError, "has no row"),
        ("a.csv", b"", DataError, "has no row"),
        ("a.csv", b"sentence,concept_strength_label\nhello,1\n", DataError, "too few"),
        ("a.csv", b"sentence,concept_strength_label\n\xff\xfe,1\n", DataError, "cannot read"),
        ("a.npz", b"no zip", DataError, "cannot read"),
        ("a.txt", b"hello", ConfigError, "its name's ending|is no folder"),
    ],
)
def test_a_malformed_input_is_refused(tmp_path, name, content, kind, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=says):
        make_split(input=tmp_path / name, output=tmp_path / "s.json")


def test_texts_that_are_all_alike_are_too_few_to_divide(write_csv, tmp_path):
    path = write_csv([("The same sentence again", index % 2) for index in range(20)])
    with pytest.raises(DataError, match="1 groups are too few"):
        make_split(input=path, output=tmp_path / "s.json")


def test_very_many_whole_labels_are_divided_by_quantiles_and_by_the_seed(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("sentence,concept_strength_label\n" + "".join(f"text number {k} {k * k},{k}\n" for k in range(100)))
    tests = []
    for seed in (0, 1):
        made = make_split(input=path, output=tmp_path / f"{seed}.json", seed=seed)
        test = made.splits.indices("test")
        assert len(test) == 20
        assert min(test) < 20
        assert max(test) >= 80
        tests.append(test)
    assert tests[0] != tests[1]


@pytest.mark.parametrize("text", ["1_000", "\u0663", "nan", "0x1", "1e400", ""])
def test_what_is_no_plain_number_is_no_label(text):
    from actlab.formats.tables import label_of

    assert label_of(text) is None
