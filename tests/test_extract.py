"""What a run does and leaves, seen from Python."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import actlab
from actlab.activations import compute as compute_module
from actlab.activations.job import ExtractJob
from actlab.backends import reader as states_module
from tests import tiny
from tests.conftest import make_rows, untested
from tests.folders import hashes


def extract(model, dataset, output, **settings):
    return actlab.extract_activations(model=model, dataset=dataset, output=output, **settings)


def test_metadata_begins_with_the_documented_keys_in_order(llama, dataset, tmp_path):
    (dump,) = extract(llama, dataset, tmp_path / "out", shard_size=8)
    text = (dump.path / "EM" / "metadata.json").read_text()
    keys = list(json.loads(text))
    documented = "model_name dataset_name split load_in_4bit total_examples shard_size batch_size hidden_dim num_layers"
    assert keys[:9] == documented.split()
    metadata = json.loads(text)
    assert (metadata["total_examples"], metadata["shard_size"], metadata["num_layers"]) == (20, 8, 4)
    assert metadata["model_name"] == "tiny-llama"
    shards = sorted(path.name for path in (dump.path / "EM" / "layer_03").iterdir())
    assert shards == ["shard_000.pt", "shard_001.pt", "shard_002.pt"]
    rows = [len(shard) for shard in actlab.load_activations(dump.path / "EM", 3)]
    assert rows == [8, 8, 4]


def test_shards_of_all_splits_cover_the_same_lines_good_or_bad(llama, tmp_path):
    rows = [json.dumps(row) for row in make_rows(10)]
    lacking = json.loads(rows[1])
    del lacking["EM"]
    rows[1] = json.dumps(lacking)
    rows[5] = "{torn"
    rows[8] = rows[9] = json.dumps({"prompt": "p", "Neutral": "only one answer"})
    source = tmp_path / "lines.jsonl"
    source.write_text("\n".join(rows))
    (dump,) = extract(llama, source, tmp_path / "out", shard_size=4)
    assert dump.n_dropped == 1
    by_split = {split: actlab.open_activations(dump.path, split) for split in ("EM", "Neutral")}
    assert by_split["EM"].rows_per_shard == (3, 3, 0)
    assert by_split["Neutral"].rows_per_shard == (4, 3, 2)
    assert by_split["EM"].examples["source_line"].tolist() == [1, 3, 4, 5, 7, 8]
    assert by_split["EM"][0][0:0].shape == (0, 32)
    empty = torch.load(dump.path / "EM" / "layer_00" / "shard_002.pt", weights_only=True)
    assert empty.shape == (0, 32)
    assert empty.dtype == torch.float16
    assert not actlab.verify_dataset(dump.path).problems


def test_units_of_small_shards_resume_and_give_the_same_bytes(llama, tmp_path, write_rows, monkeypatch):
    from actlab.activations import source

    monkeypatch.setattr(source, "UNIT_LINES", 8)
    data = write_rows(make_rows(30))
    (whole,) = extract(llama, data, tmp_path / "whole", shard_size=4)
    real = ExtractJob.do_unit

    def stops_at_the_third(self, unit, more):
        if unit == 2:
            raise KeyboardInterrupt
        return real(self, unit, more)

    monkeypatch.setattr(ExtractJob, "do_unit", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        extract(llama, data, tmp_path / "out", shard_size=4)
    done: list[int] = []

    def counts(self, unit, more):
        done.append(unit)
        return real(self, unit, more)

    monkeypatch.setattr(ExtractJob, "do_unit", counts)
    (resumed,) = extract(llama, data, tmp_path / "out", shard_size=4)
    assert done == [2, 3]
    assert hashes(resumed.path) == hashes(whole.path)
    parts = [extract(llama, data, tmp_path / "parts", shard_size=4, part=f"{i}/3") for i in (3, 1, 2)]
    assert [part[0].is_sealed for part in parts] == [False, False, True]
    assert hashes(parts[2][0].path) == hashes(whole.path)
    log = [json.loads(line) for line in (tmp_path / "parts" / "tiny-llama" / "data.log.jsonl").open()]
    assert sorted(event["unit"] for event in log) == [0, 1, 2, 3]


def test_nothing_in_a_dump_depends_on_where_it_was_made(llama, dataset, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(llama, elsewhere / "tiny-llama")
    (elsewhere / "deep").mkdir()
    shutil.copy(dataset, elsewhere / "deep" / "data.jsonl")
    (one,) = extract(llama, dataset, tmp_path / "a")
    (other,) = extract(elsewhere / "tiny-llama", elsewhere / "deep", tmp_path / "b", device="cpu")
    assert hashes(one.path) == hashes(other.path)
    assert str(tmp_path) not in (one.path / "manifest.json").read_text()


def test_another_model_or_dataset_of_the_same_name_is_refused(llama, dataset, tmp_path):
    extract(llama, dataset, tmp_path / "out")
    other = tiny.make_model(tmp_path / "tiny-llama", seed=1)
    with pytest.raises(actlab.ActlabError, match=r"model.safetensors\].sha256"):
        extract(other, dataset, tmp_path / "out")
    dataset.write_text(dataset.read_text() * 2)
    with pytest.raises(actlab.ActlabError, match=r"data.jsonl\].bytes"):
        extract(llama, dataset, tmp_path / "out")
    (dump,) = extract(llama, dataset, tmp_path / "out", overwrite=True)
    assert len(actlab.open_activations(dump.path, "EM")) == 40
    assert sorted(path.name for path in dump.path.parent.iterdir()) == ["data", "data.log.jsonl"]


def test_a_row_with_nan_states_is_dropped_by_name_and_costs_no_other(llama, tmp_path, write_rows):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan-model"
    shutil.copytree(llama, folder)
    weights = load_file(folder / "model.safetensors")
    poisoned = tiny.make_tokenizer()("Z")["input_ids"][-1]
    weights["model.embed_tokens.weight"][poisoned] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rows = make_rows(6)
    rows[2]["EM"] += " Z"
    rows[4]["prompt"] += " Z"
    (dump,) = extract(folder, write_rows(rows), tmp_path / "out")
    assert dump.n_dropped == 3
    listed = [json.loads(line) for line in (dump.path / "dropped.jsonl").open()]
    assert [(one["line"], one["split"]) for one in listed] == [(3, "EM"), (5, "EM"), (5, "Neutral")]
    acts = actlab.open_activations(dump.path, "EM")
    assert acts.examples["source_line"].tolist() == [1, 2, 4, 6]
    assert acts[3][:].isfinite().all()
    with pytest.raises(actlab.ActlabError, match="line 3, EM: NaN or inf"):
        extract(folder, write_rows(rows), tmp_path / "strict", on_bad="error")


def test_a_value_too_large_for_float16_is_an_error_that_names_the_layer(llama, dataset, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "massive"
    shutil.copytree(llama, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1e7
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(actlab.ActlabError, match=r"layer 1 holds values.*too large for float16") as caught:
        extract(folder, dataset, tmp_path / "out")
    assert "bfloat16" in caught.value.hint
    (dump,) = extract(folder, dataset, tmp_path / "out", dtype="bfloat16")
    assert actlab.open_activations(dump.path, "EM")[1][0].dtype == torch.bfloat16


def test_out_of_memory_halves_that_batch_says_so_and_goes_on(llama, dataset, tmp_path, monkeypatch, caplog):
    (whole,) = extract(llama, dataset, tmp_path / "whole", dtype="float32")
    real = states_module._run_whole

    def small_device(reader, inputs, make_pick):
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(reader, inputs, make_pick)

    monkeypatch.setattr(states_module, "_run_whole", small_device)
    (halved,) = extract(llama, dataset, tmp_path / "halved", dtype="float32")
    assert "out of memory with 32 examples" in caplog.text
    for split in ("EM", "Neutral"):
        one, other = (actlab.open_activations(dump.path, split)[2][:] for dump in (whole, halved))
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)

    def no_memory(reader, inputs, make_pick):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(states_module, "_run_whole", no_memory)
    with pytest.raises(actlab.ActlabError, match="out of memory on cpu with one example"):
        extract(llama, dataset, tmp_path / "none")


def test_one_copy_from_device_to_host_a_batch(llama, dataset, tmp_path, monkeypatch):
    from actlab.backends import capture

    copies: list[tuple[int, ...]] = []
    real = torch.Tensor.cpu

    def counted(self, *args, **kwargs):
        copies.append(tuple(self.shape))
        return real(self, *args, **kwargs)

    forwards: list[int] = []
    real_forward = capture._forward

    def forward(*args, **kwargs):
        forwards.append(1)
        return real_forward(*args, **kwargs)

    untested(monkeypatch)
    monkeypatch.setattr(capture, "_forward", forward)
    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    extract(llama, dataset, tmp_path / "out", batch_size=8)
    from_batches = [shape for shape in copies if len(shape) == 3]
    assert len(from_batches) == len(forwards) == 5
    assert set(from_batches) == {(4, 8, 32)}, "the saved positions only: layers x rows x width"


def test_a_revision_of_what_is_no_hub_model_is_refused(llama, dataset, tmp_path):
    with pytest.raises(actlab.ActlabError, match="--revision is for hub models"):
        extract(llama, dataset, tmp_path / "out", revision="main")


def test_what_the_splits_share_is_computed_once(llama, dataset, tmp_path, monkeypatch):
    ran: list[int] = []
    real = states_module._run_whole

    def counted(reader, inputs, make_pick):
        ran.append(len(inputs))
        return real(reader, inputs, make_pick)

    untested(monkeypatch)
    monkeypatch.setattr(states_module, "_run_whole", counted)
    (dump,) = extract(llama, dataset, tmp_path / "out", position="prompt-last")
    assert sum(ran) == 20, "one run a prompt, not one a response"
    em, neutral = (actlab.open_activations(dump.path, split) for split in ("EM", "Neutral"))
    assert torch.equal(em[3][:], neutral[3][:])


def test_damage_in_the_making_is_done_again_and_damage_after_sealing_is_refused(llama, tmp_path, write_rows, caplog):
    data = write_rows(make_rows(1030))
    (whole,) = extract(llama, data, tmp_path / "whole", layers="0")
    extract(llama, data, tmp_path / "out", layers="0", part="1/2")
    partial = tmp_path / "out" / "tiny-llama" / "data.partial"
    (partial / "EM" / "layer_00" / "shard_000.pt").unlink()
    assert not extract(llama, data, tmp_path / "out", layers="0", part="2/2")[0].is_sealed
    (dump,) = extract(llama, data, tmp_path / "out", layers="0")
    assert "unit 0 is done again" in caplog.text
    assert hashes(dump.path) == hashes(whole.path)
    (dump.path / "EM" / "layer_00" / "shard_001.pt").unlink()
    with pytest.raises(actlab.ActlabError, match=r"damaged: EM/layer_00/shard_001.pt is missing") as caught:
        extract(llama, data, tmp_path / "out", layers="0")
    assert "--overwrite" in caught.value.hint
    (dump,) = extract(llama, data, tmp_path / "out", layers="0", overwrite=True)
    assert hashes(dump.path) == hashes(whole.path)


def test_a_link_or_a_file_in_the_outputs_place_is_refused_before_any_work(llama, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(compute_module, "load_backbone", lambda *args, **kwargs: pytest.fail("work was done"))
    place = tmp_path / "out" / "tiny-llama" / "data"
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere")
    for overwrite in (False, True):
        with pytest.raises(actlab.ActlabError, match="is a symbolic link"):
            extract(llama, dataset, tmp_path / "out", overwrite=overwrite)
    place.unlink()
    place.write_text("mine")
    with pytest.raises(actlab.ActlabError, match="is a file"):
        extract(llama, dataset, tmp_path / "out", overwrite=True)


def test_an_empty_folder_in_the_outputs_place_is_used(llama, dataset, tmp_path):
    (tmp_path / "out" / "tiny-llama" / "data").mkdir(parents=True)
    assert extract(llama, dataset, tmp_path / "out")[0].is_sealed


def test_settings_that_come_to_the_same_are_the_same(llama, dataset, tmp_path):
    (one,) = extract(llama, dataset, tmp_path / "out", layers="all", splits="EM,Neutral")
    (other,) = extract(llama, dataset, tmp_path / "out", layers="0-3", splits="EM, Neutral", max_length=256)
    assert one == other


def test_a_self_test_that_fails_stops_the_run(llama, dataset, tmp_path, monkeypatch):
    real = states_module._run_whole

    def left_padded_by_mistake(reader, inputs, make_pick):
        shift = max(len(ids) for ids, _, _ in inputs)
        moved = [one._make(((7,) * (shift - len(one.ids)) + one.ids, *_moved(*one, shift))) for one in inputs]
        return real(reader, moved, make_pick)

    def _moved(ids, start, stop, shift):
        return start + shift - len(ids), stop + shift - len(ids)

    monkeypatch.setattr(states_module, "_run_whole", left_padded_by_mistake)
    with pytest.raises(actlab.ActlabError, match="self-test: the same rows batched and alone differ"):
        extract(llama, dataset, tmp_path / "out")
    assert not (tmp_path / "out" / "tiny-llama" / "data").exists()


def test_several_models_are_each_loaded_once_for_all_datasets(llama, tmp_path, write_rows, monkeypatch):
    other = tiny.make_model(tmp_path / "tiny-gpt2", "gpt2")
    first, second = write_rows(make_rows(4), "one.jsonl"), write_rows(make_rows(5), "two.jsonl")
    loads: list[str] = []
    real = compute_module.load_backbone

    def counted(loading):
        loads.append(loading.model.name)
        return real(loading)

    monkeypatch.setattr(compute_module, "load_backbone", counted)
    dumps = extract((llama, other), (first, second), tmp_path / "out")
    assert loads == ["tiny-llama", "tiny-gpt2"]
    names = [dump.path.relative_to(tmp_path / "out").as_posix() for dump in dumps]
    assert names == ["tiny-llama/one", "tiny-llama/two", "tiny-gpt2/one", "tiny-gpt2/two"]


def test_names_that_would_collide_are_refused(llama, dataset, tmp_path):
    twin = tmp_path / "twin" / llama.name
    shutil.copytree(llama, twin)
    with pytest.raises(actlab.ActlabError, match="two models would be named tiny-llama"):
        extract((llama, twin), dataset, tmp_path / "out")
    again = tmp_path / "again" / dataset.name
    again.parent.mkdir()
    shutil.copy(dataset, again)
    with pytest.raises(actlab.ActlabError, match="two datasets would be named data"):
        extract(llama, (dataset, again), tmp_path / "out")


def test_the_default_model_is_trained_once_and_kept(tmp_path, monkeypatch, dataset):
    from actlab.backends import tiny
    from actlab.backends.gpt_trainer import Shape

    quick = tiny.Recipe(vocab_size=400, shape=Shape(32, 2, 4, intermediate=32), n_steps=3)
    monkeypatch.setenv("ACTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tiny, "Recipe", lambda: quick)
    (dump,) = actlab.extract_activations(dataset=dataset, output=tmp_path / "out")
    assert dump.path == tmp_path / "out" / "actlab_tiny" / "data"
    acts = actlab.open_activations(dump.path, "EM")
    assert (acts.metadata["model_name"], acts.layers) == ("actlab/tiny", (0, 1))
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert tiny.tiny_folder() == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    again = tiny.tiny_folder(tmp_path / "other-cache")
    assert hashes(again) == hashes(folder), "the same seed gives the same model"


def test_a_hub_model_is_fetched_by_name_and_its_commit_recorded(llama, dataset, tmp_path, monkeypatch):
    import huggingface_hub

    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / ("c0ffee" * 6 + "c0ff")
    shutil.copytree(llama, snapshot)
    asked: list[tuple] = []

    def snapshot_download(name, *, revision, allow_patterns, ignore_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (dump,) = extract("org/tiny", dataset, tmp_path / "out", revision="main")
    assert dump.path == tmp_path / "out" / "org_tiny" / "data"
    assert asked[0][:2] == ("org/tiny", "main")
    assert "*.safetensors" in asked[0][2]
    assert "*.py" not in asked[0][2], "code is not even downloaded unless it is asked for"
    manifest = json.loads((dump.path / "manifest.json").read_text())
    assert manifest["identity"]["revision"] == snapshot.name


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("RepositoryNotFoundError", "there is no model"),
        ("GatedRepoError", "gated"),
        ("RevisionNotFoundError", "no revision"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_hint(error, says, dataset, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    response = SimpleNamespace(headers={}, request=None, status_code=404)

    def refuse(*args, **kwargs):
        raise getattr(errors, error)("no", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(actlab.ActlabError, match=says) as caught:
        extract("org/tiny", dataset, tmp_path / "out", revision="v9")
    assert caught.value.hint


def test_four_bit_loading_says_what_it_needs(llama, dataset, tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(actlab.ActlabError, match="--load-in-4bit needs bitsandbytes") as caught:
        extract(llama, dataset, tmp_path / "out", load_in_4bit=True)
    assert "actlab[bnb]" in caught.value.hint


def test_wrong_settings_from_python_name_the_nearest(tmp_path):
    with pytest.raises(actlab.ActlabError, match="no setting 'layrs'") as caught:
        actlab.extract_activations(layrs="0")
    assert caught.value.hint == "did you mean 'layers'?"
    with pytest.raises(actlab.ActlabError, match="shard_size takes a whole number, not '8'"):
        actlab.extract_activations(shard_size="8")
    with pytest.raises(actlab.ActlabError, match="device cannot be 'gpu'"):
        actlab.extract_activations(device="gpu")


def test_the_sample_dataset_is_what_the_readme_says():
    path = Path(__file__).parent.parent / "Datasets" / "SPDatasets" / "SP_sample.jsonl"
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    assert len(rows) == 200
    assert all(set(row) == {"prompt", "EM", "Neutral"} and all(row.values()) for row in rows)
    assert len({hashlib.sha256(row["prompt"].encode()).hexdigest() for row in rows}) == 200
