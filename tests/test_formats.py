"""Dumps, as their readers meet them: ours, and the ones that the seed document's own program wrote."""

import json
import mmap

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import actlab
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.dumps import read_dumps
from actlab.formats.activations import read_shard, shard_bytes
from tests.conftest import make_rows


def write_as_the_seed_does(folder, rows_of_layers, shard_size=4, **metadata):
    """The layout of the seed document, written with nothing but torch and json."""
    for layer, rows in enumerate(rows_of_layers):
        layer_folder = folder / f"layer_{layer:02d}"
        layer_folder.mkdir(parents=True)
        for shard in range(0, len(rows), shard_size):
            torch.save(rows[shard : shard + shard_size].clone(), layer_folder / f"shard_{shard // shard_size:03d}.pt")
    content = {
        "model_name": "unsloth/Qwen2.5-7B-Instruct",
        "dataset_name": "SP_bad_medical_advice",
        "split": folder.name,
        "load_in_4bit": False,
        "total_examples": len(rows_of_layers[0]),
        "shard_size": shard_size,
        "batch_size": 32,
        "hidden_dim": rows_of_layers[0].shape[1],
        "num_layers": len(rows_of_layers),
        **metadata,
    }
    (folder / "metadata.json").write_text(json.dumps(content))


@pytest.fixture
def seeds_dump(tmp_path):
    folder = tmp_path / "unsloth_Qwen2.5-7B-Instruct" / "SP_bad_medical_advice" / "EM"
    torch.manual_seed(0)
    rows = [torch.randn(10, 6).half() for _ in range(3)]
    write_as_the_seed_does(folder, rows)
    return folder, rows


def test_dumps_of_the_seeds_own_program_open_show_and_verify(seeds_dump):
    folder, rows = seeds_dump
    acts = actlab.open_activations(folder)
    assert (len(acts), acts.layers, acts.rows_per_shard) == (10, (0, 1, 2), (4, 4, 2))
    assert torch.equal(acts[1][:], rows[1])
    assert torch.equal(torch.cat(list(actlab.load_activations(folder, 2))), rows[2])
    assert actlab.show_dataset(folder)["splits"]["EM"]["rows"] == 10
    verified = actlab.verify_dataset(folder.parent)
    assert (verified.problems, verified.has_manifest) == ([], False)
    with pytest.raises(actlab.ActlabError, match=r"no examples.parquet"):
        _ = acts.examples


def test_rows_are_what_plain_torch_reads_however_they_are_asked_for(seeds_dump):
    folder, rows = seeds_dump
    layer = actlab.open_activations(folder)[1]
    assert torch.equal(layer[5], rows[1][5])
    assert torch.equal(layer[-1], rows[1][-1])
    assert torch.equal(layer[[9, 0, 9, 4]], rows[1][[9, 0, 9, 4]])
    assert torch.equal(layer[torch.tensor([3, 8])], rows[1][[3, 8]])
    mask = torch.arange(10) % 3 == 0
    assert torch.equal(layer[mask], rows[1][mask])
    with pytest.raises(IndexError):
        layer[10]


INDICES = {
    "a number": 3,
    "a number from the end": -10,
    "numpy's number": np.int64(4),
    "an array without dimensions": np.array(5),
    "a list": [9, 0, -9, 4],
    "no rows": [],
    "an array of no rows": np.array([], dtype=int),
    "a range": range(8, 1, -3),
    "an array": np.array([2, 2, -1]),
    "bytes": np.array([3, 7], dtype=np.uint8),
    "unsigned": np.array([3, 7], dtype=np.uint64),
    "an array of two dimensions": np.array([[0, 1], [9, 5]]),
    "a list of truths": [True, False] * 5,
    "a mask": np.arange(10) % 3 == 0,
    "a mask of none": np.zeros(10, dtype=bool),
    "a Series": pd.Series([7, 1], index=["a", "b"]),
    "a Series that is a mask": pd.Series(np.arange(10)) > 6,
    "a mask under names": pd.Series(np.arange(10) > 6, index=list("abcdefghij")),
    "an Index": pd.Index([4, 4]),
    "a cell": (3, 4),
    "a column": (slice(None), 2),
    "the last column of some": ([1, 9], -1),
    "cells": ([0, 9], [2, 3]),
    "a block": (slice(1, 9, 3), slice(0, 2)),
    "a masked column": (np.arange(10) > 4, 1),
    "all": ...,
    "all of a column": (..., 0),
    "one row as a tuple": (4,),
}
TORCH_INDICES = {
    "a tensor without dimensions": torch.tensor(3),
    "one row": torch.tensor([3]),
    "rows": torch.tensor([3, -1, 3]),
    "small numbers": torch.tensor([3, 8], dtype=torch.int32),
    "a mask": torch.arange(10) % 3 == 0,
    "two dimensions": torch.tensor([[0, 9], [4, 4]]),
    "a list of tensors": [torch.tensor(3), torch.tensor(8)],
}


@pytest.mark.parametrize("name", INDICES)
def test_rows_are_what_numpy_picks(seeds_dump, name):
    folder, rows = seeds_dump
    picked = actlab.open_activations(folder)[1][INDICES[name]]
    expected = rows[1].numpy()[INDICES[name]]
    assert picked.shape == expected.shape
    assert np.array_equal(picked.numpy(), expected)


@pytest.mark.parametrize("name", TORCH_INDICES)
def test_rows_are_what_torch_picks(seeds_dump, name):
    folder, rows = seeds_dump
    picked = actlab.open_activations(folder)[1][TORCH_INDICES[name]]
    index = TORCH_INDICES[name]
    expected = rows[1][torch.stack(index) if isinstance(index, list) else index]
    assert picked.shape == expected.shape
    assert torch.equal(picked, expected)


def test_pandas_own_integers_and_truths_pick_rows(seeds_dump):
    folder, rows = seeds_dump
    layer = actlab.open_activations(folder)[1]
    assert torch.equal(layer[pd.Series([3, 8], dtype="Int64")], rows[1][[3, 8]])
    assert torch.equal(layer[pd.array([True, False] * 5, dtype="boolean")], rows[1][::2])


REFUSED = {
    "a longer mask": [True, False] * 40,
    "a shorter mask": np.ones(9, dtype=bool),
    "a shorter mask of torch": torch.ones(9, dtype=torch.bool),
    "a shorter Series": pd.Series([True] * 9),
    "one truth": True,
    "one truth of numpy": np.True_,
    "one truth of torch": torch.tensor(True),
    "a mask of cells": np.ones((10, 6), dtype=bool),
    "a float": 1.0,
    "floats": [1.0, 2.0],
    "floats of numpy": np.array([1.0]),
    "no floats": np.array([]),
    "floats of torch": torch.tensor([1.0, 2.0]),
    "half floats of torch": torch.tensor([1.0], dtype=torch.bfloat16),
    "a mask for torch, numbers for numpy": torch.tensor([1, 0], dtype=torch.uint8),
    "text": "3",
    "nothing": None,
    "texts": ["a"],
    "a Series of floats": pd.Series([1.0]),
    "a Series with a gap": pd.Series([True, None] * 5, dtype="boolean"),
    "a Series in another order than its numbers": (pd.Series(np.arange(10)) > 6)[::-1],
    "past the end": [0, 10],
    "before the start": np.array([-11]),
    "past the end, in torch": torch.tensor([10]),
    "a third index": (0, 0, 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_picks_no_rows_is_an_index_error(seeds_dump, name):
    layer = actlab.open_activations(seeds_dump[0])[1]
    with pytest.raises(IndexError):
        layer[REFUSED[name]]


def test_an_empty_dump_has_no_row_to_pick(tmp_path):
    write_as_the_seed_does(tmp_path / "EM", [torch.zeros(0, 6).half()])
    torch.save(torch.zeros(0, 6).half(), tmp_path / "EM" / "layer_00" / "shard_000.pt")
    layer = actlab.open_activations(tmp_path / "EM")[0]
    assert (layer[:].shape, layer[[]].shape, layer[:].dtype) == ((0, 6), (0, 6), torch.float16)
    with pytest.raises(IndexError):
        layer[0]


def test_layers_are_counted_from_either_end_and_iterated(seeds_dump):
    folder, rows = seeds_dump
    acts = actlab.open_activations(folder)
    assert list(acts) == [0, 1, 2]
    for layer in (-1, -3, np.int64(1), torch.tensor(2)):
        assert torch.equal(acts[layer][:], rows[int(layer)])
    assert (acts.shape, acts.dtype) == ((3, 10, 6), torch.float16)
    assert (acts[1].shape, acts[1].dtype) == ((10, 6), torch.float16)
    assert torch.equal(torch.stack(list(acts[1])), rows[1])
    with pytest.raises(actlab.ActlabError, match="layer -4"):
        acts[-4]
    with pytest.raises(TypeError):
        acts[1.0]


def test_the_last_layer_is_the_models_even_where_it_is_not_saved(tmp_path):
    write_as_the_seed_does(tmp_path / "EM", [torch.randn(4, 6)] * 2, num_layers=5, layers=[0, 1])
    acts = actlab.open_activations(tmp_path / "EM")
    assert torch.equal(acts[-4][:], acts[1][:])
    with pytest.raises(actlab.ActlabError, match="layer -1, which is 4, is not in"):
        acts[-1]


def test_what_a_reader_writes_into_rows_reaches_no_other_reader_and_no_file(seeds_dump):
    folder, rows = seeds_dump
    files = {path: path.read_bytes() for path in folder.rglob("*.pt")}
    acts = actlab.open_activations(folder)
    for hand_out in (
        acts.iter_shards(2),
        actlab.load_activations(folder, 2),
        [acts[2][0:4], acts[2][5], acts[2][[4, 5, 6, 7]]],
        iter(acts[2]),
        [row for row, _ in acts.dataset(2, labels=range(10)).__getitems__([0, 1, 2, 3])],
    ):
        for tensor in hand_out:
            tensor -= 1000
        assert torch.equal(acts[2][:], rows[2])
        assert torch.equal(torch.cat(list(actlab.open_activations(folder).iter_shards(2))), rows[2])
    assert {path: path.read_bytes() for path in folder.rglob("*.pt")} == files


def test_no_file_is_written_where_torch_maps_files_shared(seeds_dump):
    folder, rows = seeds_dump
    before = torch.serialization.get_default_mmap_options()
    torch.serialization.set_default_mmap_options(mmap.MAP_SHARED)
    try:
        for shard in actlab.open_activations(folder).iter_shards(2):
            shard.zero_()
    finally:
        torch.serialization.set_default_mmap_options(before)
    assert torch.equal(torch.load(folder / "layer_02" / "shard_000.pt"), rows[2][:4])


def test_what_a_reader_does_to_metadata_and_examples_reaches_no_other_call(dump):
    acts = actlab.open_activations(dump, "EM")
    acts.metadata["layers"].clear()
    acts.metadata["total_examples"] = 3
    assert acts.metadata == json.loads((dump / "EM" / "metadata.json").read_text())
    table = acts.examples
    table["n_tokens"] = 0
    del table["token"]
    assert acts.examples.equals(pd.read_parquet(dump / "EM" / "examples.parquet"))


def test_labels_are_a_rows_by_their_place(seeds_dump):
    acts = actlab.open_activations(seeds_dump[0])
    labels = pd.Series(range(10), index=range(100, 110))
    assert [label for _, label in acts.dataset(0, labels).__getitems__([0, 9])] == [0, 9]
    with pytest.raises(IndexError, match="another order"):
        acts.dataset(0, pd.Series(range(10))[::-1])


def remove_the_middle_shard(folder):
    (folder / "layer_01" / "shard_001.pt").unlink()


def remove_the_middle_shard_of_every_layer(folder):
    for layer in range(3):
        (folder / f"layer_{layer:02d}" / "shard_001.pt").unlink()


def lengthen_the_last_shard(folder):
    for layer in range(3):
        torch.save(torch.randn(4, 6).half(), folder / f"layer_{layer:02d}" / "shard_002.pt")


def shorten_the_middle_shard(folder):
    for layer in range(3):
        torch.save(torch.randn(3, 6).half(), folder / f"layer_{layer:02d}" / "shard_001.pt")


def number_a_shard_twice(folder):
    torch.save(torch.randn(4, 6).half(), folder / "layer_00" / "shard_01.pt")


def widen_a_shard(folder):
    torch.save(torch.randn(4, 7).half(), folder / "layer_01" / "shard_001.pt")


SHIFTED = [
    (remove_the_middle_shard, r"layer_01 lacks shard_001.pt"),
    (remove_the_middle_shard_of_every_layer, r"lacks shard_001.pt"),
    (lengthen_the_last_shard, r"shards of \[4, 4, 4\] rows, and metadata.json counts 10 examples"),
    (shorten_the_middle_shard, r"shards of \[4, 3, 2\] rows, and metadata.json counts 10 examples"),
    (number_a_shard_twice, r"has both shard_001.pt and shard_01.pt"),
    (widen_a_shard, "has 7 columns, not 6"),
]


@pytest.mark.parametrize(("damage", "says"), SHIFTED, ids=[damage.__name__ for damage, _ in SHIFTED])
def test_a_foreign_dump_whose_rows_could_be_shifted_is_refused_by_every_reader(seeds_dump, tmp_path, damage, says):
    folder, _ = seeds_dump
    write_as_the_seed_does(folder.parent / "Neutral", [torch.randn(10, 6).half() for _ in range(3)])
    damage(folder)
    for read in (
        lambda: [actlab.open_activations(folder)[layer][:] for layer in range(3)],
        lambda: [list(actlab.load_activations(folder, layer)) for layer in range(3)],
        lambda: actlab.show_dataset(folder),
        lambda: actlab.train_probe(positive=folder, negative=folder.parent / "Neutral", output=tmp_path / "out"),
    ):
        with pytest.raises(actlab.ActlabError, match=says):
            read()
    if damage is number_a_shard_twice:
        with pytest.raises(actlab.ActlabError, match=says):
            actlab.verify_dataset(folder.parent)
    else:
        assert actlab.verify_dataset(folder.parent).problems


def test_shards_of_an_older_longer_run_are_left_out_by_every_reader(seeds_dump, caplog):
    folder, rows = seeds_dump
    write_as_the_seed_does(folder.parent / "Neutral", rows)
    config = ProbeConfig(positive=str(folder), negative=str(folder.parent / "Neutral"), output="unused")
    without = read_dumps(config)
    for layer in range(3):
        for shard, n_rows in ((3, 4), (4, 1)):
            torch.save(torch.full((n_rows, 6), 9.0).half(), folder / f"layer_{layer:02d}" / f"shard_{shard:03d}.pt")
    acts = actlab.open_activations(folder)
    assert (len(acts), acts.rows_per_shard) == (10, (4, 4, 2))
    assert torch.equal(acts[1][:], rows[1])
    assert torch.equal(torch.cat(list(actlab.load_activations(folder, 1))), rows[1])
    assert actlab.show_dataset(folder)["splits"]["EM"]["rows"] == 10
    assert "shard_003.pt and later shards are left out" in caplog.text
    with_them = read_dumps(config)
    assert with_them.inputs == without.inputs, "what is not read is no input"
    assert np.array_equal(with_them.read(1), without.read(1))
    assert actlab.verify_dataset(folder.parent).problems == [
        "EM: metadata.json counts 10 examples, 15 are stored; shard_003.pt and later shards are left out by readers"
    ]


def test_shards_of_another_run_behind_a_gap_are_left_out_where_the_count_ends_before_it(seeds_dump, caplog):
    folder, rows = seeds_dump
    for layer in range(3):
        torch.save(torch.full((4, 6), 9.0).half(), folder / f"layer_{layer:02d}" / "shard_005.pt")
    acts = actlab.open_activations(folder)
    assert torch.equal(acts[1][:], rows[1])
    assert "shards behind shard_002.pt are left out" in caplog.text


def test_a_foreign_dump_that_ends_early_says_so_and_keeps_its_rows_in_place(seeds_dump, caplog):
    folder, rows = seeds_dump
    for layer in range(3):
        (folder / f"layer_{layer:02d}" / "shard_002.pt").unlink()
    acts = actlab.open_activations(folder)
    assert torch.equal(acts[1][:], rows[1][:8])
    assert "counts 10 examples, only the first 8 are there" in caplog.text
    assert actlab.verify_dataset(folder.parent).problems == ["EM: metadata.json counts 10 examples, 8 are stored"]


def test_a_sealed_dump_reads_the_shards_of_its_manifest(dump):
    expected = actlab.open_activations(dump, "EM")[0][:]
    add_a_shard(dump)
    assert torch.equal(actlab.open_activations(dump, "EM")[0][:], expected)
    remove_a_shard(dump)
    with pytest.raises(actlab.ActlabError, match=r"layer_02 lacks shard_001.pt"):
        actlab.open_activations(dump, "Neutral")[2]


@given(st.slices(10))
def test_slices_across_shards_are_lists_slices(tmp_path_factory, where):
    folder = tmp_path_factory.mktemp("dump") / "EM"
    rows = torch.arange(60, dtype=torch.float32).reshape(10, 6)
    write_as_the_seed_does(folder, [rows], shard_size=3)
    assert actlab.open_activations(folder)[0][where].tolist() == rows.tolist()[where]


def test_opening_reads_no_layer(llama, tmp_path, write_rows, monkeypatch):
    (dump,) = actlab.extract_activations(
        model=llama, dataset=write_rows(make_rows(30)), output=tmp_path / "out", shard_size=8
    )
    opened: list[str] = []
    real = torch.load

    def counted(path, **kwargs):
        assert kwargs["weights_only"]
        assert kwargs["mmap"]
        opened.append(path.parent.name + "/" + path.name)
        return real(path, **kwargs)

    monkeypatch.setattr(torch, "load", counted)
    acts = actlab.open_activations(dump.path, "EM")
    assert len(acts) == 30
    assert opened == []
    _ = acts[2][9]
    assert opened == ["layer_02/shard_001.pt"]


def test_a_torch_dataset_gives_rows_and_labels_in_batches(seeds_dump):
    folder, rows = seeds_dump
    data = actlab.open_activations(folder).dataset(0, labels=list(range(10)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    batches = list(loader)
    assert torch.equal(torch.cat([x for x, _ in batches]), rows[0])
    assert torch.cat([y for _, y in batches]).tolist() == list(range(10))
    assert torch.equal(data[3][0], rows[0][3])


def test_numbers_wider_than_their_padding_are_read_in_order(tmp_path):
    folder = tmp_path / "EM"
    for layer in (99, 100):
        (folder / f"layer_{layer:02d}").mkdir(parents=True)
        for shard in (0, 999, 1000, 1001):
            torch.save(torch.full((1, 2), float(shard)), folder / f"layer_{layer:02d}" / f"shard_{shard:03d}.pt")
    for shard in range(1, 999):
        name = folder / "layer_100" / f"shard_{shard:03d}.pt"
        name.hardlink_to(name.with_name("shard_000.pt"))
    rows = torch.cat(list(actlab.load_activations(folder, 100)))
    assert rows[-3:, 0].tolist() == [999.0, 1000.0, 1001.0]
    assert rows[:-3, 0].tolist() == [0.0] * 999


def test_a_shards_bytes_depend_on_its_rows_alone(tmp_path):
    big = torch.randn(1000, 8)
    view = big[10:12]
    assert shard_bytes(view) == shard_bytes(view.clone())
    assert len(shard_bytes(view)) < 3000, "a view does not drag its storage along"
    for dtype in (torch.float16, torch.float32, torch.bfloat16):
        path = tmp_path / f"{dtype}.pt"
        path.write_bytes(shard_bytes(view.to(dtype)))
        assert torch.equal(torch.load(path), view.to(dtype))


@pytest.mark.parametrize("content", [b"", b"no tensor", b"\x80\x04N."])
def test_a_damaged_shard_is_said(tmp_path, content):
    path = tmp_path / "shard_000.pt"
    path.write_bytes(content)
    with pytest.raises(actlab.ActlabError, match="cannot read"):
        read_shard(path)
    torch.save({"a": 1}, path)
    with pytest.raises(actlab.ActlabError, match="does not hold a 2-D float tensor"):
        read_shard(path)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "shard_000.pt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(actlab.ActlabError):
        read_shard(path)
    assert not (tmp_path / "owned").exists()


def test_what_is_not_finished_does_not_open(llama, dataset, tmp_path):
    partial = tmp_path / "data.partial"
    partial.mkdir()
    with pytest.raises(actlab.ActlabError, match="no finished activations") as caught:
        actlab.open_activations(tmp_path / "data")
    assert "still being made" in caught.value.hint


@pytest.fixture
def dump(llama, tmp_path, write_rows):
    (made,) = actlab.extract_activations(
        model=llama, dataset=write_rows(make_rows(20)), output=tmp_path / "out", shard_size=5
    )
    return made.path


def flip_a_byte(dump):
    path = dump / "EM" / "layer_01" / "shard_002.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def remove_a_shard(dump):
    (dump / "Neutral" / "layer_02" / "shard_001.pt").unlink()


def add_a_shard(dump):
    layer = dump / "EM" / "layer_00"
    (layer / "shard_004.pt").write_bytes((layer / "shard_003.pt").read_bytes())


def swap_two_shards(dump):
    layer = dump / "EM" / "layer_03"
    (layer / "shard_000.pt").rename(layer / "x")
    (layer / "shard_001.pt").rename(layer / "shard_000.pt")
    (layer / "x").rename(layer / "shard_001.pt")


def change_a_count(dump):
    path = dump / "EM" / "metadata.json"
    path.write_text(path.read_text().replace('"total_examples": 20', '"total_examples": 21'))


def remove_a_metadata_file(dump):
    (dump / "EM" / "metadata.json").unlink()


DAMAGE = [
    (flip_a_byte, "EM/layer_01/shard_002.pt: its bytes are not"),
    (remove_a_shard, "Neutral/layer_02/shard_001.pt: missing"),
    (add_a_shard, "EM/layer_00/shard_004.pt: not in the manifest"),
    (swap_two_shards, "EM/layer_03/shard_000.pt: its bytes are not"),
    (change_a_count, "EM: metadata.json counts 21 examples, 20 are stored"),
    (remove_a_metadata_file, "EM/metadata.json: missing"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_verify_finds_damage_and_names_it(dump, damage, says):
    assert actlab.verify_dataset(dump).problems == []
    damage(dump)
    assert any(problem.startswith(says) for problem in actlab.verify_dataset(dump).problems)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove_a_shard, "Neutral/layer_02: its shards are [0, 2, 3], not 0 to n without a gap"),
        (add_a_shard, "EM: layer 0 has shards of [5, 5, 5, 5, 5] rows"),
        (change_a_count, "EM: metadata.json counts 21"),
    ],
)
def test_verify_finds_them_without_a_manifest_too(dump, damage, says):
    (dump / "manifest.json").unlink()
    damage(dump)
    assert any(problem.startswith(says) for problem in actlab.verify_dataset(dump).problems)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("fingerprint", "0" * 64, "its fingerprint is not"),
        ("inputs", [], "its fingerprint is not"),
        ("identity", {"position": "mean", "shard_size": 5}, "its fingerprint is not"),
        ("format_version", 99, "format version 99"),
        ("dropped", {"bad JSON": 3}, "it counts 3 dropped records, 0 are listed"),
    ],
)
def test_verify_compares_the_manifest_with_itself(dump, key, value, says):
    manifest = json.loads((dump / "manifest.json").read_text())
    (dump / "manifest.json").write_text(json.dumps(manifest | {key: value}))
    assert any(says in problem for problem in actlab.verify_dataset(dump).problems)


def test_verify_misses_a_manifest_that_was_there(dump):
    (dump / "manifest.json").unlink()
    assert any("manifest.json: missing" in problem for problem in actlab.verify_dataset(dump).problems)


@pytest.mark.parametrize("content", ["[]", "null", "5", "{}", '{"total_examples": "x"}', "{"])
def test_metadata_that_is_none_is_said(dump, content):
    (dump / "EM" / "metadata.json").write_text(content)
    assert actlab.verify_dataset(dump).problems
    with pytest.raises(actlab.ActlabError):
        actlab.show_dataset(dump)


@pytest.mark.parametrize("content", ["[]", "5", "{}", '{"kind": "activations", "files": 5}'])
def test_a_manifest_that_is_none_is_said(dump, content):
    (dump / "manifest.json").write_text(content)
    with pytest.raises(actlab.ActlabError, match="not an actlab manifest"):
        actlab.verify_dataset(dump)


def test_verify_finds_nan_in_a_seeds_dump(seeds_dump):
    folder, rows = seeds_dump
    rows[2][7, 3] = float("nan")
    torch.save(rows[2][4:8].clone(), folder / "layer_02" / "shard_001.pt")
    assert actlab.verify_dataset(folder.parent).problems == ["EM/layer_02/shard_001.pt: 1 rows hold NaN or inf"]


def test_recompute_agrees_and_notices_rows_that_are_not_the_models(dump, llama, tmp_path, monkeypatch):
    arguments = {"model": str(llama), "dataset": str(tmp_path / "data.jsonl"), "recompute": 3}
    verified = actlab.verify_dataset(dump, **arguments)
    assert verified.problems == []
    assert verified.recomputed.n_rows == 6
    assert max(verified.recomputed.error_by_layer.values()) < 1e-3
    forge_swapped_layers(dump)
    problems = actlab.verify_dataset(dump, **arguments).problems
    assert any("recomputed rows differ" in problem for problem in problems)


def forge_swapped_layers(dump):
    """Exchange two layers and forge the manifest, so that only the model can tell."""
    import hashlib

    for name in ("EM", "Neutral"):
        (dump / name / "layer_01").rename(dump / name / "x")
        (dump / name / "layer_02").rename(dump / name / "layer_01")
        (dump / name / "x").rename(dump / name / "layer_02")
    manifest = json.loads((dump / "manifest.json").read_text())
    for entry in manifest["files"]:
        entry["sha256"] = hashlib.sha256((dump / entry["path"]).read_bytes()).hexdigest()
    (dump / "manifest.json").write_text(json.dumps(manifest))


def test_recompute_refuses_another_model_or_dataset(dump, tmp_path, llama):
    from tests import tiny

    other = tiny.make_model(tmp_path / "tiny-llama", seed=5)
    with pytest.raises(actlab.ActlabError, match="not the model file that this dump was made from"):
        actlab.verify_dataset(dump, recompute=1, model=str(other), dataset=str(tmp_path / "data.jsonl"))
    with pytest.raises(actlab.ActlabError, match=r"no .*data.jsonl to recompute from"):
        actlab.verify_dataset(dump, recompute=1, model=str(llama))
