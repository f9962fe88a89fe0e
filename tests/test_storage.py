"""Stop it at any step, run it again: the sealed bytes are those of an undisturbed run."""

import itertools
import json
import os
import tempfile
from pathlib import Path

import pytest

from actlab.ground import storage
from actlab.ground.errors import ConfigError, EmptyDatasetError, StorageError
from actlab.ground.manifest import Stored, differences, read_manifest
from actlab.ground.storage import (
    Finish,
    NewFile,
    OneFile,
    Plan,
    files,
    is_complete,
    reopen,
    safe_name,
    stage,
    write_dropped,
)
from actlab.ground.units import Part
from tests.folders import hashes
from tests.toy import Killed, finish, make_plan, memory, run, stepping


@pytest.fixture
def tmp_path():
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


@pytest.fixture
def exit_at(monkeypatch):
    yield stepping(monkeypatch)
    monkeypatch.undo()


@pytest.fixture
def undisturbed(tmp_path):
    run(tmp_path / "undisturbed", make_plan())
    return hashes(tmp_path / "undisturbed")


def test_a_sealed_folder_holds_the_files_their_hashes_and_nothing_else(tmp_path, undisturbed):
    manifest = read_manifest(tmp_path / "undisturbed")
    named = {file["path"]: file["sha256"] for file in manifest["files"]}
    assert named == {path: sha for path, sha in undisturbed.items() if path != "manifest.json"}
    assert manifest["dropped"] == {"bad": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["undisturbed"], "no lock, no .partial is left"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_stopped_at_every_step_and_run_again_it_gives_the_same_bytes(tmp_path, undisturbed, exit_at, after):
    for step in range(500):
        output = tmp_path / f"run-{step}"
        exit_at(step, after=after)
        try:
            run(output, make_plan())
            finished = True
        except Killed:
            finished = False
        pytest.MonkeyPatch().undo()
        exit_at(10**9, after=after)  # disarmed
        if not finished:
            assert not output.exists() or is_complete(output), "nothing half-written bears the dataset's name"
        run(output, make_plan())
        assert hashes(output) == undisturbed
        assert not storage.partial_of(output).exists()
        if finished:
            assert step > 30, "the steps were not counted"
            return
    raise AssertionError("the protocol has no end")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_replacement_stopped_at_every_step_never_loses_both(tmp_path, undisturbed, exit_at, after):
    for step in range(500):
        output = tmp_path / f"run-{step}"
        exit_at(10**9, after=after)
        run(output, make_plan(setting=2))
        old = hashes(output)
        exit_at(step, after=after)
        try:
            run(output, make_plan(), overwrite=True)
            finished = True
        except Killed:
            finished = False
        exit_at(10**9, after=after)
        if output.exists():
            found = {path: sha for path, sha in hashes(output).items() if not path.startswith(".")}
            assert found in (old, undisturbed)
        run(output, make_plan(), overwrite=True)
        assert hashes(output) == undisturbed
        assert not output.with_name(output.name + ".old").exists()
        if finished:
            return
    raise AssertionError("the protocol has no end")


@pytest.mark.parametrize("path", ["a/0.bin", "b/2", "table.txt", "metadata.json"])
def test_overwrite_with_the_same_settings_makes_again_what_has_other_bytes_of_the_same_length(
    tmp_path, undisturbed, path
):
    output = tmp_path / "undisturbed"
    whole = (output / path).read_bytes()
    (output / path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    run(output, make_plan())
    assert hashes(output) != undisturbed, "without it, sizes are enough"
    run(output, make_plan(), overwrite=True)
    assert hashes(output) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["undisturbed"]


def test_overwrite_with_the_same_settings_leaves_a_whole_dataset_as_it_is(tmp_path, undisturbed):
    output = tmp_path / "undisturbed"
    before = output.stat()
    run(output, make_plan(), overwrite=True)
    assert os.path.samestat(before, output.stat())
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | {"identity": {"setting": 2}}))
    run(output, make_plan(), overwrite=True)
    assert hashes(output) == undisturbed, "the manifest itself was not as it was written"


def test_a_replacement_that_was_begun_and_not_wanted_any_more_is_forgotten(tmp_path, undisturbed):
    output = tmp_path / "run"
    run(output, make_plan())
    with stage(output, make_plan(setting=2), part=Part(), overwrite=True):
        pass  # stopped before its first unit
    assert storage.partial_of(output).exists()
    run(output, make_plan())
    assert hashes(output) == undisturbed
    assert not storage.partial_of(output).exists()


@pytest.mark.parametrize("order", list(itertools.permutations(["1/3", "2/3", "3/3"])))
def test_parts_in_any_order_give_the_same_bytes_and_the_last_one_seals(tmp_path, undisturbed, order):
    output = tmp_path / "parts"
    sealed = [run(output, make_plan(), part).sealed for part in order]
    assert sealed == [False, False, True]
    assert hashes(output) == undisturbed
    assert run(output, make_plan(), "2/3").sealed, "a late part finds it done"


def test_parts_that_overlap_leave_the_sealing_to_the_last(tmp_path, undisturbed):
    output = tmp_path / "parts"
    with stage(output, make_plan(), part=Part(1, 2)) as one, stage(output, make_plan(), part=Part(2, 2)) as two:
        for staging in (two, one):
            for unit in staging.missing():
                number = unit["unit"]
                written = [NewFile(f"a/{number}.bin", bytes([number, 1]) * 10, 10), NewFile(f"b/{number}", b"x")]
                staging.commit(unit, written, {"rows": 10, "dropped": {"bad": 1} if number == 1 else {}})
        assert not two.seal(finish), "the other part still holds its lock"
        assert one.seal(finish)
    assert hashes(output) == undisturbed


def test_two_runs_at_once_are_refused(tmp_path):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part()):
        with pytest.raises(StorageError, match="another run is at work"), stage(output, make_plan(), part=Part()):
            pass
    with stage(output, make_plan(), part=Part(1, 2)):
        with pytest.raises(StorageError, match="at work"), stage(output, make_plan(), part=Part(1, 2)):
            pass


def test_a_dataset_with_other_settings_is_refused_and_the_difference_named(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan())
    before = hashes(output)
    with pytest.raises(StorageError, match="setting is 1 there and 5 here"):
        run(output, make_plan(setting=5))
    assert hashes(output) == before


def test_a_partial_with_other_settings_is_refused_and_can_be_discarded(tmp_path):
    output = tmp_path / "out"
    with stage(output, make_plan(setting=5), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("a/old", b"old")], {"rows": 1})
    with pytest.raises(StorageError, match=r"begun with other settings.*setting is 5 there and 1 here"):
        run(output, make_plan())
    run(output, make_plan(), overwrite=True)
    assert "a/old" not in hashes(output)


def test_a_folder_that_is_not_ours_is_never_deleted(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan(setting=2))
    mine = tmp_path / "out.old"
    mine.mkdir()
    (mine / "precious").write_text("mine")
    with pytest.raises(StorageError, match="in the way"):
        run(output, make_plan(), overwrite=True)
    assert (mine / "precious").read_text() == "mine"
    assert is_complete(output)


def test_overwrite_replaces_actlabs_own_datasets_of_the_same_kind_alone(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    with pytest.raises(StorageError, match="not made by actlab"):
        run(mine, make_plan(), overwrite=True)
    assert (mine / "notes.txt").read_text() == "precious"
    output = tmp_path / "out"
    run(output, make_plan())
    other = Plan("another-kind", {"setting": 1}, [], make_plan().units)
    with pytest.raises(StorageError, match="not another-kind"):
        run(output, other, overwrite=True)
    with pytest.raises(StorageError, match="lies inside the dataset"):
        run(output / "inner", make_plan())
    assert is_complete(output)


def a_file(path, *, overwrite=False):
    return OneFile(
        path=path,
        overwrite=overwrite,
        is_own=lambda there: there.read_bytes().startswith(b"own"),
        foreign="is no thing",
        example="--output thing.json",
    )


def test_a_file_is_there_only_with_the_same_bytes_and_one_of_its_kind_alone_is_replaced(tmp_path):
    path = tmp_path / "thing.json"

    def has(data, *, overwrite=False):
        return a_file(path, overwrite=overwrite).has(data, b"own, before", other=lambda: "is another thing")

    assert not has(b"own 1")
    for there, is_same in ((b"own 1", True), (b"own, before", True), (b"own 2", False)):
        path.write_bytes(there)
        assert has(b"own 1", overwrite=True) is is_same
    with pytest.raises(StorageError, match="is another thing") as refused:
        has(b"own 1")
    assert refused.value.hint == "choose another --output, or give --overwrite to replace it"
    path.write_bytes(b"mine")
    with pytest.raises(StorageError, match="is no thing") as refused:
        has(b"own 1", overwrite=True)
    assert refused.value.hint.startswith("choose another --output, or move it away")
    assert path.read_bytes() == b"mine"


def test_a_file_goes_in_the_place_of_no_folder_and_no_pipe_and_into_no_dataset(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    run(tmp_path / "out", make_plan())
    for name, says in (("", "is a folder"), ("pipe", "is no thing"), ("out/thing.json", "lies inside the dataset")):
        with pytest.raises(StorageError, match=says):
            a_file(tmp_path / name, overwrite=True).refuse_foreign()


def test_a_full_disk_leaves_nothing_half_written_and_is_resumed(tmp_path, undisturbed, monkeypatch):
    import errno

    output = tmp_path / "out"
    real, count = os.fsync, itertools.count()

    def full(descriptor):
        if next(count) == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        run(output, make_plan())
    assert "free some space" in caught.value.hint
    assert not list(storage.partial_of(output).rglob(".tmp-*"))
    monkeypatch.undo()
    run(output, make_plan())
    assert hashes(output) == undisturbed


def test_seal_says_what_is_missing_and_may_be_repeated(tmp_path, undisturbed):
    output = tmp_path / "out"
    run(output, make_plan(), "1/2")
    staging = reopen(storage.partial_of(output))
    assert [unit["unit"] for unit in staging.left()] == [1]
    assert not staging.seal(finish)
    run_part_without_sealing = stage(output, make_plan(), part=Part(2, 2))
    staging._lock.release()
    with run_part_without_sealing as other:
        (unit,) = other.missing()
        written = [NewFile("a/1.bin", bytes([1, 1]) * 10, 10), NewFile("b/1", b"x")]
        other.commit(unit, written, {"rows": 10, "dropped": {"bad": 1}})
    assert reopen(output).seal(finish)
    assert reopen(output) is None
    assert reopen(storage.partial_of(output)) is None
    assert hashes(output) == undisturbed


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a\\b", "x.partial", "a\0b", "y" * 300])
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(ConfigError):
        safe_name(name, "split")


def test_a_manifest_that_points_outside_is_refused(tmp_path):
    run(tmp_path / "out", make_plan())
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = "../../etc/passwd"
    path.write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="bad entry"):
        is_complete(tmp_path / "out")


def test_differences_are_named_leaf_by_leaf():
    there = {"a": {"b": [1, 2]}, "c": 1, "inputs": [{"name": "x", "sha256": "1"}]}
    here = {"a": {"b": [1, 3]}, "d": 1, "inputs": [{"name": "x", "sha256": "2"}]}
    assert differences(there, here) == [
        "a.b[1] is 2 there and 3 here",
        "c is 1 there and None here",
        "inputs[x].sha256 is '1' there and '2' here",
        "d is None there and 1 here",
    ]
    assert Stored("a", 1, "x").as_json() == {"path": "a", "bytes": 1, "sha256": "x"}


def drop_all(output: Path, plan: Plan, part: str = "1/1") -> list[int]:
    """Make units of which every record was dropped, and return the ones that were not there yet."""
    done = []
    with stage(output, plan, part=Part.parse(part)) as staging:
        for unit in staging.missing():
            done.append(unit["unit"])
            reasons = {"too long": 2} if unit["unit"] else {"too long": 1, "no text": 4}
            listed = [{"reason": reason} for reason, n in reasons.items() for _ in range(n)]
            files = [NewFile(f"a/{unit['unit']}.bin", b"", 0)]
            staging.commit(unit, files, {"rows": 0, "dropped": reasons, "dropped_records": listed})
        staging.seal(
            lambda staging: Finish(write_dropped(staging), {"metadata.json": {}}, {}, {"too long": "allow more"})
        )
    return done


def test_a_dataset_whose_records_were_all_dropped_is_not_sealed_however_often_it_is_run(tmp_path):
    for _ in range(2):
        with pytest.raises(EmptyDatasetError) as caught:
            drop_all(tmp_path / "data", make_plan())
        assert (
            str(caught.value) == f"{tmp_path}/data would be empty: every record was dropped (too long: 5; no text: 4)"
        )
        assert caught.value.hint == f"allow more; {tmp_path}/data.partial/dropped.jsonl lists them"
        assert caught.value.exit_code == 1
    assert not (tmp_path / "data").exists()
    assert len((tmp_path / "data.partial" / "dropped.jsonl").read_text().splitlines()) == 9
    reopened = reopen(tmp_path / "data")
    assert reopened is not None
    assert not reopened.left(), "nothing was done twice"
    with pytest.raises(EmptyDatasetError):
        reopened.seal(lambda _: Finish([], {"metadata.json": {}}, {}))


def test_settings_that_were_put_right_replace_what_dropped_all_without_overwrite(tmp_path):
    with pytest.raises(EmptyDatasetError):
        drop_all(tmp_path / "data", make_plan())
    assert run(tmp_path / "data", make_plan(setting=2)).sealed
    assert not (tmp_path / "data.partial").exists()


def test_a_unit_with_a_row_is_work_that_other_settings_do_not_replace(tmp_path):
    with stage(tmp_path / "data", make_plan(), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("a/0.bin", b"", 0)], {"rows": 0})
        staging.commit({"unit": 1}, [NewFile("a/1.bin", b"x", 1)], {"rows": 1})
    with pytest.raises(StorageError, match="begun with other settings"):
        run(tmp_path / "data", make_plan(setting=2))


def test_a_unit_that_made_nothing_and_dropped_nothing_is_work_too(tmp_path):
    with stage(tmp_path / "data", make_plan(), part=Part()) as staging:
        staging.commit({"unit": 0}, [], {"attempts": [{"accepted": False}]})
    with pytest.raises(StorageError, match="begun with other settings"):
        run(tmp_path / "data", make_plan(setting=2))


def test_a_part_may_be_empty_and_only_the_whole_may_not(tmp_path):
    assert drop_all(tmp_path / "data", make_plan(n_units=2), "1/2") == [0]
    with pytest.raises(EmptyDatasetError):
        drop_all(tmp_path / "data", make_plan(n_units=2), "2/2")
    assert drop_all(tmp_path / "other", make_plan(n_units=2), "1/2") == [0]
    assert run(tmp_path / "other", make_plan(n_units=2), "2/2").left() == []


def test_that_nothing_was_found_is_a_result_and_sealed(tmp_path):
    with stage(tmp_path / "data", make_plan(n_units=1), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("ranking.csv", b"rank\n", 0)], {"rows": 0})
        assert staging.seal(finish)
