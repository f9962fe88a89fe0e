"""--overwrite and discarding delete what actlab wrote; what anybody else put there is named, and stays."""

import json
import os
import shutil

import pytest

from actlab.ground.errors import EmptyDatasetError, StorageError
from actlab.ground.storage import NewFile, Staging, is_complete, partial_of, publish, refuse_others, reopen, stage
from actlab.ground.storage.own_files import refuse_foreign_partial
from actlab.ground.units import Part
from tests.command_line import fails_in_two_lines
from tests.command_line import run as command
from tests.folders import hashes
from tests.test_storage import Killed, finish, make_plan, run


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def notes(folder):
    (folder / "notes.txt").write_text("mine")


def beside_a_units_files(folder):
    (folder / "a" / "annotated.csv").write_text("mine")


def hidden(folder):
    (folder / ".notes").write_text("mine")


def like_a_temporary_file(folder):
    (folder / ".tmp-notes").write_text("mine")


def like_a_lock(folder):
    (folder / "uv.lock").write_text("mine")


def empty_folder(folder):
    (folder / "later").mkdir()


def nested_folder(folder):
    (folder / "plots" / "mine").mkdir(parents=True)
    (folder / "plots" / "mine" / "figure.png").write_text("mine")


def git(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("mine")


def link(folder):
    (folder.parent / "elsewhere").write_text("mine")
    (folder / "link").symlink_to(folder.parent / "elsewhere")


def dangling_link(folder):
    (folder / "link").symlink_to("nowhere")


def link_to_a_folder(folder):
    (folder.parent / "away").mkdir()
    (folder.parent / "away" / "file").write_text("mine")
    (folder / "link").symlink_to(folder.parent / "away")


def readme(folder):
    (folder / "README.md").write_text("# My thoughts on this dataset\n\n- card made by actlab 0.1.0\n")


INTRUDERS = {
    notes: "notes.txt",
    beside_a_units_files: "a/annotated.csv",
    hidden: ".notes",
    like_a_temporary_file: ".tmp-notes",
    like_a_lock: "uv.lock",
    empty_folder: "later/",
    nested_folder: "plots/",
    git: ".git/",
    link: "link",
    dangling_link: "link",
    link_to_a_folder: "link/",
    readme: "README.md",
}


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")), hashes(folder)


@pytest.mark.parametrize("intrude", INTRUDERS, ids=lambda intrude: intrude.__name__)
def test_overwrite_refuses_before_any_work_what_its_manifest_does_not_name(intrude, tmp_path):
    output = tmp_path / "out"
    run(output, make_plan(setting=2))
    intrude(output)
    before = everything(tmp_path)
    for start in (refuse_others, lambda *of, overwrite: stage(*of, part=Part(), overwrite=overwrite).__enter__()):
        with pytest.raises(StorageError, match=f"did not write there: {INTRUDERS[intrude]}$") as refused:
            start(output, make_plan(), overwrite=True)
        assert "move it away" in refused.value.hint
    shutil.rmtree(partial_of(output), ignore_errors=True)
    (tmp_path / "out.partial.lock").unlink(missing_ok=True)
    assert everything(tmp_path) == before


def test_the_first_few_are_named_and_the_others_counted(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan(setting=2))
    for k in range(7):
        (output / f"mine-{k}").touch()
    with pytest.raises(StorageError, match=r"there: mine-0, mine-1, mine-2 and 4 more$"):
        refuse_others(output, make_plan(), overwrite=True)
    run(output, make_plan(setting=2), overwrite=True)  # the same dataset: nothing is replaced
    assert (output / "mine-0").exists()


def test_a_damaged_dataset_is_not_replaced_either_while_it_holds_files_of_the_users(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan())
    (output / "b" / "1").unlink()
    notes(output)
    with pytest.raises(StorageError, match=r"did not write there: notes\.txt"):
        run(output, make_plan(), overwrite=True)
    (output / "notes.txt").unlink()
    run(output, make_plan(), overwrite=True)
    assert (output / "b" / "1").exists()


def test_nor_is_one_that_is_made_again(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan())
    notes(output)
    with pytest.raises(StorageError, match=r"did not write there: notes\.txt"):
        stage(output, make_plan(), part=Part(), overwrite=True, again=True).__enter__()


@pytest.mark.parametrize("is_new", [False, True])
def test_what_is_put_there_during_the_run_is_found_before_the_old_dataset_goes(is_new, tmp_path):
    output = tmp_path / "out"
    if not is_new:
        run(output, make_plan(setting=2))
    with stage(output, make_plan(), part=Part(), overwrite=True) as staging:
        for unit in staging.missing():
            staging.commit(unit, [NewFile(f"a/{unit['unit']}", b"x", 1)], {"rows": 1})
        output.mkdir(exist_ok=True)
        notes(output)
        with pytest.raises(StorageError, match=r"did not write there: notes\.txt"):
            staging.seal(finish)
    assert (output / "notes.txt").read_text() == "mine"
    (output / "notes.txt").unlink()
    with stage(output, make_plan(), part=Part(), overwrite=True) as staging:
        assert not staging.missing(), "what was done is kept"
        assert staging.seal(finish)
    assert not list(tmp_path.glob("*.old"))


def test_seal_finds_it_too(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan(setting=2))
    with stage(output, make_plan(n_units=1), part=Part(), overwrite=True) as staging:
        staging.commit({"unit": 0}, [NewFile("a/0", b"x", 1)], {"rows": 1})
    hidden(output)
    again = reopen(output, overwrite=True)
    with pytest.raises(StorageError, match=r"did not write there: \.notes"):
        again.seal(finish)
    assert (output / ".notes").exists()


def test_what_is_put_there_at_the_very_last_moment_stays_in_the_old_folder(tmp_path, monkeypatch, caplog):
    output, old = tmp_path / "out", tmp_path / "out.old"
    run(output, make_plan(setting=2))
    beside_a_units_files(output)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "refuse_foreign", lambda output: None)
        patch.setattr("actlab.ground.storage.existing.refuse_foreign", lambda output: None)
        run(output, make_plan(), overwrite=True)
    assert is_complete(output)
    assert everything(old)[0] == ["a", "a/annotated.csv"]
    assert f"{old} stays: it holds what actlab did not write there" in caplog.text
    with pytest.raises(StorageError, match="is in the way"):
        run(output, make_plan(setting=2), overwrite=True)
    assert (old / "a" / "annotated.csv").read_text() == "mine"


def test_what_took_the_place_of_a_file_or_a_folder_of_the_dataset_stays_too(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan(setting=2))
    (output / "table.txt").unlink()
    (output / "table.txt").mkdir()
    notes(output / "table.txt")
    shutil.rmtree(output / "b")
    (output / "b").write_text("mine")
    with pytest.raises(StorageError, match=r"did not write there: b, table\.txt/"):
        run(output, make_plan(), overwrite=True)
    assert (output / "b").read_text() == (output / "table.txt" / "notes.txt").read_text() == "mine"
    output.rename(tmp_path / "out.old")
    run(output, make_plan())
    (tmp_path / "out.old" / ".replaced").touch()  # as after a stop between the renames and the removal
    run(output, make_plan())
    assert everything(tmp_path / "out.old")[0] == ["b", "table.txt", "table.txt/notes.txt"]


def test_what_stopped_runs_left_and_the_systems_own_files_are_in_nobodys_way(tmp_path):
    output = tmp_path / "out"
    run(output, make_plan(setting=2))
    (output / ".DS_Store").touch()
    (output / ".replaced").touch()
    (output / ".tmp-0123abcd-metadata.json").touch()
    run(output, make_plan(), overwrite=True)
    assert not (tmp_path / "out.old").exists()


def killed(*_):
    raise Killed


def begun(output, setting=5):
    """A `.partial` with one unit done, and another one stopped between its files and its record."""
    with stage(output, make_plan(setting=setting), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("a/0", b"x", 1)], {"rows": 1})
        with pytest.raises(Killed):
            staging.commit({"unit": 1}, [NewFile("a/1", b"torn", 1), NewFile("c/deep/1", b"torn")], killed)
    return partial_of(output)


@pytest.mark.parametrize(
    "intrude",
    [intrude for intrude in INTRUDERS if intrude not in (like_a_lock, empty_folder)],
    ids=lambda intrude: intrude.__name__,
)
def test_a_partial_is_not_discarded_while_it_holds_files_of_the_users(intrude, tmp_path):
    output = tmp_path / "out"
    folder = begun(output)
    intrude(folder)
    before = everything(folder)
    for start in (refuse_others, lambda *of, overwrite: run(*of, overwrite=overwrite)):
        with pytest.raises(StorageError, match=f"did not write there: {INTRUDERS[intrude]}$"):
            start(output, make_plan(), overwrite=True)
    assert everything(folder) == before


def test_a_partial_is_discarded_with_all_that_a_killed_run_left_in_it(tmp_path):
    output = tmp_path / "out"
    folder = begun(output)
    (folder / ".tmp-0123abcd-0.bin").write_bytes(b"half")
    (folder / "part-1-of-2.lock").touch()
    (folder / "d" / "deep").mkdir(parents=True)
    (folder / "d" / "deep" / ".tmp-0123abcd-1.bin").touch()
    (folder / "e").mkdir()  # a later run removed what was in it
    run(output, make_plan(), overwrite=True)
    assert not (output / "c").exists()


def test_a_partial_that_was_stopped_while_it_sealed_is_discarded(tmp_path):
    output = tmp_path / "out"
    with stage(output, make_plan(setting=5, n_units=1), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("a/0", b"x", 1)], {"rows": 1})
        with pytest.raises(Killed):
            staging.seal(lambda staging: finish(staging) and killed())
    refuse_foreign_partial(partial_of(output))
    run(output, make_plan(), overwrite=True)
    assert "a/0" not in hashes(output)


def test_a_partial_whose_sealing_was_stopped_and_then_a_run_before_it_sealed_is_discarded(tmp_path, monkeypatch):
    output = tmp_path / "out"
    with stage(output, make_plan(setting=5, n_units=1), part=Part()) as staging, monkeypatch.context() as patch:
        staging.commit({"unit": 0}, [NewFile("a/0", b"x", 1)], {"rows": 1})
        settled = Staging._settle_manifest
        patch.setattr(Staging, "_settle_manifest", lambda *of: settled(*of) or killed())
        with pytest.raises(Killed):
            staging.seal(finish)
    assert (partial_of(output) / "table.txt").exists()
    with stage(output, make_plan(setting=5, n_units=1), part=Part()):
        pass
    run(output, make_plan(), overwrite=True)
    assert "a/0" not in hashes(output)


def test_a_partial_with_a_damaged_unit_that_was_to_be_done_again_is_discarded(tmp_path):
    output = tmp_path / "out"
    with stage(output, make_plan(setting=5, n_units=1), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("a/0", b"x", 1), NewFile("a/1", b"x", 1)], {"rows": 1})
        (partial_of(output) / "a" / "1").write_bytes(b"cut off")
        assert staging.missing() == [{"unit": 0}], "and stopped"
    run(output, make_plan(), overwrite=True)
    assert "a/0" not in hashes(output)


def test_a_partial_whose_records_were_all_dropped_is_discarded(tmp_path):
    output = tmp_path / "out"
    with stage(output, make_plan(setting=5, n_units=1), part=Part()) as staging:
        staging.commit({"unit": 0}, [NewFile("a/0", b"", 0)], {"rows": 0, "dropped": {"bad": 1}})
        with pytest.raises(EmptyDatasetError):
            staging.seal(finish)
    run(output, make_plan())
    assert "a/0" not in hashes(output)


def test_a_folder_by_the_name_of_a_partial_that_actlab_never_made_is_not_deleted(tmp_path):
    own = partial_of(tmp_path / "out")
    own.mkdir()
    notes(own)
    with pytest.raises(StorageError, match=r"did not write there: notes\.txt"):
        run(tmp_path / "out", make_plan(), overwrite=True)
    assert (own / "notes.txt").read_text() == "mine"


def test_a_file_by_the_name_of_a_lock_that_holds_something_stays(tmp_path):
    output = tmp_path / "out"
    own = tmp_path / "out.partial.lock"
    own.write_text("mine")
    for settings in ({}, {}, {"overwrite": True}):
        run(output, make_plan(setting=2 if settings else 1), **settings)
        assert own.read_text() == "mine"
    assert is_complete(output)
    own.unlink()
    own.mkdir()
    with pytest.raises(StorageError, match=r"out\.partial\.lock is in the way"):
        run(output, make_plan(setting=3), overwrite=True)
    assert own.is_dir()


def test_a_lock_of_the_users_in_a_partial_is_not_cleaned_up(tmp_path):
    output = tmp_path / "out"
    with stage(output, make_plan(), part=Part()) as staging:
        (staging.folder / "uv.lock").write_text("mine")
        (staging.folder / "part-1-of-2.lock").touch()
    run(output, make_plan())
    assert (output / "uv.lock").read_text() == "mine"
    assert not (output / "part-1-of-2.lock").exists()


def test_the_command_refuses_in_two_lines(llama, dataset, tmp_path):
    import actlab

    (dump,) = actlab.extract_activations(model=llama, dataset=dataset, output=tmp_path / "out", limit=2, quiet=True)
    (dump.path / "EM" / "mine.json").write_text(json.dumps("mine"))
    args = ("--model", llama, "--dataset", dataset, "--output", tmp_path / "out", "--limit", 3, "--overwrite")
    done = command("extract-activations", *args, "--quiet")
    fails_in_two_lines(done, 1, "did not write there: EM/mine.json", "move it away")
    assert (dump.path / "EM" / "mine.json").exists()
