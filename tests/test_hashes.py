"""Hashes name bytes: remembered for plans alone, taken anew where a file changed, compared where they were promised."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import actlab
from actlab.activations.compute import Model
from actlab.activations.config import ExtractConfig
from actlab.activations.verify import recompute
from actlab.backends import tiny as tiny_model
from actlab.backends.gpt_trainer import Shape
from actlab.backends.hub import find_model, model_files
from actlab.backends.saes.find import Encoders, find_saes
from actlab.ground import hashes
from actlab.ground.errors import ActlabError, ModelError, StorageError
from actlab.ground.hashes import FileState, remembered_hash
from actlab.ground.integrity import input_entry
from actlab.ground.manifest import file_entry, fingerprint
from actlab.ground.verify import check_files
from tests.conftest import untested
from tests.folders import hashes as hashes_in
from tests.made_saes import random_weights, write_saelens

BIG = 1 << 20


def true_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, an hour from now: the files of the test were written long ago."""
    monkeypatch.setenv("ACTLAB_CACHE", str(tmp_path / "cache"))
    clock = SimpleNamespace(time_ns=lambda: 3600 * 10**9 + max(one.stat().st_ctime_ns for one in tmp_path.iterdir()))
    monkeypatch.setattr(hashes, "time", clock)
    return tmp_path / "cache"


@pytest.fixture
def readings(monkeypatch):
    """The names of the files whose bytes were hashed."""
    read: list[str] = []
    of_library = hashlib.file_digest

    def count(file, name):
        read.append(Path(str(file.name)).name)
        return of_library(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return read


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(BIG))
    return path


def test_a_second_plan_does_not_read_a_large_file_again(cache, big, readings, tmp_path):
    first, second = file_entry("dataset", big), file_entry("dataset", big)
    assert first == second == {"role": "dataset", "name": "big.bin", "bytes": BIG, "sha256": true_sha256(big)}
    link = tmp_path / "link.bin"
    link.symlink_to(big)
    assert remembered_hash(link).sha256 == true_sha256(big)
    assert readings == ["big.bin"]


def test_a_models_large_files_are_read_once_for_all_plans(cache, llama, readings, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    with (folder / "model.safetensors").open("ab") as file:
        file.write(bytes(BIG))  # only its hash is asked for
    plans = [model_files(find_model(str(folder))) for _ in range(3)]
    assert plans[0] == plans[1] == plans[2]
    assert {one["name"]: one["sha256"] for one in plans[0]} == hashes_in(folder)
    assert readings.count("model.safetensors") == 1


def put_mtime_back(path):
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(path):
    times = path.stat()
    path.with_name("other").write_bytes(os.urandom(BIG))
    os.utime(path.with_name("other"), ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(path.with_name("other"), path)


@pytest.mark.parametrize("change", [flip, put_mtime_back, replace])
def test_a_file_that_changed_is_read_again(change, cache, big):
    old = remembered_hash(big).sha256
    change(big)
    assert remembered_hash(big).sha256 == true_sha256(big) != old


def test_a_file_that_may_still_change_within_its_clocks_tick_is_not_remembered(tmp_path, monkeypatch, big, readings):
    monkeypatch.setenv("ACTLAB_CACHE", str(tmp_path / "cache"))
    for later in (0, 1_900_000_000, -(10**12)):  # at once, in the same tick, and by a clock that is behind
        monkeypatch.setattr(hashes, "time", SimpleNamespace(time_ns=lambda n=later: big.stat().st_ctime_ns + n))
        remembered_hash(big)
    assert readings == ["big.bin"] * 3
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_written_to_while_it_is_read_is_not_remembered(cache, big, monkeypatch):
    of_library = hashlib.file_digest

    def meanwhile(file, name):
        digest = of_library(file, name)
        flip(big)
        return digest

    monkeypatch.setattr(hashlib, "file_digest", meanwhile)
    remembered_hash(big)
    monkeypatch.undo()
    assert not list(cache.glob("hashes/*"))


def test_small_files_are_not_remembered(cache, tmp_path):
    path = tmp_path / "small.bin"
    path.write_bytes(bytes(BIG - 1))
    assert remembered_hash(path).sha256 == true_sha256(path)
    assert not cache.exists()


def break_entry(cache):
    (entry,) = (cache / "hashes").iterdir()
    flip(entry, 0)


def cut_entry(cache):
    (entry,) = (cache / "hashes").iterdir()
    os.truncate(entry, 64)


def fill_entry(cache):
    (entry,) = (cache / "hashes").iterdir()
    entry.write_bytes(b"\xff" * 1000)


def swap_entry(cache):
    (entry,) = (cache / "hashes").iterdir()
    entry.write_bytes(hashes._line(entry.with_name("0" * 64), "0" * 64))


def no_folder(cache):
    shutil.rmtree(cache)
    cache.write_text("a file stands where the cache should be")


def folder_for_entry(cache):
    (entry,) = (cache / "hashes").iterdir()
    entry.unlink()
    (entry / "in it").mkdir(parents=True)


@pytest.mark.parametrize("damage", [break_entry, cut_entry, fill_entry, swap_entry, no_folder, folder_for_entry])
def test_a_damaged_or_unusable_cache_costs_a_reading_and_nothing_else(damage, cache, big, readings):
    remembered_hash(big)
    damage(cache)
    assert remembered_hash(big).sha256 == true_sha256(big)
    assert readings == ["big.bin"] * 2
    assert not list(cache.glob("hashes/.tmp-*"))


def test_a_user_without_a_home_has_no_cache_and_no_trouble(cache, big, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ACTLAB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert remembered_hash(big).sha256 == true_sha256(big)


def test_what_is_remembered_does_not_grow_without_end(cache, tmp_path, monkeypatch, big):
    monkeypatch.setattr(hashes, "_MOST_ENTRIES", 8)
    (cache / "hashes").mkdir(parents=True)
    (cache / "hashes" / ".tmp-of a killed process").touch()
    (cache / "hashes" / "notes.txt").write_text("somebody's own")
    os.utime(cache / "hashes" / ".tmp-of a killed process", (0, 0))
    for k in range(20):
        os.truncate(big, BIG + k)
        remembered_hash(big)
        assert len(list((cache / "hashes").iterdir())) <= 9
    assert (cache / "hashes" / "notes.txt").is_file()
    assert not list((cache / "hashes").glob(".tmp-*"))
    monkeypatch.setattr(hashes, "measured_hash", None)
    assert remembered_hash(big).sha256 == true_sha256(big), "the newest stays"


@pytest.fixture
def unseen(monkeypatch):
    """Bytes that changed on the disk and left no trace in what `stat` says."""
    monkeypatch.setattr(FileState, "by", classmethod(lambda cls, status: cls(status.st_size, 0, 0, 0, 0)))


def test_whoever_asks_whether_bytes_are_whole_reads_them(cache, unseen, big, tmp_path):
    stored = [{"path": big.name, "bytes": BIG, "sha256": remembered_hash(big).sha256}]
    described = {"format_version": 1, "kind": "k", "identity": {}, "inputs": []}
    manifest = described | {"fingerprint": fingerprint(described), "dropped": {}, "files": stored}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert input_entry("documents", big) == file_entry("documents", big)
    assert not any(check_files(tmp_path, manifest, [big]))
    flip(big)
    assert remembered_hash(big).sha256 != true_sha256(big), "a plan cannot see it"
    assert any("sha256 differs" in one for found in check_files(tmp_path, manifest, [big]) for one in found)
    with pytest.raises(StorageError, match="are not the ones that were written"):
        input_entry("documents", big)


def test_verify_recomputes_with_the_model_as_it_is_now(cache, llama, dataset, tmp_path, monkeypatch, readings):
    untested(monkeypatch)
    monkeypatch.setattr(hashes, "_SMALLEST_BYTES", 1)
    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out", limit=2, quiet=True)
    manifest = json.loads((dump.path / "manifest.json").read_text())
    before = readings.count("model.safetensors")
    recompute._original(manifest, model=str(llama), dataset=str(dataset), device="cpu")
    assert readings.count("model.safetensors") == before + 1


def in_hub_cache(folder: Path, root: Path, *, shared: bool = False) -> Path:
    """Return a snapshot of a folder's files as huggingface_hub keeps it: links to blobs, each named by its etag."""
    from huggingface_hub.utils.sha import git_hash

    blobs, snapshot = root / "models--org--made" / "blobs", root / "models--org--made" / "snapshots" / ("c0ffee00" * 5)
    blobs.mkdir(parents=True)
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        in_lfs = path.suffix in (".safetensors", ".npz")
        blob = blobs / (hashlib.sha256(data).hexdigest() if in_lfs else git_hash(data))
        if shared and in_lfs:  # by a hash of its own, as huggingface_hub 2 shares what Xet gave
            store = root / "shared" / "ab" / ("ab" * 32)
            store.parent.mkdir(parents=True)
            store.write_bytes(data)
            blob.symlink_to(os.path.relpath(store, blobs))
        else:
            blob.write_bytes(data)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.fixture
def hub(monkeypatch):
    """Let huggingface_hub find a snapshot in its cache."""
    import huggingface_hub

    def gives(snapshot):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))

    return gives


@pytest.mark.parametrize("shared", [False, True])
def test_a_hub_models_files_are_measured_and_have_the_hashes_of_their_bytes(shared, llama, tmp_path, hub, readings):
    hub(in_hub_cache(llama, tmp_path, shared=shared))
    found = {one["name"]: one["sha256"] for one in model_files(find_model("org/made"))}
    assert found == hashes_in(llama)
    assert "model.safetensors" in readings or ("ab" * 32) in readings


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_in_the_hubs_cache_is_named_with_the_way_out(name, shared, llama, dataset, tmp_path, hub):
    snapshot = in_hub_cache(llama, tmp_path / "hub", shared=shared)
    flip((snapshot / name).resolve())
    hub(snapshot)
    with pytest.raises(ModelError, match=f"{(snapshot / name).resolve()}, which is {name}, is damaged") as refused:
        actlab.extract_activations(model="org/made", dataset=dataset, output=tmp_path / "out", quiet=True)
    assert "delete that file" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_damaged_sae_in_the_hubs_cache_is_refused(tmp_path, hub):
    write_saelens(tmp_path / "made" / "saes", "standard", 1)
    snapshot = in_hub_cache(tmp_path / "made", tmp_path / "hub")
    hub(snapshot)
    (sae,) = find_saes(["org/made/saes"])
    assert {one["name"]: one["sha256"] for one in sae.as_inputs()} == hashes_in(tmp_path / "made" / "saes")
    flip((snapshot / "saes" / "sae_weights.safetensors").resolve())
    with pytest.raises(ModelError, match=r"which is sae_weights\.safetensors, is damaged"):
        sae.as_inputs()


def test_a_mirrors_names_of_blobs_say_nothing(llama, tmp_path, hub):
    snapshot = in_hub_cache(llama, tmp_path)
    for link in list(snapshot.iterdir()):
        blob = link.resolve()
        link.unlink()
        blob.rename(blob.with_name(f"{blob.name[:20]}-1"))
        link.symlink_to(blob.with_name(f"{blob.name[:20]}-1"))
    hub(snapshot)
    assert {one["name"]: one["sha256"] for one in model_files(find_model("org/made"))} == hashes_in(llama)


def test_a_mirror_may_name_blobs_by_the_sha1_of_their_bytes(llama, tmp_path, hub):
    snapshot = in_hub_cache(llama, tmp_path)
    for link in list(snapshot.iterdir()):
        blob = link.resolve()
        link.unlink()
        link.symlink_to(blob.rename(blob.with_name(hashlib.sha1(blob.read_bytes()).hexdigest())))
    hub(snapshot)
    assert {one["name"]: one["sha256"] for one in model_files(find_model("org/made"))} == hashes_in(llama)
    flip((snapshot / "config.json").resolve())
    with pytest.raises(ModelError, match=r"which is config\.json, is damaged"):
        model_files(find_model("org/made"))


def test_weights_that_were_swapped_after_the_plan_are_not_loaded(llama, dataset, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    config = ExtractConfig(model=(str(folder),), dataset=(str(dataset),), output=str(tmp_path / "out"))
    extraction = Model(find_model(str(folder)), config)
    assert extraction.input_files
    os.utime(folder / "model.safetensors")
    assert extraction.backbone, "the same bytes are the same weights"
    flip(folder / "model.safetensors")
    again = Model(extraction.folder, config)
    with pytest.raises(ModelError, match=r"model\.safetensors changed after it was hashed"):
        again.backbone  # noqa: B018


def test_an_sae_that_was_swapped_after_the_plan_is_not_used(tmp_path):
    import torch

    write_saelens(tmp_path / "sae", "standard", 1)
    (sae,) = find_saes([str(tmp_path / "sae")])
    sae.as_inputs()
    assert Encoders([sae], torch.device("cpu")).get(sae)
    shutil.rmtree(tmp_path / "sae")
    write_saelens(tmp_path / "sae", "standard", 1, random_weights("standard", seed=5))
    with pytest.raises(ModelError, match=r"sae_weights\.safetensors changed after it was hashed"):
        Encoders([sae], torch.device("cpu")).get(sae)


@pytest.fixture(scope="module")
def made_tiny(tmp_path_factory):
    """`actlab/tiny` by a quick recipe, as it was made."""
    quick = tiny_model.Recipe(vocab_size=300, shape=Shape(32, 2, 4, intermediate=32), n_steps=1)
    cache = tmp_path_factory.mktemp("cache")
    return quick, tiny_model.tiny_folder(cache, quick)


@pytest.fixture
def kept(made_tiny, tmp_path, monkeypatch):
    """A copy of that cache, and a count of the trainings in it."""
    quick, folder = made_tiny
    shutil.copytree(folder.parent, tmp_path / "cache")
    trained = []

    def train(documents, recipe, into):
        trained.append(into)
        shutil.copytree(folder, into)

    monkeypatch.setattr(tiny_model, "_train_folder", train)
    return SimpleNamespace(
        use=lambda: tiny_model.tiny_folder(tmp_path / "cache", quick),
        folder=tmp_path / "cache" / folder.name,
        trained=trained,
        whole=hashes_in(folder),
    )


def test_the_models_record_is_what_sha256sum_checks(kept):
    lines = kept.folder.with_name(kept.folder.name + ".sha256").read_text().splitlines()
    assert dict(reversed(line.split("  ")) for line in lines) == kept.whole
    assert kept.use() == kept.folder
    assert not kept.trained


def remove_record(folder):
    folder.with_name(folder.name + ".sha256").unlink()


def empty_record(folder):
    folder.with_name(folder.name + ".sha256").write_bytes(b"")


def damage_record(folder):
    flip(folder.with_name(folder.name + ".sha256"), 0)


def remove_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: flip(folder / "model.safetensors"), "is damaged: model.safetensors is not as it was made"),
        (lambda folder: flip(folder / "tokenizer.json"), "is damaged: tokenizer.json"),
        (lambda folder: flip(folder / "config.json"), "is damaged: config.json"),
        (remove_tokenizer, "is damaged: tokenizer.json"),
        (empty_record, "has no record of its files' hashes"),
        (damage_record, "is damaged"),
    ],
)
def test_the_kept_model_is_compared_with_its_record_and_made_again_where_they_differ(damage, says, kept, caplog):
    damage(kept.folder)
    assert kept.use() == kept.folder
    assert len(kept.trained) == 1
    assert says in caplog.text
    assert "it is trained again" in caplog.text
    assert hashes_in(kept.folder) == kept.whole
    kept.use()
    assert len(kept.trained) == 1


def test_while_another_run_trains_the_model_again_a_run_says_so(kept):
    flip(kept.folder / "model.safetensors")
    with tiny_model.Lock(kept.folder.with_name(kept.folder.name + ".lock")) as lock:
        assert lock.try_acquire()
        with pytest.raises(ActlabError, match="another run is training actlab/tiny"):
            kept.use()


def test_a_damaged_model_in_a_cache_that_cannot_be_written_is_not_used(kept, monkeypatch):
    assert kept.use() == kept.folder
    flip(kept.folder / "model.safetensors")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match=r"model\.safetensors is not as it was made, and cannot be made") as told:
        kept.use()
    assert "ACTLAB_CACHE" in told.value.hint


def test_a_model_that_an_earlier_version_made_without_a_record_is_used_as_it_is_and_recorded(kept, caplog):
    before = kept.folder.with_name(kept.folder.name + ".sha256").read_bytes()
    remove_record(kept.folder)
    for _ in range(2):
        assert kept.use() == kept.folder
    assert caplog.text.count("has no record of its files' hashes: it is used as it is, unchecked") == 1
    assert kept.folder.with_name(kept.folder.name + ".sha256").read_bytes() == before
    flip(kept.folder / "model.safetensors")
    kept.use()
    assert len(kept.trained) == 1, "from then on it is compared"


def test_a_model_without_a_record_in_a_cache_that_cannot_be_written_is_used_with_a_word(kept, monkeypatch, caplog):
    remove_record(kept.folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for _ in range(2):
        assert kept.use() == kept.folder
    assert caplog.text.count("used as it is, unchecked") == 2
    assert not kept.trained
    assert not kept.folder.with_name(kept.folder.name + ".sha256").exists()


def test_a_model_without_a_record_that_lacks_a_file_is_trained_again(kept):
    remove_record(kept.folder)
    remove_tokenizer(kept.folder)
    assert hashes_in(kept.use()) == kept.whole
    assert len(kept.trained) == 1


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nope"])
def test_a_cache_folder_that_cannot_be_made_is_named_by_its_setting(place, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("ACTLAB_CACHE", str(tmp_path / place))
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / place))) as told:
        tiny_model.tiny_folder()
    assert told.value.hint == "set $ACTLAB_CACHE to a folder that you may write to"
    assert (tmp_path / "file").read_text() == "mine"
