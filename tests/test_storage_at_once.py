"""Several runs at once, each stopped or delayed anywhere, with and without file locks: one dataset comes of it."""

import errno
import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from actlab.formats.sentences.folder import INPUTS_CHECKED
from actlab.ground import storage
from actlab.ground.errors import ActlabError, StorageError
from actlab.ground.manifest import read_manifest
from actlab.ground.storage import GoneError, NewFile, Staging, existing, is_complete, reopen, stage
from actlab.ground.storage import publish as publishing
from actlab.ground.storage.plan import UNITS
from actlab.ground.units import Part
from tests.folders import hashes
from tests.toy import Killed, finish, kill, make_plan, memory, run, stepping

NEVER = 10**9


def no_lock(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.fixture
def tmp_path():
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


@pytest.fixture
def exit_at(monkeypatch):
    return stepping(monkeypatch)


@pytest.fixture
def undisturbed(tmp_path):
    run(tmp_path / "undisturbed", make_plan())
    return hashes(tmp_path / "undisturbed")


@pytest.fixture
def lockless(monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_lock)


@pytest.fixture
def local_locks(monkeypatch):
    """Locks that one machine alone sees: two machines both hold what they ask for."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


@pytest.fixture(params=["locks", "lockless"])
def either(request, monkeypatch):
    if request.param == "lockless":
        monkeypatch.setattr(fcntl, "flock", no_lock)


def of_unit(number: int, setting: int = 1) -> list[NewFile]:
    return [NewFile(f"a/{number}.bin", bytes([number, setting]) * 10, 10), NewFile(f"b/{number}", b"x")]


def record_of(number: int) -> dict:
    return {"rows": 10, "dropped": {"bad": 1} if number == 1 else {}}


def is_sound(output: Path) -> bool:
    """Whether every file is there with the hash that the manifest names, and no other."""
    manifest = read_manifest(output)
    found = hashes(output)
    del found["manifest.json"]
    return found == {file["path"]: file["sha256"] for file in manifest["files"]}


def test_a_commit_that_comes_after_publication_makes_nothing_and_ends_as_done(tmp_path, undisturbed, lockless):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part(1, 2)) as late:
        run(output, make_plan())
        late.commit({"unit": 0}, of_unit(0), record_of(0))
        raise AssertionError("there is no more work, and the block ends")
    assert late.sealed
    assert hashes(output) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "undisturbed"], "no .partial, no lock"
    assert run(output, make_plan()).sealed


def test_a_late_commit_leaves_no_record_in_the_partial_that_a_later_run_has_begun(tmp_path, undisturbed, lockless):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part(1, 2)) as late:
        plan = (late.folder / "plan.json").read_bytes()

        def meanwhile():
            run(output, make_plan())
            for name in ("", "a", "b"):  # where yet another run has begun to write
                (late.folder / name).mkdir()
            (late.folder / "plan.json").write_bytes(plan)
            return record_of(0)

        late.commit({"unit": 0}, of_unit(0), meanwhile)
    assert late.sealed
    assert run(output, make_plan()).sealed
    assert hashes(output) == undisturbed
    assert not late.folder.exists()


def test_a_late_commit_of_other_results_is_refused_and_names_the_file(tmp_path, undisturbed, lockless):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part(1, 2)) as late:
        run(output, make_plan())
        with pytest.raises(StorageError) as caught:
            late.commit({"unit": 0}, of_unit(0, setting=7), record_of(0))
    assert str(caught.value) == f"two runs gave different results for {output}: a/0.bin"
    assert caught.value.hint
    assert hashes(output) == undisturbed
    assert not storage.partial_of(output).exists()


def test_two_results_for_one_unit_are_never_mixed(tmp_path, undisturbed, lockless):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part(1, 2)) as one, stage(output, make_plan(), part=Part(1, 2)) as two:
        one.commit({"unit": 0}, of_unit(0), record_of(0) | {"environment": {"torch": "1"}})
        two.commit({"unit": 0}, of_unit(0), record_of(0) | {"environment": {"torch": "2"}})
        two.commit({"unit": 0}, of_unit(0), record_of(0) | {INPUTS_CHECKED: True})
        with pytest.raises(StorageError, match=r"different results for unit 0 of .*: a/0\.bin") as caught:
            two.commit({"unit": 0}, of_unit(0, setting=7), record_of(0) | {"environment": {"torch": "2"}})
        assert "torch 1 / 2" in caught.value.hint
        with pytest.raises(StorageError, match="rows is 10 there and 11 here"):
            two.commit({"unit": 0}, of_unit(0), record_of(0) | {"rows": 11})
        assert not list(one.folder.rglob(".tmp-*"))
    run(output, make_plan())
    assert hashes(output) == undisturbed


def test_runs_of_which_one_alone_checks_its_inputs_have_the_same_results(tmp_path, lockless):
    plan = make_plan(n_units=1)
    with stage(tmp_path / "out", plan, part=Part()) as one, stage(tmp_path / "out", plan, part=Part()) as two:
        one.commit({"unit": 0}, of_unit(0), {"metadata": {INPUTS_CHECKED: False, "n": 1}})
        two.commit({"unit": 0}, of_unit(0), {"metadata": {INPUTS_CHECKED: True, "n": 1}})
        with pytest.raises(StorageError, match=r"metadata\.n is 1 there and 2 here"):
            two.commit({"unit": 0}, of_unit(0), {"metadata": {INPUTS_CHECKED: True, "n": 2}})


def test_a_late_worker_leaves_the_partial_of_another_plan_alone(tmp_path, lockless):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part(1, 2)) as late:
        run(output, make_plan(setting=2), "1/2", overwrite=True)
        before = hashes(late.folder)
        with pytest.raises(StorageError, match="no longer there"):
            late.commit({"unit": 1}, of_unit(1), record_of(1))
        assert hashes(late.folder) == before
    assert not (tmp_path / "out.partial.old").exists()
    run(output, make_plan(setting=2))
    assert is_sound(output)


@pytest.mark.parametrize(
    ("locks", "every"),
    [
        pytest.param("lockless", 1, marks=pytest.mark.slow),
        pytest.param("local_locks", 1, marks=pytest.mark.slow),
        ("lockless", 9),
    ],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["same", "sealed", "replaced", "unlike"])
def test_a_run_delayed_at_any_step_finds_what_another_did_meanwhile(
    tmp_path, request, exit_at, kind, after, locks, every
):
    request.getfixturevalue(locks)
    n_unlike = 0
    for step in range(0, 500, every):
        output = tmp_path / f"run-{step}"
        exit_at(NEVER, after=after)
        if kind == "sealed":  # both have only the sealing left
            run(output, make_plan(), "1/2")
            with stage(output, make_plan(), part=Part(2, 2)) as staging:
                staging.commit({"unit": 1}, of_unit(1), record_of(1))
        elif kind == "replaced":
            run(output, make_plan(setting=2))
        happened = []

        def meanwhile(output=output, happened=happened):
            happened.append(run(output, make_plan(), overwrite=kind == "replaced"))

        exit_at(step, after=after, do=meanwhile)
        if kind == "unlike":
            said = run_unlike(output)
            n_unlike += "two runs gave different results" in said
            assert not said or "two runs gave different results" in said
        else:
            assert run(output, make_plan(), overwrite=kind == "replaced").sealed
        if happened:
            assert happened[0].sealed
        run(output, make_plan())
        assert is_sound(output)
        assert kind == "unlike" or read_manifest(output)["identity"]["setting"] == 1
        assert not list(tmp_path.glob(f"run-{step}.*")), "no .partial, lock or old one is left"
        if not happened:
            assert step > 15
            assert kind != "unlike" or n_unlike > 15 / every
            return
    raise AssertionError("the protocol has no end")


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_machine_that_only_starts_meanwhile_takes_nothing_from_a_run(
    tmp_path, undisturbed, local_locks, exit_at, after, every
):
    for step in range(0, 500, every):
        output, happened = tmp_path / f"run-{step}", []

        def meanwhile(output=output, happened=happened):
            with stage(output, make_plan(), part=Part()) as staging:
                happened.append(staging.missing())

        exit_at(step, after=after, do=meanwhile)
        assert run(output, make_plan()).sealed
        exit_at(NEVER, after=after)
        assert hashes(output) == undisturbed
        if not happened:
            assert step > 30
            return
    raise AssertionError("the protocol has no end")


def test_what_is_not_complete_is_not_published(tmp_path):
    folder = storage.partial_of(tmp_path / "out")
    run(tmp_path / "out", make_plan(), "1/2")
    before = hashes(folder)
    with pytest.raises(GoneError, match="not complete"):
        publishing.publish(tmp_path / "out", overwrite=False)
    assert hashes(folder) == before


def test_who_publishes_what_another_published_and_a_third_began_anew_ends_as_done(tmp_path, undisturbed, monkeypatch):
    output = tmp_path / "out"
    sync, came = publishing.sync_folder, []

    def meanwhile(folder):
        if not came:
            came.append(folder.rename(output))
            folder.mkdir()
            (folder / ".tmp-0123abcd-plan.json").touch()
        sync(folder)

    monkeypatch.setattr(publishing, "sync_folder", meanwhile)
    assert run(output, make_plan()).sealed
    assert came
    assert hashes(output) == undisturbed


def test_a_plan_that_another_process_writes_while_it_is_looked_for_is_found(tmp_path, lockless, monkeypatch):
    run(tmp_path / "out", make_plan(), "1/2")
    looks = iter([None])
    seen = existing.read_plan
    monkeypatch.setattr(existing, "read_plan", lambda folder: next(looks, seen(folder)))
    existing.refuse_other_plan(storage.partial_of(tmp_path / "out"), make_plan())
    with pytest.raises(StorageError, match="setting is 1 there and 2 here"):
        existing.refuse_other_plan(storage.partial_of(tmp_path / "out"), make_plan(setting=2))


def test_a_file_that_was_lost_before_it_had_its_name_is_said_and_its_unit_done_again(tmp_path, undisturbed, either):
    def lose():
        for path in (tmp_path / "out.partial").rglob(".tmp-*-0.bin"):
            path.unlink()
        return record_of(0)

    with stage(tmp_path / "out", make_plan(), part=Part(1, 2)) as staging:
        with pytest.raises(StorageError, match=r"cannot write .*/a/\.tmp-\w+-0\.bin: No such file"):
            staging.commit({"unit": 0}, of_unit(0), lose)
        assert not (staging.folder / UNITS / "000000.json").exists()
        assert {"unit": 0} in staging.missing()
    run(tmp_path / "out", make_plan())
    assert hashes(tmp_path / "out") == undisturbed


def test_a_run_that_is_interrupted_leaves_no_temporary_files_and_a_killed_ones_go_at_publication(tmp_path, undisturbed):
    def stop(kind):
        raise kind

    output = tmp_path / "out"
    for kind, n_left in ((KeyboardInterrupt, 0), (Killed, 2)):
        with stage(output, make_plan(), part=Part()) as staging, pytest.raises(kind):
            staging.commit({"unit": 0}, of_unit(0), lambda kind=kind: stop(kind))
        assert len(list(staging.folder.rglob(".tmp-*"))) == n_left
    run(output, make_plan())
    assert hashes(output) == undisturbed


def stopped_while_sealing(output: Path, monkeypatch) -> Path:
    """Make a `.partial` whose sealing was stopped between the manifest and the metadata, and return the manifest."""
    settled = Staging._settle_manifest
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "_settle_manifest", lambda *of: settled(*of) or kill())
        with pytest.raises(Killed):
            run(output, make_plan())
    assert not is_complete(storage.partial_of(output))
    return storage.partial_of(output) / "manifest.json"


def test_the_manifest_of_another_versions_stopped_sealing_is_named_and_not_mixed(
    tmp_path, undisturbed, either, monkeypatch
):
    output = tmp_path / "out"
    manifest = stopped_while_sealing(output, monkeypatch)
    manifest.write_text(manifest.read_text().replace('"extra": 1', '"extra": 2'))
    with pytest.raises(StorageError, match="extra is 2 there and 1 here") as caught:
        run(output, make_plan())
    assert f"remove {manifest}" in caught.value.hint
    assert '"extra": 2' in manifest.read_text()
    manifest.unlink()
    run(output, make_plan())
    assert hashes(output) == undisturbed


def test_a_unit_done_again_to_other_bytes_under_a_stopped_sealings_manifest_says_how_to_go_on(
    tmp_path, either, monkeypatch
):
    output = tmp_path / "out"
    manifest = stopped_while_sealing(output, monkeypatch)
    (manifest.parent / "a" / "0.bin").unlink()
    for _ in range(2):
        with stage(output, make_plan(), part=Part()) as staging:
            (unit,) = staging.missing()
            with pytest.raises(StorageError, match=r"different results for unit 0 of .*: a/0\.bin") as caught:
                staging.commit(unit, of_unit(0, setting=7), record_of(0))
        assert f"remove {manifest}" in caught.value.hint
    manifest.unlink()
    with stage(output, make_plan(), part=Part()) as staging:
        staging.commit(unit, of_unit(0, setting=7), record_of(0))
        assert staging.seal(finish)
    assert is_sound(output)


def run_unlike(output: Path) -> str:
    """Do what `run` does, with other bytes, as on a machine that rounds otherwise; return what is said about it."""
    try:
        with stage(output, make_plan(), part=Part()) as staging:
            for unit in staging.missing():
                staging.commit(unit, of_unit(unit["unit"], setting=9), record_of(unit["unit"]))
            staging.seal(finish)
    except StorageError as error:
        return str(error)
    return ""


def test_a_unit_whose_maker_was_stopped_before_its_files_had_names_is_not_done_again(tmp_path, undisturbed, exit_at):
    for step in range(200):
        output = tmp_path / f"run-{step}"
        exit_at(NEVER, after=True)
        with stage(output, make_plan(n_units=1), part=Part()) as staging:
            exit_at(step, after=True)
            with pytest.raises(Killed):
                staging.commit({"unit": 0}, of_unit(0), record_of(0))
            exit_at(NEVER, after=True)
            if not (staging.folder / UNITS / "000000.json").exists():
                assert staging.missing() == [{"unit": 0}]
                continue
            assert staging.missing() == []
            assert set(hashes(staging.folder)) >= {"a/0.bin", "b/0"}
            return
    raise AssertionError("no step lay between the record and the names")


def test_a_record_whose_file_changed_its_size_is_taken_away_and_the_unit_done_again(tmp_path, undisturbed, either):
    output = tmp_path / "out"
    run(output, make_plan(), "1/2")
    folder = storage.partial_of(output)
    (folder / "a" / "0.bin").write_bytes(b"cut")
    (folder / UNITS / "000002.json").write_text('{"unit": 2, "fi')
    staging = run(output, make_plan(), "1/2")
    assert not staging.sealed
    assert [unit["unit"] for unit in staging.left()] == [1]
    run(output, make_plan())
    assert hashes(output) == undisturbed


def test_records_without_hard_links_are_exclusive_too(tmp_path, undisturbed, lockless, monkeypatch):
    def no_link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    test_two_results_for_one_unit_are_never_mixed(tmp_path, undisturbed, None)


def test_a_partial_begun_by_the_version_before_is_finished_to_the_same_bytes(tmp_path, undisturbed, either):
    import json

    output = tmp_path / "out"
    run(output, make_plan(), "1/3")
    record = storage.partial_of(output) / UNITS / "000000.json"
    content = json.loads(record.read_text())
    content.pop("plan", None)  # which the version before did not write
    record.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    (storage.partial_of(output) / "b" / "1").write_bytes(b"y")  # a file of a unit that was stopped
    run(output, make_plan())
    assert hashes(output) == undisturbed


OPENED: list[str] = []
WATCHED: list[str] = []


def _note(event: str, arguments: tuple) -> None:
    if event == "open" and WATCHED and str(arguments[0]).startswith(WATCHED[0]):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_note)  # for good: such a hook cannot be removed


def test_a_part_reads_the_records_of_its_own_units_alone(tmp_path, either):
    output, plan = tmp_path / "out", make_plan(n_units=10_000)
    with stage(output, plan, part=Part(1, 1000)) as staging:
        staging.commit({"unit": 0}, [NewFile("shared", b"x", 1)], {"rows": 1})
    units = storage.partial_of(output) / UNITS
    for number in range(1, 10_000):
        if number % 1000 != 3:
            os.link(units / "000000.json", units / f"{number:06d}.json")
    WATCHED.append(str(tmp_path))
    OPENED.clear()
    try:
        with stage(output, plan, part=Part(3, 1000)) as staging:
            assert staging.missing() == []
        n_opened = len(OPENED)
        with stage(output, plan, part=Part(4, 1000)) as staging:
            assert len(staging.missing()) == 10
            assert not staging.seal(finish)
        n_opened_for_sealing = len(OPENED) - n_opened
    finally:
        WATCHED.clear()
    assert n_opened <= 20, OPENED
    assert n_opened_for_sealing <= 20, "that units are left is seen by the names"


def at_once(work, n: int) -> list[int]:
    """Run `work(k)` in n processes that start together, and return their exit statuses."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(n)

    def child(k: int) -> None:
        barrier.wait()
        try:
            work(k)
        except ActlabError as error:
            os.write(2, f"{error}\n".encode())
            os._exit(1)
        os._exit(0)

    processes = [context.Process(target=child, args=(k,)) for k in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("n", [2, 6])
def test_sealers_at_once_all_end_well(tmp_path, undisturbed, either, monkeypatch, n):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for number in range(6):
        output = tmp_path / f"run-{number}"
        run(output, make_plan(), "1/2")
        with stage(output, make_plan(), part=Part(2, 2)) as staging:
            staging.commit({"unit": 1}, of_unit(1), record_of(1))

        def seal(_, output=output):
            staging = reopen(output)
            assert staging is None or (not staging.left() and staging.seal(finish))

        assert at_once(seal, n) == [0] * n
        assert hashes(output) == undisturbed
        assert not storage.partial_of(output).exists()


@pytest.mark.parametrize("kind", ["new", "replaced"])
def test_whole_runs_at_once_without_locks_all_end_well(tmp_path, undisturbed, lockless, monkeypatch, kind):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for number in range(8):
        output = tmp_path / f"run-{number}"
        if kind == "replaced":
            run(output, make_plan(setting=2))

        def whole(_, output=output):
            assert run(output, make_plan(), overwrite=kind == "replaced").sealed

        assert at_once(whole, 4) == [0] * 4
        assert hashes(output) == undisturbed
        assert not list(tmp_path.glob(f"run-{number}.*"))


def test_runs_killed_at_once_anywhere_leave_what_the_next_one_finishes(tmp_path, undisturbed, either, exit_at):
    draw = random.Random(0)
    for number in range(8):
        output = tmp_path / f"run-{number}"
        steps = [draw.randrange(90) for _ in range(3)]

        def killed(k, output=output, steps=steps):
            exit_at(steps[k], after=bool(k % 2), do=lambda: os.kill(os.getpid(), signal.SIGKILL))
            run(output, make_plan(), f"{k + 1}/3")

        at_once(killed, 3)
        exit_at(NEVER, after=False)
        assert not output.exists() or is_complete(output)
        run(output, make_plan())
        assert hashes(output) == undisturbed
        assert not list(tmp_path.glob(f"run-{number}.*"))


def meanwhile_again(monkeypatch, owner, name: str, whole) -> list:
    """Make the first call of `name` do the `whole` job beforehand, as another process would; return what came of it."""
    came, original = [], getattr(owner, name)

    def call(*args, **kwargs):
        if not came:
            came.append(None)
            came[0] = whole()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return came


def test_an_extraction_published_by_another_run_meanwhile_ends_as_done(llama, tmp_path, lockless, monkeypatch):
    import actlab
    from actlab.activations.job import ExtractJob

    rows = tmp_path / "data.jsonl"
    rows.write_text('{"prompt": "how are you", "EM": "well"}\n{"prompt": "and you", "EM": "well too"}\n')

    def extract():
        return actlab.extract_activations(model=str(llama), dataset=[str(rows)], output=str(tmp_path / "out"))

    came = meanwhile_again(monkeypatch, ExtractJob, "do_unit", extract)
    (late,) = extract()
    assert late == came[0][0]
    assert late.is_sealed
    assert is_sound(late.path)
    assert not storage.partial_of(late.path).exists()


def test_saes_published_by_another_run_meanwhile_end_as_done(llama, tmp_path, lockless, monkeypatch):
    import actlab
    from actlab.features.train_sae.job import TrainSaeJob

    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "how are you today"}\n{"text": "and how are you"}\n')

    def train():
        settings = {"n_features": 8, "k": 2, "n_steps": 2, "batch_size": 4}
        return actlab.train_sae(
            model=str(llama), input=str(texts), output=str(tmp_path / "saes"), layers="0", device="cpu", **settings
        )

    came = meanwhile_again(monkeypatch, TrainSaeJob, "do_unit", train)
    late = train()
    assert late == came[0]
    assert late.is_sealed
    assert is_sound(tmp_path / "saes")


def test_who_made_again_what_another_has_published_leaves_it_there_and_nothing_behind(tmp_path, undisturbed):
    output, again = tmp_path / "undisturbed", tmp_path / "undisturbed.partial"
    shutil.copytree(output, again)
    (again / "manifest.json").write_text((again / "manifest.json").read_text() + " ")
    with pytest.raises(StorageError, match="exists already"):
        publishing.publish(output, overwrite=False)
    shutil.copy(output / "manifest.json", again)
    publishing.publish(output, overwrite=False)
    assert hashes(output) == undisturbed
    assert not again.exists()
