"""Tokens, their split, their windows."""

import copy
import itertools
import json
import logging
import os
import pickle
import random
import shutil
import string
import tracemalloc
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from actlab.backends import bpe
from actlab.backends.bpe import BOS, EOS, train_tokenizer
from actlab.backends.token_count import TokenCounter, find_tokenizer, special_prefix, tokenizer_sha256
from actlab.datasets import verify_dataset
from actlab.formats.tokens import map_ends, map_tokens, read_token_folder
from actlab.ground.errors import ActlabError, ConfigError, DataError, ModelError, StorageError
from actlab.ground.job import cost
from actlab.text import near_duplicates as near
from actlab.text.dataset import EpochSampler, TextDataset, whole
from actlab.text.tokenize import job
from actlab.text.tokenize.job import tokenize_text
from actlab.text.tokenize.source import choose_sides, cluster_keys, clusters_of, text_key

TEXTS = [
    "It's what they'd said: we'll see.",
    "the old man walks to the market\nand buys   bread",
    "café — “quoted” 12 ½ x² 北京 👩‍🍳",
]


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(TEXTS * 5, 330)


@pytest.fixture(scope="session")
def counter(tokenizer):
    return TokenCounter(tokenizer)


def write_documents(path: Path, texts) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def write_stream(folder: Path, documents: list[list[int]], *, vocab_size: int = 1000, eos_id: int = 0) -> Path:
    """Write a token dataset by hand: ids as they are given, for training alone."""
    folder.mkdir(parents=True)
    np.array([one for document in documents for one in document], "<u2").tofile(folder / "train.bin")
    np.cumsum([len(document) for document in documents]).astype("<u8").tofile(folder / "train.idx")
    (folder / "val.bin").touch()
    (folder / "val.idx").touch()
    facts = {
        "version": 1,
        "dtype": "uint16",
        "vocab_size": vocab_size,
        "eos_id": eos_id,
        "prefix_ids": [],
        "n_tokens": {"train": sum(map(len, documents)), "val": 0},
        "n_docs": {"train": len(documents), "val": 0},
        "tokenizer_sha256": "0" * 64,
        "text_sha256": "0" * 64,
        "kind": "tokens",
    }
    (folder / "metadata.json").write_text(json.dumps(facts))
    return folder


def documents_of(folder: Path) -> dict[str, list[str]]:
    """Read a token dataset back: the texts of each side."""
    tokenizer, facts = find_tokenizer(str(folder / "tokenizer")), read_token_folder(folder)
    found = {}
    for split in ("train", "val"):
        ids, ends = map_tokens(folder, facts, split).tolist(), map_ends(folder, split).tolist()
        n_before = len(facts.prefix_ids)
        found[split] = [tokenizer.decode(ids[a + n_before : b - 1]) for a, b in itertools.pairwise([0, *ends])]
    return found


def save_words(folder: Path, vocabulary: dict[str, int], *, unk: str | None = None, normalizer=None) -> str:
    """Save a tokenizer of whole words, between white space."""
    raw = Tokenizer(models.WordLevel(vocabulary, **({} if unk is None else {"unk_token": unk})))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if normalizer is not None:
        raw.normalizer = normalizer
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>").save_pretrained(folder)
    return str(folder)


def some_words(seed: int, n: int = 30, most: int = 5000) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(most)}" for _ in range(n))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    """A folder for each example that hypothesis thinks of."""
    root = tmp_path_factory.mktemp("streams")
    numbers = iter(range(1_000_000))
    return lambda: root / str(next(numbers))


# ---- counting


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60) | st.text(alphabet="ab 'stvrelm\n\t01!.é\u0558\u00a0北<|eos|>", max_size=60))
def test_ids_and_counts_are_the_tokenizers(text, counter, tokenizer):
    expected = tokenizer.encode(text, add_special_tokens=False)
    assert counter.is_cached
    assert counter.ids(text) == expected
    assert counter.count(text) == len(expected)


def test_a_special_token_written_in_a_text_is_one_token_as_the_tokenizer_says(counter, tokenizer):
    text = f"one{EOS}two"
    assert counter.ids(text) == tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.eos_token_id in counter.ids(text)


def test_letters_newer_than_the_tokenizers_tables_are_cut_as_it_cuts_them(counter, tokenizer):
    newer = [chr(code) for code in (0x558, 0x58B, 0xC5C, 0x1C89, 0xA7CE, 0x1E5D0, 0x323B0)]
    for one in newer:
        text = f"ab{one}cd {one}1"
        assert counter.ids(text) == tokenizer.encode(text, add_special_tokens=False)


def test_a_limit_that_others_set_on_the_tokenizer_cuts_no_count(tokenizer):
    own = TokenCounter(tokenizer)
    long = "the old man " * 400
    n = own.count(long)
    tokenizer(long, truncation=True, max_length=4)
    assert own.count(long) == n == TokenCounter(tokenizer).count(long) > 512


@pytest.mark.parametrize("kind", ["lowercase", "whitespace"])
def test_a_tokenizer_of_another_kind_is_asked_itself(kind):
    from tokenizers import trainers

    raw = Tokenizer(models.BPE(unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "lowercase":
        raw.normalizer = normalizers.Lowercase()
    else:
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=["?"], show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="?")
    own = TokenCounter(tokenizer)
    assert not own.is_cached
    texts = ["The OLD Man", *TEXTS, ""]
    assert own.ids_of(texts) == [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert [own.count(text) for text in texts] == [len(ids) for ids in own.ids_of(texts)]


def test_the_hash_survives_saving_and_tells_tokenizers_apart(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "t")
    assert tokenizer_sha256(find_tokenizer(str(tmp_path / "t"))) == tokenizer_sha256(tokenizer)
    other = train_tokenizer(TEXTS, 331)
    assert tokenizer_sha256(other) != tokenizer_sha256(tokenizer)


# ---- tokenize-text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Documents of which the held-out ones share no word with the others."""
    root = tmp_path_factory.mktemp("tokens")
    rng = np.random.default_rng(0)
    texts = []
    for number in range(60):
        letters = string.ascii_letters[number % 52] + str(number)
        texts.append(" ".join(f"{letters}{k}" for k in rng.integers(0, 9, 6)))
    source = write_documents(root / "documents.jsonl", texts)
    done = tokenize_text(input=source, output=root / "tokens", validation=0.3, near_duplicates=0.7, vocab_size=400)
    return root, texts, done


def test_the_streams_hold_every_document_between_its_marks_and_in_order(made):
    _, texts, done = made
    tokenizer = find_tokenizer(str(done.path / "tokenizer"))
    facts = read_token_folder(done.path)
    found = []
    for split in ("train", "val"):
        tokens, ends = map_tokens(done.path, facts, split), map_ends(done.path, split)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            ids = tokens[int(start) : int(end)].tolist()
            assert ids[:1] == special_prefix(tokenizer) == [tokenizer.bos_token_id]
            assert ids[-1] == tokenizer.eos_token_id
            found.append((split, tokenizer.decode(ids[1:-1])))
    assert sorted(text for _, text in found) == sorted(texts)
    for split in ("train", "val"):
        mine = [text for side, text in found if side == split]
        assert mine == [text for text in texts if text in set(mine)]
    assert done.n_docs["train"] + done.n_docs["val"] == len(texts)
    assert min(done.n_docs.values()) > 5


@pytest.mark.parametrize("boundaries", ["pack", "mask", "doc"])
def test_nothing_of_the_validation_split_is_in_a_training_window(made, boundaries):
    _, texts, done = made
    tokenizer = find_tokenizer(str(done.path / "tokenizer"))
    words = {}
    for split in ("train", "val"):
        dataset = TextDataset(done.path, split, context=32, boundaries=boundaries)
        read = [tokenizer.decode(dataset[i][0], skip_special_tokens=True) for i in range(3 * len(dataset))]
        words[split] = " ".join(read)
    facts = read_token_folder(done.path)
    held_out = tokenizer.decode(map_tokens(done.path, facts, "val"), skip_special_tokens=True)
    for text in texts:
        first_word = text.split()[0]
        if first_word in held_out:
            assert first_word in words["val"]
            assert first_word not in words["train"]


@pytest.mark.parametrize("boundaries", ["pack", "mask", "doc"])
def test_an_input_that_is_masked_in_place_keeps_its_targets_and_the_stream(made, boundaries):
    dataset = TextDataset(made[2].path, context=16, boundaries=boundaries)
    for read in (lambda: dataset[2], lambda: dataset.batch([2, 3])):
        before = [part.clone() for part in read()]
        parts = read()
        parts[0].fill_(-1)
        assert all(map(torch.equal, parts[1:], before[1:]))
        assert all(map(torch.equal, read(), before))


def test_nanogpt_reads_the_stream_with_its_own_formula(made):
    done = made[2]
    block_size, batch_size = 16, 4
    data = np.memmap(os.path.join(done.path, "train.bin"), dtype=np.uint16, mode="r")
    torch.manual_seed(0)
    ix = torch.randint(len(data) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy((data[i : i + block_size]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + block_size]).astype(np.int64)) for i in ix])
    assert len(data) == done.n_tokens["train"]
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert int(y.max()) < done.vocab_size


def test_copies_and_near_copies_stay_on_one_side_and_order_does_not_matter(tmp_path):
    base = [some_words(seed) + " gâteau à la crème brûlée" for seed in range(40)]
    near = [unicodedata.normalize("NFD", text) + " again" for text in base]
    spaced = [text.upper().replace(" ", "  ") for text in base]
    wide = ["".join(chr(ord(one) + 0xFEE0) if one.isdigit() else one for one in text) for text in base]
    every = base + near + spaced + wide
    sides = {}
    for name, texts in (("a", every), ("b", every[::-1])):
        source = write_documents(tmp_path / f"{name}.jsonl", texts)
        done = tokenize_text(input=source, output=tmp_path / name, validation=0.3, vocab_size=300)
        held_out = set(documents_of(done.path)["val"])
        sides[name] = [text in held_out for text in every]
    assert sides["a"] == sides["b"]
    n = len(base)
    assert sides["a"] == 4 * sides["a"][:n]
    assert abs(sum(sides["a"][:n]) - 0.3 * n) < 4 * (0.3 * 0.7 * n) ** 0.5


def test_large_families_are_held_out_as_often_as_single_texts():
    sizes = np.array([1, 3, 30] * 3000)
    cluster_n = np.repeat(np.arange(len(sizes)), sizes)
    keys = np.random.default_rng(0).integers(0, 1 << 64, len(cluster_n), dtype=np.uint64)
    is_val = choose_sides(cluster_keys(keys, cluster_n), 0.1)
    first_n = np.cumsum(sizes) - sizes
    assert (is_val == np.repeat(is_val[first_n], sizes)).all()
    for size in (1, 3, 30):
        share = is_val[first_n[sizes == size]].mean()
        assert abs(share - 0.1) < 4 * (0.1 * 0.9 / 3000) ** 0.5


@pytest.mark.parametrize(("n_families", "n_each", "is_warned"), [(3, 20, True), (300, 1, False)])
def test_the_log_says_the_share_that_is_held_out_and_warns_of_another_than_was_asked(
    n_families, n_each, is_warned, tmp_path, caplog
):
    texts = [some_words(seed, 60) + f" {k}" for seed in range(n_families) for k in range(n_each)]
    source = write_documents(tmp_path / "d.jsonl", texts)
    caplog.set_level(logging.INFO, "actlab")
    done = tokenize_text(input=source, output=tmp_path / "out", validation=0.1, vocab_size=300)
    n_bytes = {split: (done.path / f"{split}.bin").stat().st_size for split in ("train", "val")}
    share = f"{100 * n_bytes['val'] / sum(n_bytes.values()):.1f} %"
    assert f"({share} held out)" in caplog.text
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [share in one and "not 10.0 %" in one for one in warnings] == [True] * is_warned


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=14))
def test_a_label_of_any_kind_in_common_puts_documents_into_one_cluster(rows):
    found = clusters_of(*np.array(rows).T)
    reached = [{i} for i in range(len(rows))]
    for _ in rows:  # as many steps as the longest way may have
        for mine in reached:
            mine |= {
                j for i in mine for j, row in enumerate(rows) if any(a == b for a, b in zip(rows[i], row, strict=True))
            }
    assert [set(np.flatnonzero(found == one).tolist()) for one in found] == reached


def test_texts_that_are_one_to_the_tokenizer_stay_on_one_side_and_so_do_their_near_duplicates(tmp_path):
    base = [some_words(seed, 30, most=500) for seed in range(30)]
    accented = [text.replace("w", "ẃ") for text in base]
    near = [text + " indeed" for text in accented]
    names = [f"w{k}" for k in range(500)]
    vocabulary = {word: k for k, word in enumerate(["<eos>", "<unk>", "indeed", *names])}
    strip = normalizers.BertNormalizer(strip_accents=True)
    tokenizer = save_words(tmp_path / "t", vocabulary, unk="<unk>", normalizer=strip)
    source = write_documents(tmp_path / "d.jsonl", base + accented + near)
    done = tokenize_text(input=source, output=tmp_path / "out", tokenizer=tokenizer, validation=0.3)
    assert verify_dataset(done.path, quiet=True).problems == []
    sides = {split: set(texts) for split, texts in documents_of(done.path).items()}
    held_out = [{name for name in ("train", "val") if text in sides[name]} for text in base]
    assert held_out == [{name for name in ("train", "val") if f"{text} indeed" in sides[name]} for text in base]
    assert sorted(map(len, held_out)) == [1] * len(base)


def test_the_tokenizer_learns_nothing_of_what_is_held_out(tmp_path):
    letters = [chr(0x4E00 + 50 * k) for k in range(60)]  # three bytes each, so a token of its own is learnt
    source = write_documents(tmp_path / "d.jsonl", [" ".join([letter] * 30) for letter in letters])
    done = tokenize_text(input=source, output=tmp_path / "out", validation=0.4, vocab_size=1000)
    held_out = {text[0] for text in documents_of(done.path)["val"]}
    tokenizer = find_tokenizer(str(done.path / "tokenizer"))
    learnt = {tokenizer.decode([k]).strip() for k in range(len(tokenizer))} & set(letters)
    assert len(held_out) > 10
    assert learnt == set(letters) - held_out


def test_a_text_of_one_long_word_is_learnt_from_in_pieces():
    long = "".join(map(str, range(10_000)))
    pieces = list(bpe._pieces(["short", long, ""]))
    assert pieces[0] == "short"
    assert "".join(pieces[1:]) == long
    assert max(map(len, pieces)) <= 10_000


@pytest.mark.parametrize("trained_here", [True, False])
def test_every_end_marker_ends_a_document_whatever_the_texts_say(trained_here, tokenizer, tmp_path):
    texts = [f"{BOS} chapter {k} {EOS}{EOS} and so on {some_words(k)}" for k in range(20)]
    tokenizer.save_pretrained(tmp_path / "t")
    source = write_documents(tmp_path / "d.jsonl", texts)
    chosen = None if trained_here else str(tmp_path / "t")
    done = tokenize_text(input=source, output=tmp_path / "out", tokenizer=chosen, vocab_size=400)
    facts = read_token_folder(done.path)
    for split in ("train", "val"):
        at_eos = np.flatnonzero(map_tokens(done.path, facts, split) == facts.eos_id)
        assert (at_eos + 1).tolist() == map_ends(done.path, split).tolist()
    assert sorted(itertools.chain(*documents_of(done.path).values())) == sorted(texts)
    assert verify_dataset(done.path, quiet=True).problems == []


def test_a_tokenizer_whose_own_words_make_an_end_marker_is_refused(tmp_path):
    tokenizer = save_words(tmp_path / "t", {"a": 0, "<eos>": 1, "?": 2}, unk="?")
    source = write_documents(tmp_path / "d.jsonl", ["a a", "a <eos> a"])
    with pytest.raises(DataError, match="end-of-text token of a piece of 'a <eos> a'"):
        tokenize_text(input=source, output=tmp_path / "out", tokenizer=tokenizer, validation=0)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_with_gaps_reaches_to_its_largest_id(tmp_path):
    tokenizer = save_words(tmp_path / "t", {"a": 0, "b": 69_999, "<eos>": 70_000}, unk="a")
    source = write_documents(tmp_path / "d.jsonl", ["b a", "b b"])
    done = tokenize_text(input=source, output=tmp_path / "out", tokenizer=tokenizer, validation=0)
    assert np.fromfile(done.path / "train.bin", "<u4").tolist() == [69_999, 0, 70_000, 69_999, 69_999, 70_000]
    assert done.vocab_size == 70_001
    assert len(TextDataset(done.path, context=2)) == 3
    assert verify_dataset(done.path, quiet=True).problems == []


def test_a_tokenizer_that_cannot_say_what_is_unknown_is_named_as_the_trouble(tmp_path):
    tokenizer = save_words(tmp_path / "t", {"a": 0, "<eos>": 1}, unk="[UNK]")
    source = write_documents(tmp_path / "d.jsonl", ["a a", "a b"])
    with pytest.raises(ModelError, match="UNK") as caught:
        tokenize_text(input=source, output=tmp_path / "out", tokenizer=tokenizer, validation=0)
    assert "tokenizer" in caught.value.hint


def test_a_tokenizer_that_drops_merges_at_random_does_not_drop_them_here(tokenizer, tmp_path, caplog):
    shaky = copy.deepcopy(tokenizer)
    shaky.backend_tokenizer.model.dropout = 0.5
    shaky.save_pretrained(tmp_path / "shaky")
    tokenizer.save_pretrained(tmp_path / "steady")
    source = write_documents(tmp_path / "d.jsonl", [text * 20 for text in TEXTS])
    streams = []
    for name in ("shaky", "steady"):
        done = tokenize_text(input=source, output=tmp_path / f"{name}-out", tokenizer=str(tmp_path / name))
        streams.append([(done.path / f"{split}.bin").read_bytes() for split in ("train", "val")])
    assert streams[0] == streams[1]
    assert caplog.text.count("at random") == 1
    assert len(TextDataset(tmp_path / "shaky-out", context=8, tokenizer=shaky))


@pytest.mark.parametrize("change", ["replaced", "longer", "shorter"])
def test_an_input_that_changes_while_it_is_read_is_said_and_a_new_run_goes_well(change, tmp_path, monkeypatch):
    texts = [some_words(seed) for seed in range(30)]
    source = write_documents(tmp_path / "d.jsonl", texts)
    others = {"replaced": [some_words(seed) for seed in range(100, 130)], "longer": [*texts, "a"], "shorter": texts[:9]}

    def train(documents, vocab_size):
        write_documents(source, others[change])
        return train_tokenizer(documents, vocab_size)

    with monkeypatch.context() as patch:
        patch.setattr(job, "train_tokenizer", train)
        with pytest.raises(DataError, match=r"changed while it was read") as caught:
            tokenize_text(input=source, output=tmp_path / "out", vocab_size=300)
    assert "again" in caught.value.hint
    assert not (tmp_path / "out").exists()
    done = tokenize_text(input=source, output=tmp_path / "out", vocab_size=300)
    assert sorted(itertools.chain(*documents_of(done.path).values())) == sorted(others[change])


def test_a_text_stays_held_out_when_more_text_comes():
    keys = np.array([text_key(f"document {k}") for k in range(2000)], np.uint64)
    few, many = choose_sides(keys[:500], 0.2), choose_sides(keys, 0.2)
    assert (few == many[:500]).all()
    assert abs(many.mean() - 0.2) < 4 * (0.2 * 0.8 / 2000) ** 0.5


def test_each_side_gets_something_of_very_few_documents():
    for n in (2, 3, 5):
        keys = np.array([text_key(f"only {k}") for k in range(n)], np.uint64)
        for share in (0.001, 0.9):
            assert 0 < choose_sides(keys, share).sum() < n
    with pytest.raises(DataError, match="cannot be split"):
        choose_sides(np.array([7, 7], np.uint64), 0.1)


def test_the_same_input_gives_the_same_bytes_and_a_large_vocabulary_takes_uint32(made, tmp_path):
    root, _, done = made
    again = tokenize_text(
        input=root / "documents.jsonl", output=tmp_path / "again", validation=0.3, near_duplicates=0.7, vocab_size=400
    )
    for path in sorted(done.path.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again.path / path.relative_to(done.path)).read_bytes(), path.name
    big = Tokenizer(models.WordLevel({f"w{k}": k for k in range(70_000)} | {"<eos>": 70_000}, unk_token="w0"))
    big.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=big, eos_token="<eos>").save_pretrained(tmp_path / "big")
    source = write_documents(tmp_path / "d.jsonl", ["w69999 w1", "w65536"])
    wide = tokenize_text(input=source, output=tmp_path / "wide", tokenizer=str(tmp_path / "big"), validation=0)
    assert np.fromfile(wide.path / "train.bin", "<u4").tolist() == [69999, 1, 70_000, 65536, 70_000]


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3])
def test_a_run_that_was_stopped_leaves_no_dataset_and_comes_to_the_same_bytes(made, tmp_path, monkeypatch, stop_at):
    from actlab.text.tokenize import sink

    class Stopped(Exception):
        pass

    real, written = sink.TokenFiles.files, []

    def files(self):
        for file in real(self):
            if len(written) == stop_at:
                raise Stopped
            written.append(file.path)
            yield file

    root, _, done = made
    settings = {"input": root / "documents.jsonl", "validation": 0.3, "near_duplicates": 0.7, "vocab_size": 400}
    with monkeypatch.context() as patch:
        patch.setattr(sink.TokenFiles, "files", files)
        with pytest.raises(Stopped):
            tokenize_text(output=tmp_path / "again", **settings)
    assert not (tmp_path / "again").exists()
    tokenize_text(output=tmp_path / "again", **settings)
    for name in ("train.bin", "val.bin", "train.idx", "val.idx", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (done.path / name).read_bytes()


@pytest.mark.parametrize(
    ("rows", "kwargs", "said"),
    [
        (['{"text": "a"}', '{"text": "b"}'], {"validation": 1.5}, "--validation"),
        (['{"text": "a"}', "not JSON"], {}, "line 2"),
        (['{"text": "a \\ud800"}', '{"text": "b"}'], {}, "half a surrogate"),
        (['{"text": "same"}', '{"text": "SAME "}'], {}, "cannot be split"),
        ([], {}, "no document"),
        (['{"text": "a"}'], {}, "only one document"),
        (['{"text": "a"}'], {"tokenizer": "./nowhere"}, "nowhere"),
    ],
)
@pytest.mark.parametrize("command", [tokenize_text, partial(cost, tokenize_text)])
def test_what_cannot_be_tokenised_is_said_with_a_hint(command, rows, kwargs, said, tmp_path):
    source = tmp_path / "d.jsonl"
    source.write_text("".join(row + "\n" for row in rows))
    with pytest.raises(ActlabError, match=said) as caught:
        command(input=source, output=tmp_path / "out", **kwargs)
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [tokenize_text, partial(cost, tokenize_text)])
def test_a_folder_in_the_way_is_refused_by_a_run_and_by_its_plan(command, made, tmp_path):
    root, _, done = made
    with pytest.raises(StorageError, match="other settings"):
        command(input=root / "documents.jsonl", output=done.path, validation=0.2, near_duplicates=0.7, vocab_size=400)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(StorageError, match="not made by actlab"):
        command(input=root / "documents.jsonl", output=tmp_path / "mine")


def test_a_dry_run_counts_both_sides_and_writes_nothing(made, tmp_path):
    root, _, done = made
    settings = {"validation": 0.3, "near_duplicates": 0.7, "vocab_size": 400}
    (plan,) = cost(tokenize_text, input=root / "documents.jsonl", output=tmp_path / "x", **settings)
    assert (plan.details["n_train"], plan.details["n_val"]) == (done.n_docs["train"], done.n_docs["val"])
    assert list(tmp_path.iterdir()) == []


# ---- near duplicates


def exact_overlap(one: str, other: str) -> float:
    sets = [{tuple(words[k : k + 3]) for k in range(len(words) - 2)} for words in (one.split(), other.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("seed", range(3))
def test_clusters_of_chains_are_what_brute_force_finds_in_any_order(seed):
    rng = random.Random(seed)
    texts = [some_words(seed * 100 + k, 60) for k in range(8)]
    while len(texts) < 160:  # each a change of any before it: chains, whose ends have less and less in common
        words = rng.choice(texts).split()
        words[rng.randrange(60)] = f"x{rng.randrange(10**6)}"
        texts.append(" ".join(words))
    slow = list(range(len(texts)))
    for i, j in itertools.combinations(range(len(texts)), 2):
        if slow[i] != slow[j] and exact_overlap(texts[i], texts[j]) >= 0.7:
            slow = [slow[i] if one == slow[j] else one for one in slow]
    expected = {frozenset(np.flatnonzero(np.array(slow) == one).tolist()) for one in slow}
    for _ in range(3):
        order = rng.sample(range(len(texts)), len(texts))
        found = np.array(near.near_duplicate_clusters((texts[k] for k in order), 0.7))
        assert {frozenset(order[k] for k in np.flatnonzero(found == one)) for one in found} == expected


def test_many_near_duplicates_are_compared_a_few_times_each(monkeypatch):
    base = some_words(0, 60).split()
    texts = [" ".join([*base[: k % 60], f"x{k}", *base[k % 60 + 1 :]]) for k in range(600)]
    compared = []
    real = near._overlaps

    def counting(shingles):
        overlap_of = real(shingles)
        return lambda i, other: compared.append(i) or overlap_of(i, other)

    monkeypatch.setattr(near, "_overlaps", counting)
    assert near.near_duplicate_clusters(texts, 0.7) == [0] * 600
    assert [match and match.original for match in near.near_duplicates(texts, 0.7)] == [None] + [0] * 599
    assert len(compared) < 3 * len(texts)


def test_texts_are_not_kept_while_near_duplicates_are_looked_for():
    words = [letter * 500 for letter in string.ascii_letters]
    texts = (" ".join(random.Random(k).choices(words, k=100)) for k in range(200))
    n_characters = 200 * 100 * 501
    tracemalloc.start()
    try:
        assert len(set(near.near_duplicate_clusters(texts, 0.7))) == 200
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n_characters / 4


# ---- opening


def test_another_tokenizer_a_strange_id_and_a_wrong_size_are_refused(made, tokenizer, tmp_path):
    done = made[2]
    assert len(TextDataset(done.path, tokenizer=done.path / "tokenizer", context=8))
    with pytest.raises(DataError, match="another tokenizer") as caught:
        TextDataset(done.path, tokenizer=tokenizer, context=8)
    assert str(done.path / "tokenizer") in caught.value.hint
    for name, spoil, said in [
        ("id", lambda raw: b"\xff\xff" + raw[2:], "has the id 65535"),
        ("size", lambda raw: raw[:-1], "bytes, not"),
        ("none", None, "is missing"),
    ]:
        folder = tmp_path / name
        shutil.copytree(done.path, folder)
        (folder / "manifest.json").unlink()  # as another program might write a dataset
        stream = folder / "train.bin"
        if spoil is None:
            stream.unlink()
        else:
            stream.write_bytes(spoil(stream.read_bytes()))
        with pytest.raises(DataError, match=said) as caught:
            TextDataset(folder)
        assert "tokenize-text" in caught.value.hint
    with pytest.raises(ConfigError, match="skip tokens"):
        TextDataset(done.path, context=8, stride=9)
    with pytest.raises(DataError, match="no token dataset"):
        TextDataset(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("eos_id", value) for value in ("x", None, -1, 99_999, 1.0, True)),
        *(("prefix_ids", value) for value in (5, ["a"], [99_999], None)),
        *(("vocab_size", value) for value in ("2523", None, 2523.0, 10**12, 0)),
        *(("dtype", value) for value in ("float16", "int16", ">u2", "S2", None, [])),
        *(("n_tokens", value) for value in (7, None, {"train": 2}, {"train": "2", "val": 0}, {"train": -2, "val": 0})),
        *(("n_docs", value) for value in ([], {"train": 1.0, "val": 0})),
        *(("tokenizer_sha256", value) for value in (5, None)),
        ("text_sha256", []),
    ],
)
def test_metadata_of_a_wrong_kind_are_refused_by_the_name_of_their_key(key, value, tmp_path):
    folder = write_stream(tmp_path / "s", [[1, 2, 0]])
    assert len(TextDataset(folder, context=2)) == 1
    content = json.loads((folder / "metadata.json").read_text())
    for changed in (content | {key: value}, {name: one for name, one in content.items() if name != key}):
        (folder / "metadata.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=rf"metadata.json (has|lacks) {key}") as caught:
            TextDataset(folder, context=2)
        assert "tokenize-text" in caught.value.hint


# ---- windows

DOCUMENTS = st.lists(st.integers(2, 23), min_size=1, max_size=12)
CASES = {
    "lengths": DOCUMENTS,
    "context": st.integers(1, 17),
    "stride_share": st.floats(0, 1),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 4),
    "random_phase": st.booleans(),
}


def numbered(lengths: list[int]) -> list[list[int]]:
    """Documents of ids 1, 2, 3, …: an id is its place in the stream, plus 1."""
    ends = np.cumsum(lengths)
    return [list(range(int(end) - n + 1, int(end) + 1)) for n, end in zip(lengths, ends, strict=True)]


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_every_token_but_the_first_is_a_target_exactly_once_an_epoch(
    scratch, lengths, context, stride_share, seed, epoch, random_phase
):
    stride = max(1, round(stride_share * context))
    folder = write_stream(scratch(), numbered(lengths))
    dataset = TextDataset(folder, context=context, stride=stride, seed=seed, random_phase=random_phase)
    counts: Counter[int] = Counter()
    for index in range(epoch * len(dataset), (epoch + 1) * len(dataset)):
        given_t, target_t = (part.tolist() for part in dataset[index])
        assert len(given_t) == len(target_t) == context
        for own, following in zip(given_t, target_t, strict=True):
            if following != -100:
                assert following == own + 1
                counts[following] += 1
    assert counts == Counter(range(2, sum(lengths) + 1))
    n_targets = sum(lengths) - 1
    assert len(dataset) - -(-n_targets // stride) in ((0, 1) if random_phase else (0,))


@settings(max_examples=100, deadline=None)
@given(**CASES)
def test_a_document_a_row_counts_all_but_its_first_token_once_and_sees_no_other(
    scratch, lengths, context, stride_share, seed, epoch, random_phase
):
    documents = numbered(lengths)
    of_id = {one: number for number, document in enumerate(documents) for one in document}
    stride = max(1, round(stride_share * context))
    dataset = TextDataset(
        write_stream(scratch(), documents), context=context, stride=stride, boundaries="doc", seed=seed
    )
    counts: Counter[int] = Counter()
    for index in range(epoch * len(dataset), (epoch + 1) * len(dataset)):
        given_t, target_t = (part.tolist() for part in dataset[index])
        counts.update(one for one in target_t if one != -100)
        assert len({of_id[one] for one in given_t if one != 0}) == 1
        assert all(following == own + 1 for own, following in zip(given_t, target_t, strict=True) if following > 0)
    assert counts == Counter(one for document in documents for one in document[1:])


@settings(max_examples=100, deadline=None)
@given(**CASES)
def test_masked_windows_say_where_documents_begin(scratch, lengths, context, stride_share, seed, epoch, random_phase):
    documents = numbered(lengths)
    of_id = {one: number for number, document in enumerate(documents) for one in document}
    stride = max(1, round(stride_share * context))
    folder = write_stream(scratch(), documents)
    dataset = TextDataset(folder, context=context, stride=stride, boundaries="mask", seed=seed)
    counts: Counter[int] = Counter()
    for index in range(epoch * len(dataset), (epoch + 1) * len(dataset)):
        given_t, target_t, position_t, document_t = (part.tolist() for part in dataset[index])
        seen: Counter[int] = Counter()
        for own, following, position, document in zip(given_t, target_t, position_t, document_t, strict=True):
            if document == -1:
                assert (own, following) == (0, -100)
                continue
            assert document == of_id[own]
            assert position == seen[document]
            seen[document] += 1
            if following != -100:
                assert of_id[following] == document
                counts[following] += 1
    assert counts == Counter(one for document in documents for one in document[1:])


def test_a_window_is_the_seed_documents(tmp_path):
    dataset = TextDataset(write_stream(tmp_path / "s", [[11, 12, 13, 14, 15]]), context=4)
    assert len(dataset) == 1
    given_t, target_t = dataset[0]
    assert given_t.tolist() == [11, 12, 13, 14]
    assert target_t.tolist() == [12, 13, 14, 15]
    assert given_t.dtype == target_t.dtype == torch.int64
    assert [len(window) for window in dataset] == [2]


def test_epochs_begin_elsewhere_and_seeds_too(tmp_path):
    folder = write_stream(tmp_path / "s", numbered([500, 500]), vocab_size=2000)
    dataset = TextDataset(folder, context=64)
    firsts = [tuple((dataset[epoch * len(dataset)][1] != -100).tolist()) for epoch in range(20)]
    assert len(set(firsts)) > 5
    other = TextDataset(folder, context=64, seed=1)
    assert [tuple((other[epoch * len(other)][1] != -100).tolist()) for epoch in range(20)] != firsts


# ---- batches and samplers


@pytest.mark.parametrize("boundaries", ["pack", "mask", "doc"])
def test_a_batch_is_its_windows_stacked_whoever_collates(tmp_path, boundaries):
    dataset = TextDataset(
        write_stream(tmp_path / "s", numbered([30, 7, 55, 2])), context=8, stride=5, boundaries=boundaries
    )
    indices = [3, 0, len(dataset) + 2, 7]
    expected = [torch.stack(parts) for parts in zip(*(dataset[i] for i in indices), strict=True)]
    for collate in (whole, None):
        (batch,) = DataLoader(dataset, batch_sampler=[indices], collate_fn=collate)
        assert len(batch) == len(expected)
        assert all(torch.equal(one, other) for one, other in zip(batch, expected, strict=True))


def test_a_sampler_that_starts_in_mid_epoch_gives_what_was_left(tmp_path):
    dataset = TextDataset(write_stream(tmp_path / "s", numbered([103, 40])), context=4)
    every = list(EpochSampler(dataset, 5, seed=3, epoch=2))
    assert len(every) == len(EpochSampler(dataset, 5)) == -(-len(dataset) // 5)
    for start in range(len(every) + 2):
        rest = EpochSampler(dataset, 5, seed=3, epoch=2, start_step=start)
        assert list(rest) == every[start:]
        assert len(rest) == len(every[start:])
    assert sorted(i for batch in every for i in batch) == list(range(2 * len(dataset), 3 * len(dataset)))
    assert every != list(EpochSampler(dataset, 5, seed=4, epoch=2))
    shifted = [[i - len(dataset) for i in batch] for batch in EpochSampler(dataset, 5, seed=3, epoch=3)]
    assert shifted != every


def test_indices_that_are_none_are_refused_as_a_sequence_refuses_them(tmp_path):
    folder = write_stream(tmp_path / "s", numbered([103, 40]))
    dataset = TextDataset(folder, context=4)
    n = len(dataset)
    assert torch.equal(dataset[-1][0], dataset[n - 1][0])
    assert torch.equal(dataset.batch([-n, 2]).input, dataset.batch([0, 2]).input)
    assert torch.equal(dataset[np.int64(3)][0], dataset[3][0])
    for wrong in (1.5, "1", slice(0, 2)):
        with pytest.raises(TypeError):
            dataset[wrong]
    with pytest.raises(TypeError):
        dataset.batch([1.5])
    for wrong in (lambda: dataset[-n - 1], lambda: dataset.batch([0, -n - 1])):
        with pytest.raises(IndexError):
            wrong()
    for wrong in ({"context": 1.5}, {"context": 4, "stride": 2.0}):
        with pytest.raises(TypeError):
            TextDataset(folder, **wrong)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": -1}, {"epoch": -1}, {"start_step": -200}])
def test_a_sampler_refuses_numbers_that_make_no_batches(wrong, tmp_path):
    from actlab.text import EpochSampler as Exported

    dataset = TextDataset(write_stream(tmp_path / "s", numbered([103, 40])), context=4)
    with pytest.raises(ConfigError) as caught:
        Exported(dataset, **({"batch_size": 4} | wrong))
    assert caught.value.hint
    with pytest.raises(TypeError):
        Exported(dataset, **({"batch_size": 4} | dict.fromkeys(wrong, 1.5)))


def test_a_pickled_dataset_is_small_and_reads_the_same(tmp_path):
    folder = write_stream(tmp_path / "s", numbered([900] * 70), vocab_size=65_536)
    dataset = TextDataset(folder, context=64)
    sent = pickle.dumps(dataset)
    assert len(sent) < 2_000 < (folder / "train.bin").stat().st_size / 10
    again = pickle.loads(sent)
    assert torch.equal(again[5][0], dataset[5][0])


@pytest.mark.parametrize("boundaries", ["pack", "mask"])
def test_opening_and_reading_take_memory_for_a_batch_and_not_for_the_stream(tmp_path, boundaries):
    folder = write_stream(tmp_path / "s", [[1]])
    n_tokens = 8_000_000
    os.truncate(folder / "train.bin", 2 * n_tokens)
    np.arange(4000, n_tokens + 1, 4000).astype("<u8").tofile(folder / "train.idx")
    facts = json.loads((folder / "metadata.json").read_text())
    counts = {"n_tokens": {"train": n_tokens, "val": 0}, "n_docs": {"train": n_tokens // 4000, "val": 0}}
    (folder / "metadata.json").write_text(json.dumps(facts | counts))
    tracemalloc.start()
    try:
        dataset = TextDataset(folder, context=128, boundaries=boundaries)
        for indices, _ in zip(EpochSampler(dataset, 8), range(20), strict=False):
            dataset.batch(indices)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    order = 3 * 8 * len(dataset)  # the sampler's permutation
    assert peak < 500_000 + order < 2 * n_tokens / 4


def test_masks_take_memory_for_a_batch_and_not_for_the_documents(tmp_path):
    folder = write_stream(tmp_path / "s", [[0]])
    n = 1_000_000
    os.truncate(folder / "train.bin", 2 * n)
    np.arange(1, n + 1, dtype="<u8").tofile(folder / "train.idx")
    facts = json.loads((folder / "metadata.json").read_text())
    counts = {key: {"train": n, "val": 0} for key in ("n_tokens", "n_docs")}
    (folder / "metadata.json").write_text(json.dumps(facts | counts))
    dataset = TextDataset(folder, context=16, boundaries="mask", random_phase=False)
    tracemalloc.start()
    try:
        batch = dataset.batch([1000, 2])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batch.document_ids[:, 0].tolist() == [16_000, 32]  # a document a token
    assert peak < 100_000
