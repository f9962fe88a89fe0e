"""Dumps, as their readers meet them: ours, and the ones that the seed document's own program wrote."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import actlab
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
    assert actlab.show_activations(folder)["splits"]["EM"]["rows"] == 10
    verified = actlab.verify_activations(folder.parent)
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
        for shard in (999, 1000, 1001):
            torch.save(torch.full((1, 2), float(shard)), folder / f"layer_{layer:02d}" / f"shard_{shard:03d}.pt")
    rows = torch.cat(list(actlab.load_activations(folder, 100)))
    assert rows[:, 0].tolist() == [999.0, 1000.0, 1001.0]


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
    assert actlab.verify_activations(dump).problems == []
    damage(dump)
    assert any(problem.startswith(says) for problem in actlab.verify_activations(dump).problems)


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
    assert any(problem.startswith(says) for problem in actlab.verify_activations(dump).problems)


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
    assert any(says in problem for problem in actlab.verify_activations(dump).problems)


def test_verify_misses_a_manifest_that_was_there(dump):
    (dump / "manifest.json").unlink()
    assert any("manifest.json: missing" in problem for problem in actlab.verify_activations(dump).problems)


@pytest.mark.parametrize("content", ["[]", "null", "5", "{}", '{"total_examples": "x"}', "{"])
def test_metadata_that_is_none_is_said(dump, content):
    (dump / "EM" / "metadata.json").write_text(content)
    assert actlab.verify_activations(dump).problems
    with pytest.raises(actlab.ActlabError):
        actlab.show_activations(dump)


@pytest.mark.parametrize("content", ["[]", "5", "{}", '{"kind": "activations", "files": 5}'])
def test_a_manifest_that_is_none_is_said(dump, content):
    (dump / "manifest.json").write_text(content)
    with pytest.raises(actlab.ActlabError, match="not an actlab manifest"):
        actlab.verify_activations(dump)


def test_verify_finds_nan_in_a_seeds_dump(seeds_dump):
    folder, rows = seeds_dump
    rows[2][7, 3] = float("nan")
    torch.save(rows[2][4:8].clone(), folder / "layer_02" / "shard_001.pt")
    assert actlab.verify_activations(folder.parent).problems == ["EM/layer_02/shard_001.pt: 1 rows hold NaN or inf"]


def test_recompute_agrees_and_notices_rows_that_are_not_the_models(dump, llama, tmp_path, monkeypatch):
    arguments = {"model": str(llama), "dataset": str(tmp_path / "data.jsonl"), "recompute": 3}
    verified = actlab.verify_activations(dump, **arguments)
    assert verified.problems == []
    assert verified.recomputed.n_rows == 6
    assert max(verified.recomputed.error_by_layer.values()) < 1e-3
    forge_swapped_layers(dump)
    problems = actlab.verify_activations(dump, **arguments).problems
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
        actlab.verify_activations(dump, recompute=1, model=str(other), dataset=str(tmp_path / "data.jsonl"))
    with pytest.raises(actlab.ActlabError, match=r"no .*data.jsonl to recompute from"):
        actlab.verify_activations(dump, recompute=1, model=str(llama))
