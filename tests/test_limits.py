"""What is too large, endless, broken or of another shape costs its own record, or is refused in two lines."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from joblib.externals.loky.process_executor import TerminatedWorkerError

import actlab
from actlab.activations.config import ExtractConfig
from actlab.activations.source import Dropped, Row, read_unit, scan
from actlab.activations.tokenise import Tokens
from actlab.backends.hub import find_model
from actlab.backends.models import read_facts
from actlab.backends.saes import saelens
from actlab.backends.saes.find import find_saes
from actlab.backends.saes.sae import make_encoder
from actlab.backends.token_count import find_tokenizer
from actlab.cli.main import actlab as command_line
from actlab.features.encode.source import read_sentences
from actlab.features.train_sae.source import read_texts
from actlab.formats.activations import read_shard
from actlab.formats.classifier import load_dataset, read_manifest_of, save_dataset
from actlab.formats.documents import read_documents
from actlab.formats.npz import NpzReader
from actlab.formats.ranking import read_ranking
from actlab.formats.sequence_sets import read_file
from actlab.formats.tables import read_table
from actlab.ground import limits
from actlab.ground.errors import ActlabError, ConfigError, DataError, ModelError, StorageError
from actlab.ground.manifest import read_json, read_manifest, read_object
from actlab.ground.options import CommonOptions, from_settings, options_of
from actlab.ground.options.settings import read_yaml
from actlab.ground.storage import Staging
from actlab.ground.temporary import saved_files
from actlab.servers.journal import Journal
from actlab.text.generate.job import generate_text
from actlab.weights.job import run_data_gen
from actlab.weights.score.predictions import read_predictions
from tests import made_saes, tiny_weights
from tests.command_line import fails_in_two_lines, run, run_apart
from tests.folders import hashes

LONG = "ab " * ((limits.LINE_BYTES + 1000) // 3)
LONG_TEXT = "ab " * ((limits.TEXT_BYTES + 1000) // 3)


def rows_with(long: str, key: str = "text") -> bytes:
    rows = [{key: "a first row"}, {key: long}, {key: "a last row"}]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# lines


def test_a_line_that_is_too_long_costs_its_own_record_and_is_hashed_all_the_same(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(rows_with(LONG))
    source = scan(path, splits=("EM",), shard_size=512, limit=None)
    first, second, third = read_unit(source, source.units[0])
    assert second == Dropped(2, None, limits.LONG_LINE)
    assert isinstance(first, Row)
    assert isinstance(third, Row)
    assert (first.line, third.line) == (1, 3)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.n_lines == 3


def test_a_csv_row_that_is_too_long_keeps_its_number_and_costs_itself_alone(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(f'sentence,concept_strength_label\none,1\n"{LONG}",2\nthree,3\n')
    rows = read_sentences(
        str(path), text_column="sentence", label_column="concept_strength_label", labels=None, limit=None
    )
    assert [getattr(row, "reason", row.sentence) for row in rows] == [0, limits.LONG_LINE, 2]
    assert read_table(path).too_long == {1}
    path.write_text(f'sentence,concept_strength_label\none,1\n"{LONG}\nand more",2\nthree,3\n')
    with pytest.raises(DataError, match="inside a quoted field"):
        read_table(path)
    path.write_text(f"{LONG}\n1\n")
    with pytest.raises(DataError, match="the first line of"):
        read_table(path)


def test_strict_readers_name_the_line_that_is_too_long(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(rows_with(LONG))
    with pytest.raises(DataError, match="line 2 is a line longer than 16 MiB"):
        list(read_documents(path))
    path.write_text(json.dumps({"example_id": 0, "completion": LONG}) + "\n")
    with pytest.raises(DataError, match="line 1 is a line longer than 16 MiB"):
        read_predictions(path, tasks=["modification"], example_ids={0})
    path.write_text(LONG + "\n")
    with pytest.raises(DataError, match="is not a line of a journal"):
        Journal(path)
    with pytest.raises(DataError, match="line longer than 16 MiB"):
        read_ranking(path)


def test_whole_files_of_json_and_yaml_have_a_limit(tmp_path, monkeypatch):
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(limits.JSON_BYTES + 1)  # a hole: it takes no room
    for read in (read_json, lambda path: read_file(path, made_by="create-sig-dataset")):
        with pytest.raises(StorageError, match="has more than 256 MiB"):
            read(huge)
    settings = tmp_path / "settings.yaml"
    settings.write_text("# " + "x" * limits.YAML_BYTES)
    with pytest.raises(StorageError, match="has more than 1 MiB"):
        read_yaml(settings)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match="is a named pipe"):
        read_yaml(pipe)
    with pytest.raises(StorageError, match="is a named pipe"):
        read_json(pipe)
    for read in (read_table, lambda path: read_texts(str(path), text_column="text", limit=None)):
        with pytest.raises(StorageError, match="is a named pipe"):
            read(pipe)
    for arguments in (
        ("split", "--input", pipe),
        ("extract-activations", "--dataset", pipe),
        ("tokenize-text", pipe, "--output", "tokens"),
        ("train-probe", "--input", pipe, "--output", "probe"),
        ("rank-features", "--input", pipe, "--output", "ranking"),
        ("show", pipe),
    ):
        fails_in_two_lines(run(*arguments, cwd=tmp_path), 1, f"{pipe} is a named pipe", "to a file")


# texts


class NoLongText:
    """A tokenizer of characters that takes no long text."""

    bos_token_id = None

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        assert not any(map(limits.is_too_long, texts)), "the text got to the tokenizer"
        assert sum(map(len, texts)) <= max(limits.TEXT_BYTES, *map(len, texts)), "too many at once"
        return {
            "input_ids": [list(map(ord, text)) for text in texts],
            "offset_mapping": [[(k, k + 1) for k in range(len(text))] for text in texts],
            "special_tokens_mask": [[0] * len(text) for text in texts],
        }


def test_a_text_that_is_too_long_never_reaches_the_tokenizer_of_an_extraction():
    tokens = Tokens(NoLongText(), ExtractConfig(dataset=("d",), output="o"), 8)
    half = "é" * (limits.TEXT_BYTES // 4)
    rows = [Row(1, "1", "", {"text": "one"}), Row(2, "2", half, {"text": half}), Row(3, "3", "", {"text": "three"})]
    first, second, third = tokens.examples(rows)
    assert second == Dropped(2, "text", limits.LONG_TEXT)
    assert (first.ids, third.ids) == (tuple(map(ord, "one")), tuple(map(ord, "three")))


class Chat(NoLongText):
    chat_template = "writes all of a message"

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
        return "".join(message.get("calls", "") + message["content"] for message in messages)


def test_what_a_chat_template_makes_too_long_never_reaches_the_tokenizer():
    tokens = Tokens(Chat(), ExtractConfig(dataset=("d",), output="o", chat_template=True), 8)
    question = {"role": "user", "content": "a"}
    talks = [(question | {"calls": calls}, {"role": "assistant", "content": "b"}) for calls in ("x", LONG_TEXT)]
    first, second = tokens.examples(Row(k, str(k), "a", {"text": "b"}, talk) for k, talk in enumerate(talks))
    assert first.ids == tuple(map(ord, "xab"))
    assert second == Dropped(1, "text", limits.LONG_TEXT)


def test_texts_are_tokenised_a_bounded_number_of_characters_at_a_time(monkeypatch):
    monkeypatch.setattr(limits, "TEXT_BYTES", 40)
    tokens = Tokens(NoLongText(), ExtractConfig(dataset=("d",), output="o"), 100)
    texts = ["x" * n for n in (7, 30, 9, 1, 33, 20, 20, 20)]
    examples = list(tokens.examples(Row(k, str(k), "", {"text": text}) for k, text in enumerate(texts)))
    assert [len(example.ids) for example in examples] == list(map(len, texts))


def test_a_text_that_is_too_long_is_left_out_or_refused_by_every_reader(tmp_path, caplog):
    csv, jsonl = tmp_path / "s.csv", tmp_path / "s.jsonl"
    csv.write_text(f'sentence,concept_strength_label\none,1\n"{LONG_TEXT}",2\n')
    jsonl.write_bytes(rows_with(LONG_TEXT))
    names = {"text_column": "sentence", "label_column": "concept_strength_label", "labels": None, "limit": None}
    assert read_sentences(str(csv), **names)[1].reason == limits.LONG_TEXT
    for path, n_left in ((csv, 1), (jsonl, 2)):
        caplog.clear()
        assert len(read_texts(str(path), text_column="sentence", limit=None)) == n_left
        assert limits.LONG_TEXT in caplog.text
    with pytest.raises(DataError, match="line 2 has a text longer than 4 MiB"):
        list(read_documents(jsonl))


def test_half_a_surrogate_pair_is_left_out_of_an_saes_texts_and_said(tmp_path, caplog):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a \\ud800 b"}\n{"text": "whole"}\n')
    assert read_texts(str(path), text_column="text", limit=None) == ["whole"]
    assert "half a surrogate pair" in caplog.text
    path.write_text('{"key": "\\ud800"}')
    with pytest.raises(StorageError, match="surrogates not allowed"):
        read_json(path)


# YAML


def bomb(last: int, of: int = 9) -> str:
    lines = ["k0: &a0 [x, y, z]", *(f"k{k}: &a{k} [{', '.join([f'*a{k - 1}'] * of)}]" for k in range(1, last))]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb(9), "its aliases written out"),
        ("a: &a {x: 1}\nb: &b {<<: [" + "*a, " * 9 + "]}\n" + bomb(8), "its aliases written out"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a\n  b: {c: [*a]}", "contains itself"),
        ("a: " + "[" * 500 + "]" * 500, "nests more than 100 levels"),
        ("a: " + "{a: " * 500, "nests more than 100 levels"),
        ("a: *b", "undefined alias"),
        ("a: {b: 1, b: 2}", "sets b twice"),
        ("a: [{b: 1, b: 2}]", "sets b twice"),
    ],
)
def test_yaml_that_would_explode_or_hides_something_is_refused(text, says, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_yaml(path)


def test_anchors_are_read_as_they_were(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("base: &b {x: 1, y: [1, 2]}\nother: {<<: *b, z: 3}\nagain: *b\n" + bomb(4))
    read = read_yaml(path)
    assert read["other"] == {"x": 1, "y": [1, 2], "z": 3}
    assert read["again"] == {"x": 1, "y": [1, 2]}
    assert len(read["k3"]) == 9


def test_yaml_is_read_as_its_own_reader_in_python_reads_it(tmp_path):
    text = "a: [1, -2, 1.5, 1e-3, 0x1f, 010, 7:30, no, ~, 2001-01-01]\nb: {c: 'x y'}\nd: |\n  é\n  f\ne: \"\\u00e9\"\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    read = read_yaml(tmp_path / "c.yaml")
    assert repr(read) == repr(yaml.load(text, yaml.SafeLoader))
    (tmp_path / "c.yaml").write_text("# nothing but a comment\n")
    assert read_yaml(tmp_path / "c.yaml") == {}


@pytest.mark.slow  # the parser in C would end the process
def test_a_grammar_that_nests_a_hundred_thousand_deep_ends_in_two_lines(tmp_path):
    path = tmp_path / "g.yaml"
    path.write_text("skeletons: " + "[" * 100_000)
    fails_in_two_lines(run_apart("show", path), 1, "nests more than 100 levels")


# numbers


def configs(of: type = CommonOptions) -> list[type]:
    assert all(one.whole for one in command_line.commands.values())  # all are imported
    found = [one for below in of.__subclasses__() for one in (below, *configs(below))]
    return [one for one in found if one.__module__.startswith("actlab")]


def test_no_setting_of_any_command_takes_a_number_that_is_not_finite():
    tried = 0
    for config in configs():
        for option in options_of(config):
            wrong: list[object] = {float: [float("inf"), float("-inf"), float("nan"), "1e400"], int: [10**400]}.get(
                option.kind, []
            )
            for value in wrong:
                tried += 1
                with pytest.raises(ConfigError, match=option.flag or option.name) as refused:
                    from_settings(config, {option.name: value})
                assert refused.value.hint.startswith("give ")
    assert tried > 100


def test_numbers_that_are_no_shares_are_refused_in_two_lines(tmp_path):
    (tmp_path / "s.csv").write_text("sentence,concept_strength_label\na b c,1\nd e f,2\n")
    for value in ("inf", "nan", "-1", "1e400"):
        done = run("split", "--input", tmp_path / "s.csv", f"--near-duplicates={value}", cwd=tmp_path)
        fails_in_two_lines(done, 2, "near")


@pytest.mark.parametrize("scale", [1e200, 1e60, 1e-60, 1e-320])
def test_a_column_outside_float32_is_named_before_it_becomes_nan_or_a_constant(scale, tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[:, 1] *= scale
    path = tmp_path / "d.npz"
    np.savez(path, X=X, y=np.arange(20) % 2)
    with pytest.raises(DataError, match="X's column 1 is"):
        load_dataset(path)
    fails_in_two_lines(run("train-probe", "--input", path, "--output", tmp_path / "o"), 1, "X's column 1 is")
    np.savez(path, X=X[:, [0, 2]], y=X[:, 1])
    with pytest.raises(DataError, match="y's column 0 is"):
        load_dataset(path)


def test_numbers_that_float32_holds_are_read_as_they_were(tmp_path):
    X = np.array([[1e38, 0.0, 1e-37, -3e38], [1.0, 0.0, 0.0, 5e-324]])
    path = tmp_path / "d.npz"
    np.savez(path, X=X, y=np.array([0, 1]))
    assert np.array_equal(load_dataset(path).X, X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dataset_without_rows_is_read_and_refused_by_who_needs_some(dtype, tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, X=np.zeros((0, 3), dtype), y=np.zeros(0, dtype))
    assert load_dataset(path).X.shape == (0, 3)
    fails_in_two_lines(run("train-probe", "--input", path, "--output", tmp_path / "o"), 1, "")


# shapes of JSON


@pytest.mark.parametrize("content", ["[]", '"x"', "null", "3", "[" * 100_000])
def test_a_file_that_has_to_be_an_object_and_is_none_is_refused(content, tmp_path):
    path = tmp_path / "metadata.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=r"metadata\.json"):
        read_object(path)


def test_a_key_that_an_object_lacks_is_said_with_the_file(tmp_path):
    path = tmp_path / "metadata.json"
    path.write_text('{"n": "x"}')
    with pytest.raises(StorageError, match=r"metadata\.json has no n that is a whole number"):
        read_object(path, n=int)
    with pytest.raises(StorageError, match=r"metadata\.json has no m"):
        read_object(path)["m"]
    assert read_object(path).get("m") is None


def test_metadata_of_another_shape_is_said_by_each_command_that_reads_it(tmp_path):
    made = ["generate-text", "how to cook", "--tokens", 300, "--tokenizer", "actlab/tiny", "--output", tmp_path / "t"]
    assert run(*made).returncode == 0
    for content in ("[]", "{}", "null"):
        (tmp_path / "t" / "metadata.json").write_text(content)
        assert run(*made, "--quiet").stderr.startswith("Error: ")
        fails_in_two_lines(run("show", tmp_path / "t"), 1, "metadata.json")


def test_a_manifest_whose_machines_are_no_list_of_objects_is_refused(tmp_path):
    described = {"kind": "x", "fingerprint": "", "identity": {}, "inputs": [], "dropped": {}, "files": []}
    for made_on in ("x", [1], {}):
        (tmp_path / "manifest.json").write_text(json.dumps(described | {"made_on": made_on}))
        with pytest.raises(StorageError, match="is not an actlab manifest"):
            read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(described | {"made_on": [{"torch": "2"}]}))
    assert read_manifest(tmp_path) is not None


# tensors


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(4).to_sparse(), torch.empty(4, 4, device="meta"), torch.eye(4) * 1j],
    ids=["sparse", "meta", "complex"],
)
def test_a_shard_without_plain_numbers_is_refused(tensor, tmp_path):
    torch.save(tensor, tmp_path / "shard_000.pt")
    with pytest.raises(StorageError, match=r"shard_000\.pt"):
        read_shard(tmp_path / "shard_000.pt")


def test_a_shard_that_asks_for_gradients_is_read_as_its_numbers(tmp_path):
    torch.save(torch.nn.Parameter(torch.eye(4)), tmp_path / "shard_000.pt")
    assert np.array_equal(read_shard(tmp_path / "shard_000.pt").numpy(), np.eye(4))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_an_sae_of_whole_numbers_is_refused(dtype, tmp_path):
    weights = {name: weight.to(dtype) for name, weight in made_saes.random_weights("topk").items()}
    facts = saelens.read(made_saes.write_saelens(tmp_path / "sae", "topk", 1, weights) / "cfg.json")
    with pytest.raises(ModelError, match="W_enc is of"):
        make_encoder(facts, saelens.weights(facts), torch.device("cpu"))


# what a file declares


def with_declared_size(path: Path, header: dict[str, object], n_bytes: int, name: str = "X") -> None:
    """Write an NPZ of X and y, X with this header and this size in the archive's directory, and a few bytes of data."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("y.npy", "w") as member:
            np.lib.format.write_array(member, np.arange(4))
        with archive.open(f"{name}.npy", "w") as member:
            np.lib.format.write_array_header_2_0(member, header)
            member.write(bytes(80))
        info = archive.getinfo(f"{name}.npy")
        info.file_size = n_bytes or info.file_size


ABSURD = {
    "a shape that the archive does not have": ((10**15, 3), 0),
    "a shape whose product overflows": ((2**33, 2**33), 0),
    "a shape that the archive claims too": ((1 << 31, 4), (1 << 35) + 128),
}


def arrays_of_npz(path: Path) -> None:
    with NpzReader(path) as reader:
        reader.array("X", whole=True)


@pytest.mark.parametrize("read", [load_dataset, arrays_of_npz])
@pytest.mark.parametrize(("shape", "n_bytes"), ABSURD.values(), ids=ABSURD)
def test_an_npz_that_says_too_much_is_refused_before_room_is_made_for_it(shape, n_bytes, read, tmp_path):
    path = tmp_path / "d.npz"
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with_declared_size(path, header, n_bytes)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"d\.npz.*: .*(has not the size|bytes, and \d+ are stored)"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_weights_of_an_sae_that_say_too_much_are_refused_before_room_is_made_for_them(tmp_path):
    path = made_saes.write_gemma_scope(tmp_path, 0, 2) / "params.npz"
    with_declared_size(path, {"descr": "<f4", "fortran_order": False, "shape": (1 << 33,)}, (1 << 35) + 128)
    with pytest.raises(ModelError, match=r"params\.npz: .*bytes, and \d+ are stored"):
        find_saes([str(tmp_path)])


def test_a_file_that_says_too_much_is_no_dataset_with_a_manifest(tmp_path):
    path = tmp_path / "d.npz"
    with_declared_size(path, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}, 0, name="meta_manifest")
    assert read_manifest_of(path) is None


def test_an_array_header_that_does_not_end_is_not_read(tmp_path):
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("X.npy", "w") as member:
        member.write(b"\x93NUMPY\x02\x00" + (30 << 20).to_bytes(4, "little") + b" " * (30 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="an array header of"):
            load_dataset(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol, in which Parquet's footer is written, has it."""
    number, code = 2 * number, b""
    while number > 127:
        number, code = number >> 7, code + bytes([number & 127 | 128])
    return code + bytes([number])


def declare(path: Path, n: int, said: int) -> None:
    """Change each number n in a Parquet file's footer."""
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[start:-8].replace(varint(n), varint(said))
    path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def test_a_parquet_file_that_declares_far_more_than_it_holds_is_refused(tmp_path):
    n = 12_345
    path = tmp_path / "d.parquet"
    save_dataset(np.ones((n, 1)), np.arange(n) % 2, {"n": 1}, path)
    assert len(load_dataset(path).X) == n
    declare(path, n, 10**12)
    with pytest.raises(DataError, match=r"d\.parquet: its footer declares \d+ values, and it has \d+ bytes"):
        load_dataset(path)
    fails_in_two_lines(run("train-probe", "--input", path, "--output", tmp_path / "o"), 1, "its footer declares")


def test_an_example_table_that_declares_far_more_than_it_holds_is_refused(llama, tmp_path):
    from tests.conftest import make_rows

    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps({"text": row["prompt"]}) + "\n" for row in make_rows(3)))
    made = run("extract-activations", "--model", llama, "--dataset", data, "--output", tmp_path / "out")
    assert made.returncode == 0, made.stderr
    (table,) = (tmp_path / "out").rglob("examples.parquet")
    for path in (tmp_path / "out").rglob("manifest.json"):
        path.unlink()  # as another program's
    rows = pq.read_table(table)
    pq.write_table(pa.concat_tables([rows] * 4115), table)
    assert len(actlab.open_activations(table.parent).examples) == 12_345
    declare(table, 12_345, 10**12)
    with pytest.raises(StorageError, match=r"examples\.parquet: its footer declares \d+ values"):
        _ = actlab.open_activations(table.parent).examples


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_of_a_model_that_is_far_too_large_is_refused_by_its_size(name, llama, tmp_path):
    model = tmp_path / "m"
    shutil.copytree(llama, model)
    with (model / name).open("r+b") as file:
        file.truncate(1 << 30)  # a hole: it takes no room
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "a b c"}\n')
    command = ("extract-activations", "--model", model, "--dataset", data, "--output", tmp_path / "out")
    fails_in_two_lines(run(*command), 1, f"{name} has more than 256 MiB")
    with pytest.raises(ModelError, match="has more than 256 MiB"):
        find_tokenizer(str(model))


def test_a_config_of_an_sae_that_is_far_too_large_and_weights_of_a_false_header_are_refused(tmp_path):
    path = made_saes.write_saelens(tmp_path / "sae", "topk", 1) / "cfg.json"
    weights = path.with_name("sae_weights.safetensors")
    whole = weights.read_bytes()
    for n_header in (1 << 60, 1 << 27, len(whole)):
        weights.write_bytes(n_header.to_bytes(8, "little") + whole[8:])
        with pytest.raises(ModelError, match=r"cannot read .*sae_weights\.safetensors"):
            saelens.read(path)
    weights.write_bytes(whole)
    saelens.read(path)
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(ModelError, match="has more than 256 MiB"):
        saelens.read(path)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size"])
def test_a_model_of_absurd_size_is_refused_by_its_config(key, llama, tmp_path):
    model = tmp_path / "m"
    shutil.copytree(llama, model)
    config = json.loads((model / "config.json").read_text())
    config.pop("layer_types", None)
    (model / "config.json").write_text(json.dumps(config | {key: 9_999_996}))
    with pytest.raises(ModelError, match=f"names 9999996 as {key}"):
        read_facts(find_model(str(model)))


# the system


def test_a_folder_for_temporary_files_that_is_missing_or_full_is_named(tmp_path, monkeypatch):
    def full(_: str) -> None:
        raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")  # safetensors'

    def no_room(_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for save in (full, no_room):
        with pytest.raises(StorageError, match="No space left") as wrong:
            list(saved_files(save))
        assert "TMPDIR" in wrong.value.hint
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="gone") as wrong:
        list(saved_files(lambda _: None))
    assert "TMPDIR" in wrong.value.hint
    with pytest.raises(StorageError, match="temporary files") as wrong:
        generate_text(prompt="how to cook", tokens=300, output=tmp_path / "t", quiet=True)
    assert "TMPDIR" in wrong.value.hint


def test_a_worker_that_was_killed_is_said_with_a_hint_and_nothing_is_published(tmp_path, monkeypatch):
    class Killed:
        def __init__(self, **_: object) -> None:
            pass

        def __call__(self, _: object) -> object:
            raise TerminatedWorkerError("A worker process managed by the executor was unexpectedly terminated.")

    settings = tiny_weights.settings(tmp_path, **{"pipeline.max_threads": 2})
    monkeypatch.setattr(joblib, "Parallel", Killed)
    with pytest.raises(ActlabError, match="worker process was killed") as wrong:
        run_data_gen(**settings)
    assert "--workers" in wrong.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_after_a_worker_was_killed_the_finished_units_are_kept_and_the_run_goes_on_to_the_same_bytes(
    tmp_path, monkeypatch
):
    few = {"pipeline.checkpoint_interval": 1, "dataset.output_dataset_length": 4}
    settings = tiny_weights.settings(tmp_path, **few)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    commit = Staging.commit

    def commit_and_kill(*arguments: object) -> None:
        commit(*arguments)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    command = ["run-data-gen", "--config-path", tmp_path / "c.yaml", "--workers", 2]
    monkeypatch.setattr(Staging, "commit", commit_and_kill)
    fails_in_two_lines(run(*command), 1, "worker process was killed", "finished units are kept")
    monkeypatch.undo()
    n_done = len(list((tmp_path / "out.partial" / "units").iterdir()))
    assert 0 < n_done < 4
    stored = hashes(tmp_path / "out.partial" / "store")
    assert len(stored) == 7 * n_done
    done = run(*command[:-1], 1, "--json")
    assert done.returncode == 0, done.stderr
    made = hashes(tmp_path / "out")
    assert {name: made[f"store/{name}"] for name in stored} == stored
    log = [json.loads(line) for line in (tmp_path / "out.log.jsonl").read_text().splitlines()]
    assert sorted(entry["unit"] for entry in log if "compute_s" in entry) == [0, 1, 2, 3], "none was done twice"
    assert tiny_weights.make(tmp_path, **few, **{"pipeline.output_dir": str(tmp_path / "whole")}).is_sealed
    assert hashes(tmp_path / "whole") == made


# memory


def out_of_memory_by(name: str) -> None:
    {
        "Python": lambda: [0] * sys.maxsize,
        "numpy": lambda: np.empty(1 << 58),
        "pyarrow": lambda: pa.allocate_buffer(1 << 60),
        "torch": lambda: torch.empty(1 << 58),
        "the system": no_memory,
    }[name]()


def no_memory() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("name", ["Python", "numpy", "pyarrow", "torch", "the system"])
def test_memory_that_is_not_there_is_said_in_two_lines_by_any_command(name, tmp_path, monkeypatch):
    monkeypatch.setattr("actlab.features.split.job.jobs_of", lambda _: out_of_memory_by(name))
    (tmp_path / "s.csv").write_text("sentence,concept_strength_label\na b c,1\nd e f,2\n")
    done = run("split", "--input", tmp_path / "s.csv", cwd=tmp_path)
    fails_in_two_lines(done, 1, "out of memory", "--batch-size")


def test_a_bug_is_not_taken_for_a_want_of_memory(tmp_path, monkeypatch):
    def wrong(_: object) -> None:
        raise RuntimeError("the size of tensor a must match")

    monkeypatch.setattr("actlab.features.split.job.jobs_of", wrong)
    (tmp_path / "s.csv").write_text("sentence,concept_strength_label\na b c,1\nd e f,2\n")
    with pytest.raises(RuntimeError, match="the size of tensor a"):
        run("split", "--input", tmp_path / "s.csv", cwd=tmp_path)


_PEAK = """
import resource, sys
from actlab.cli.main import main
import torch, transformers, scipy.sparse, pandas, sklearn
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    main(sys.argv[1:])
except SystemExit as stop:
    print(stop.code, file=sys.stderr)
print("grown by", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
"""


def peak_kb(*arguments: object) -> int:
    """Return by how much a command's memory grew at most beyond what its libraries take."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    return int(done.stderr.rsplit("grown by ", 1)[1]) // (1024 if sys.platform == "darwin" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["extract-activations", "tokenize-text", "split", "split-csv", "train-sae"])
def test_a_line_of_300_mb_takes_less_than_a_gigabyte(command, tmp_path, llama):
    jsonl, csv = tmp_path / "d.jsonl", tmp_path / "d.csv"
    with jsonl.open("w") as file:
        file.write('{"text": "a first row"}\n{"text": "')
        for _ in range(300):
            file.write("word " * 200_000)
        file.write('"}\n{"text": "a last row"}\n')
    csv.write_text("sentence,concept_strength_label\na b c d,1\n")
    with csv.open("a") as file:
        for _ in range(300):
            file.write("word " * 200_000)
        file.write(",2\nc d e f g,2\nh i j k,1\nl m n o,2\n")
    grown = peak_kb(
        *{
            "extract-activations": ("extract-activations", "--model", llama, "--dataset", jsonl, "--output", tmp_path),
            "tokenize-text": ("tokenize-text", jsonl, "--output", tmp_path / "t"),
            "split": ("split", "--input", jsonl, "--output", tmp_path / "s.json"),
            "split-csv": ("split", "--input", csv, "--output", tmp_path / "s.json"),
            "train-sae": (
                *("train-sae", "--model", llama, "--input", jsonl, "--output", tmp_path / "saes", "--layers", "1"),
                *("--n-steps", 2, "--n-features", 16, "--k", 2),
            ),
        }[command]
    )
    assert grown < 1_000_000
