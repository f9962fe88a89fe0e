"""Units in, a sealed dataset out: the place where a dataset is made."""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from actlab.ground import manifest as manifests
from actlab.ground.errors import EmptyDatasetError, StorageError
from actlab.ground.made_on import unlike_parts
from actlab.ground.manifest import DROPPED, MANIFEST, Stored
from actlab.ground.storage.aside import Aside, NewFile, finish_naming, is_aside, put_back, record_of, token_of
from actlab.ground.storage.files import (
    TEMPORARY,
    GoneError,
    make_folders,
    refuse_inside_dataset,
    remove_tree,
    storage_errors,
    sync_folder,
)
from actlab.ground.storage.lock import Lock
from actlab.ground.storage.own_files import note_written, refuse_foreign, refuse_foreign_partial
from actlab.ground.storage.plan import (
    PLAN,
    UNITS,
    Plan,
    differences_to,
    holds,
    is_complete,
    output_of,
    partial_of,
    plan_of_manifest,
    read_plan,
)
from actlab.ground.storage.publish import is_replaced, old_of, publish, recover
from actlab.ground.units import Part

log = logging.getLogger("actlab")

_LOCK_WAIT_S = 20.0
_TRIES = 10
"""How often something is tried again that another process changed under it."""
_LOOKS = 50
_MAY_DIFFER = ("environment", "made_on", "plan")
"""Keys of a record that say where a unit was made, not what came of it."""
_VERSIONS = ("versions", "acceptance ", "sae_lens_version ")
"""Keys of an identity by which one version of actlab tells its results from another's."""


class Finish(NamedTuple):
    """What a pipeline adds when all units are there."""

    files: list[Stored]
    """Written already, by `Staging.write`."""
    metadata: dict[str, Any]
    """The JSON of each `metadata.json`, by its path."""
    manifest: dict[str, Any]
    """More keys for the manifest."""
    hints: Mapping[str, str] = {}
    """What helps where every record was dropped, by reason."""


class _PublishedError(Exception):
    """Ends a run whose dataset another run has finished and published meanwhile; `stage` catches it."""


class Staging:
    """A dataset in the making, or one that was found sealed.

    Any number of processes may work on it, each stopped or delayed at any moment: units and the manifest are
    created exclusively and compared with what is there, by `Aside`. Nothing is made above a unit's folders.
    """

    def __init__(self, output: Path, plan: Plan, part: Part, lock: Lock, *, overwrite: bool) -> None:
        self.output = output
        self.folder = partial_of(output)
        self.plan = plan
        self.part = part
        self.sealed = False
        """Whether the dataset is complete and published."""
        self._token = secrets.token_hex(4)
        """By which this run's notes are told from another part's."""
        self._lock = lock
        self._overwrite = overwrite
        self._sealing: Aside | None = None
        self._found = _inode(output)
        """What had the dataset's name before, by its inode."""
        self._plan_seen: tuple[int, int, int] | None = None

    def missing(self) -> list[dict[str, Any]]:
        """Return the units of this task's part that have no completion record, or files other than it says."""
        return self._without_record(self.part, discard=True)

    def left(self) -> list[dict[str, Any]]:
        """Return the units of any part that have no completion record, or files other than it says."""
        return self._without_record(Part(), discard=False)

    def _without_record(self, part: Part, *, discard: bool) -> list[dict[str, Any]]:
        if self.sealed or holds(self.folder, self.plan):
            return []
        names = _unit_names(self.folder)
        marks = {name for name in names if is_aside(name)}
        found = []
        for unit in self.plan.units:
            if part.has(unit["unit"]) and not self._has(unit["unit"], names, marks):
                found.append(unit)
                if discard and self._record_path(unit["unit"]).name in names:
                    self._discard(unit["unit"])
        if found and self._place_of_whole(1) is not None:
            return []  # another process sealed it meanwhile
        if found and not self.folder.is_dir():
            if self._place_of_whole() is None:
                raise self._gone()
            return []
        return found

    def _place_of_whole(self, n_looks: int = _LOOKS) -> Path | None:
        """Return where the dataset lies that another process has sealed, before or after its publication.

        A replacement has a moment in which it is seen in neither place, so one look is not always enough.
        """
        for look in range(n_looks):
            if look:
                time.sleep(0.02)
            if holds(self.folder, self.plan):
                return self.folder
            if self._is_published():
                return self.output
        return None

    def _has(self, unit: int, names: set[str], marks: set[str]) -> bool:
        """Whether a unit has its record, and the files that the record names, whole."""
        path = self._record_path(unit)
        if path.name not in names:
            return False
        try:
            files = list(manifests.stored_files(self._read_record(path)))
        except (StorageError, KeyError, TypeError):
            return False
        own = [path.with_name(name) for name in marks if name.endswith("-" + path.name)]
        finish_naming(self.folder, path, files, own)
        return not manifests.damaged_files(self.folder, files)

    def _read_record(self, path: Path) -> dict[str, Any]:
        """Return a record of this plan.

        Raises:
            GoneError: There is none.
            StorageError: It is cut, or of a late worker of another plan.
        """
        try:
            record = manifests.read_object(path)
        except StorageError:
            if not path.exists():
                raise GoneError(f"{path} is not there", hint="run the same command again") from None
            raise
        if not isinstance(record, dict) or record.get("plan", self.plan.fingerprint) != self.plan.fingerprint:
            raise StorageError(f"{path} is of another plan", hint="run the same command again")
        return record

    def _discard(self, unit: int) -> None:
        """Take away a record that is cut or whose files are damaged, unless another process put it right."""
        path = self._record_path(unit)
        taken = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
        with storage_errors(path), contextlib.suppress(FileNotFoundError):
            os.rename(path, taken)
            problem = self._problem(taken)
            if problem is None:
                put_back(taken, path)
            else:
                log.warning("unit %d is done again: %s", unit, problem)
            taken.unlink()

    def _problem(self, record: Path) -> str | None:
        """Name what is wrong with a record or its files."""
        try:
            damaged = manifests.damaged_files(self.folder, manifests.stored_files(self._read_record(record)))
        except (StorageError, KeyError, TypeError):
            return "its record is not whole"
        return damaged[0] if damaged else None

    def write(self, new: NewFile) -> Stored:
        """Write one more file of the dataset, inside `finish`, and return its entry for the manifest."""
        assert self._sealing is not None, "a unit's files are given to commit"
        note_written(self.folder, self._token, new.path)
        return self._sealing.write(new)

    def commit(
        self, unit: dict[str, Any], files: Iterable[NewFile], record: dict[str, Any] | Callable[[], dict[str, Any]]
    ) -> None:
        """Write a unit's files, and the record that says that they are all there.

        `record` may be a function, called when the files are written: it can tell what came of making them.
        Where another run did the unit meanwhile, its results are compared with these, and stand. Where all is
        published, this run ends as done if the files are the same.

        Raises:
            StorageError: Other results for the unit are there already, or the `.partial` has gone.
        """
        with Aside(self.folder) as aside:
            stored = [aside.write(new) for new in files]
            content = {
                "unit": unit["unit"],
                "plan": self.plan.fingerprint,
                "files": [file.as_json() for file in stored],
            }
            content |= record() if callable(record) else record
            try:
                self._settle(aside, self._record_path(unit["unit"]), content)
            except GoneError:
                aside.drop()
                self._end_if_published(stored)

    def _settle(self, aside: Aside, path: Path, content: dict[str, Any]) -> None:
        """Make a unit's record, or find that it is there already with the same results."""
        data = manifests.to_json(content)
        what = f"unit {content['unit']} of {self.output}"
        for _ in range(_TRIES):
            if aside.is_lost or not self._is_its_folder():
                break
            with storage_errors(path):
                make_folders(self.folder, path.parent)
            if aside.settle(path, data):
                sealed = manifests.read_manifest(self.folder)  # then this record came too late, in a new folder
                if sealed is not None and (unlike := _unlike_files(manifests.stored_files(sealed), content)):
                    path.unlink(missing_ok=True)
                    _refuse_unlike(what, unlike)
                aside.name()
                return
            try:
                there = self._read_record(path)
            except GoneError:
                continue
            except StorageError:
                self._discard(content["unit"])
                continue
            _compare(what, there, json.loads(data))
            aside.name()
            return
        raise self._gone()

    def _gone(self) -> GoneError:
        return GoneError(
            f"{self.folder} is no longer there, and {self.output} is not what this run makes",
            hint="did another run discard it, or somebody remove it? run the same command again",
        )

    def _is_its_folder(self) -> bool:
        """Whether the `.partial` is still that of this plan, and not yet being cleaned up for publication."""
        try:
            now = os.stat(self.folder / PLAN)
        except FileNotFoundError:
            return False
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen != self._plan_seen:
            plan = read_plan(self.folder)
            if plan is None or plan.fingerprint != self.plan.fingerprint:
                return False
            self._plan_seen = seen
        return True

    def _end_if_published(self, files: list[Stored]) -> NoReturn:
        """End this run as done: its `.partial` went since the dataset was published, with the same files.

        Raises:
            StorageError: It was not, or other files were.
        """
        place = self._place_of_whole()
        while place == self.folder:
            with contextlib.suppress(GoneError):
                publish(self.output, overwrite=self._overwrite)
            place = self._place_of_whole()
        manifest = place and manifests.read_manifest(place)
        if not manifest:
            raise self._gone()
        unlike = _unlike_files(manifests.stored_files(manifest), {"files": [file.as_json() for file in files]})
        if unlike:
            _refuse_unlike(str(self.output), unlike)
        with contextlib.suppress(OSError):
            (self.output / UNITS).rmdir()  # made while the folder was being renamed
        raise _PublishedError

    def _is_published(self) -> bool:
        """Whether the dataset is complete under its name since this run was begun."""
        return holds(self.output, self.plan) and _inode(self.output) != self._found

    def log(self, event: dict[str, Any]) -> None:
        """Append a line to `<output>.log.jsonl`, where times and places may stand."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event}, ensure_ascii=False)
        path = self.output.with_name(self.output.name + ".log.jsonl")
        with storage_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the units' completion records, in the units' order."""
        for unit in self.plan.units:
            yield self._read_record(self._record_path(unit["unit"]))

    def seal(self, finish: "Callable[[Staging], Finish]") -> bool:
        """Publish the dataset if every unit is there and nobody else is at work on it.

        Returns:
            Whether it is published now.

        Raises:
            EmptyDatasetError: Every record was dropped.
        """
        if not self.sealed and not self.part.is_whole:
            self._lock.release()
            if not self._lock.try_acquire():
                return False  # another part is still at work, and the last one seals
        for tries_left in reversed(range(_TRIES)):
            if self.sealed or self._is_published():
                self._end()
                return True
            try:
                if not holds(self.folder, self.plan):
                    if not self._all_recorded() or self.left():
                        return False
                    self._complete(finish)
                publish(self.output, overwrite=self._overwrite)
                self._end()
            except GoneError:  # another process is a step ahead
                if not tries_left:
                    raise
        return self.sealed

    def _all_recorded(self) -> bool:
        """Whether no unit lacks its record, by their names alone; also where another process sealed it by now."""
        names = _unit_names(self.folder)
        return (
            all(self._record_path(unit["unit"]).name in names for unit in self.plan.units)
            or holds(self.folder, self.plan)
            or self._is_published()
        )

    def _complete(self, finish: "Callable[[Staging], Finish]") -> None:
        """Write what a dataset holds besides its units' files."""
        with Aside(self.folder) as self._sealing:
            finished = finish(self)
            self._refuse_empty(finished.hints)
            self._write_manifest(finished, self._sealing)

    def _end(self) -> None:
        """Note that the dataset is published, and leave no lock behind."""
        self.sealed = True
        self._lock.remove()

    def _refuse_empty(self, hints: Mapping[str, str]) -> None:
        """Refuse to seal what holds nothing because of what was dropped; that nothing was found is a result."""
        if any(holds_rows(manifests.stored_files(record)) for record in self.records()):
            return
        counts: Counter[str] = Counter()
        for record in self.records():
            counts.update(record.get("dropped", {}))
        if not counts:
            return
        why = "; ".join(f"{reason}: {count}" for reason, count in counts.most_common())
        helps = hints.get(counts.most_common(1)[0][0], "fix the input or the settings")
        if self._sealing is not None:
            self._sealing.name()
        listed = f"; {self.folder / DROPPED} lists them" if (self.folder / DROPPED).is_file() else ""
        self._lock.release()
        raise EmptyDatasetError(f"{self.output} would be empty: every record was dropped ({why})", hint=helps + listed)

    def _write_manifest(self, finish: Finish, aside: Aside) -> None:
        dropped: Counter[str] = Counter()
        files: list[Stored] = []
        for record in self.records():
            files += manifests.stored_files(record)
            dropped.update(record.get("dropped", {}))
        metadata = {path: manifests.to_json(content) for path, content in sorted(finish.metadata.items())}
        files += finish.files
        files += [Stored(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in metadata.items()]
        manifest = {
            **self.plan.described(),
            "fingerprint": self.plan.fingerprint,
            "n_units": len(self.plan.units),
            "dropped": dict(sorted(dropped.items())),
            **finish.manifest,
            "files": [file.as_json() for file in sorted(files, key=lambda file: file.path)],
        }
        self._settle_manifest(manifests.to_json(manifest), aside)
        with Aside(self.folder) as last:
            for path, data in metadata.items():
                last.write(NewFile(path, data))
            last.name()

    def _settle_manifest(self, data: bytes, aside: Aside) -> None:
        """Make the manifest, or find that another process made the same one."""
        path = self.folder / MANIFEST
        if not aside.settle(path, data):
            with storage_errors(path):
                there = path.read_bytes()
            if there != data and self._lock.is_real:
                aside.replace(path)  # of a sealing that was stopped, by another version
            elif there != data:
                found = manifests.differences(manifests.read_json(path), json.loads(data))
                raise StorageError(
                    f"two runs sealed {self.output} with different results: {'; '.join(found[:3])}",
                    hint=f"if no other run is at work on it, remove {path} and run the same command again",
                )
        aside.name()

    def _record_path(self, unit: int) -> Path:
        return self.folder / UNITS / f"{unit:06d}.json"


def _unlike_files(there: Iterable[Stored], record: dict[str, Any]) -> list[str]:
    """Name the files of a record that are not the same there."""
    known = {file.path: file for file in there}
    return [file.path for file in manifests.stored_files(record) if known.get(file.path) != file]


def _compare(what: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Compare two records of one unit, apart from where it was made.

    Raises:
        StorageError: They tell of different results.
    """
    machines = [one.get("environment") for one in (there, here)]
    if unlike := _unlike_files(manifests.stored_files(there), here):
        _refuse_unlike(what, unlike, [one for one in machines if isinstance(one, dict)])
    results = [{key: value for key, value in one.items() if key not in _MAY_DIFFER} for one in (there, here)]
    if found := manifests.differences(results[0], results[1]):
        _refuse_unlike(what, found, [one for one in machines if isinstance(one, dict)])


def _refuse_unlike(what: str, unlike: list[str], machines: list[dict[str, Any]] | None = None) -> NoReturn:
    reasons = "; ".join(unlike_parts(machines or []))
    because = f"; they ran under {reasons}" if reasons else ""
    raise StorageError(
        f"two runs gave different results for {what}: {unlike[0]}"
        + (f" and {len(unlike) - 1} more" * (len(unlike) > 1)),
        hint=f"the first result stands; run the same command again to go on{because}",
    )


@contextmanager
def stage(output: Path, plan: Plan, *, part: Part, overwrite: bool = False, again: bool = False) -> Iterator[Staging]:
    """Open the place where a dataset is made: new, half made by an earlier run, or found complete.

    With `again` a complete one is made anew, as after a change that the plan does not know of.

    Raises:
        StorageError: There is one made with other settings, or another run is at work on it.
    """
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_output_lock(output))
        staging = Staging(output, plan, part, lock, overwrite=overwrite)
        for tries_left in reversed(range(_TRIES)):
            before = _inode(output)
            try:
                with storage_errors(output):
                    _open(staging, stack, lock, again=again)
                break
            except StorageError as error:  # another process published, replaced or discarded it meanwhile
                if not tries_left or not (isinstance(error, GoneError) or _inode(output) != before):
                    raise
        with contextlib.suppress(_PublishedError):
            yield staging
            return
        staging.sealed = True
        if not lock.is_real:
            lock.remove()


def _open(staging: Staging, stack: contextlib.ExitStack, lock: Lock, *, again: bool) -> None:
    """Make the `.partial` ready for work, or find the dataset sealed."""
    output, plan, part, overwrite = staging.output, staging.plan, staging.part, staging._overwrite
    folder = staging.folder
    if again:
        refuse_foreign(output)
    in_the_making = again or folder.exists() or is_replaced(old_of(output))
    if not in_the_making and _is_done(output, plan, overwrite=overwrite):
        if lock.path.exists() and lock.try_acquire():
            lock.remove()  # of a run that was stopped just before its end
        staging.sealed = True
        return
    if _join(lock, folder, part):
        _refuse_other_plan(folder, plan)
    else:
        recover(output)
        _forget_discarded(folder)
        is_done = not again and _is_done_and_not_begun(output, plan, overwrite=overwrite)
        if not is_done:
            _prepare(output, plan, overwrite=overwrite)
            # asked again: it may have been published just before, and its `.partial` made anew
            is_done = not again and _is_done_and_not_begun(output, plan, overwrite=overwrite)
        if is_done:
            refuse_foreign_partial(folder)
            with storage_errors(folder):
                remove_tree(folder, last=PLAN)
            staging._end()
            return
        if lock.is_real:
            _remove_leftovers(folder, files_too=part.is_whole)
    if not part.is_whole:
        _share(lock, output)
    if not part.is_whole and lock.is_real:
        own = Lock(folder / f"part-{part.number}-of-{part.of}.lock")
        stack.enter_context(own)
        if not own.try_acquire():
            raise _busy(f"part {part} of {output} is at work already")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _remove_leftovers(folder: Path, *, files_too: bool) -> None:
    """Remove what stopped runs left that nothing names, while no other is at work: half a sealing, temporary files.

    Temporary files whose record has its mark stay: they only lack their names.
    """
    with storage_errors(folder):
        if not is_complete(folder):
            (folder / MANIFEST).unlink(missing_ok=True)
        walked = os.walk(folder) if files_too else ()
        found = [Path(parent) / name for parent, _, names in walked for name in names if is_aside(name)]
        marks = [path for path in found if path.parent == folder / UNITS]
        marked = {token_of(mark) for mark in marks if record_of(mark).exists()}
        for path in found:
            if token_of(path) not in marked:
                path.unlink(missing_ok=True)


def reopen(path: Path, *, overwrite: bool = False) -> Staging | None:
    """Open a `.partial` again by its own plan, alone, to seal it; None where the dataset is sealed.

    `path` is the dataset's folder or its `.partial`.

    Raises:
        StorageError: There is neither, or somebody is at work on it.
    """
    output = output_of(path)
    folder = partial_of(output)
    if not folder.is_dir() and not old_of(output).is_dir():
        if is_complete(output):
            return None
        raise StorageError(f"{path} is no dataset in the making", hint="name a dataset's folder or its .partial")
    lock = _output_lock(output)
    _wait_for_sealer(lock, output)
    recover(output)
    found = _inode(output)
    plan = read_plan(folder) or plan_of_manifest(folder)
    if not folder.is_dir():
        lock.remove()
        return None
    if plan is None:
        raise StorageError(f"{folder} has no plan", hint="run the command that made it again")
    staging = Staging(output, plan, Part(), lock, overwrite=overwrite)
    staging._found = found  # by now another process may have published it
    return staging


def _wait_for_sealer(lock: Lock, output: Path) -> None:
    """Take the lock; where all units are done, who has it is sealing, and will soon let go of it.

    Raises:
        StorageError: Somebody is at work on a unit.
    """
    folder, deadline = partial_of(output), time.monotonic() + _LOCK_WAIT_S
    while not lock.try_acquire():
        plan = read_plan(folder)
        n_done = len([name for name in _unit_names(folder) if not is_aside(name)])
        is_at_work = plan is not None and n_done < len(plan.units) and (folder / PLAN).exists()
        if is_at_work or time.monotonic() >= deadline:
            raise _busy(f"a run is at work on {output}")
        time.sleep(0.05)


def refuse_others(output: Path, plan: Plan, *, overwrite: bool) -> None:
    """Refuse early what `stage` would refuse later: a dataset made with other settings or inputs.

    Raises:
        StorageError: There is one, finished or begun; or what is not actlab's lies in one that is to be replaced.
    """
    _is_done(output, plan, overwrite=overwrite)
    try:
        _refuse_other_plan(partial_of(output), plan)
    except StorageError:
        if not overwrite and _has_units(partial_of(output)):
            raise
        refuse_foreign_partial(partial_of(output))


def _join(lock: Lock, folder: Path, part: Part) -> bool:
    """Take the output's lock: alone (False), or with other parts that are at work on a plan (True)."""
    deadline = time.monotonic() + (0.0 if part.is_whole else _LOCK_WAIT_S)
    while True:
        if lock.try_acquire():
            return False
        if not part.is_whole and lock.try_acquire(shared=True) and (folder / PLAN).is_file():
            return True
        lock.release()
        if time.monotonic() >= deadline:
            raise _busy(f"another run is at work on {folder}")
        time.sleep(0.05)  # somebody is planning or sealing


def _share(lock: Lock, output: Path) -> None:
    """Let other parts in; changing a lock's kind lets go of it for a moment, in which another may plan."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while not lock.try_acquire(shared=True):
        if time.monotonic() >= deadline:
            raise _busy(f"another run is at work on {output}")
        time.sleep(0.05)


def _busy(message: str) -> StorageError:
    return StorageError(message, hint="wait for it to end, then run the same command again")


def _output_lock(output: Path) -> Lock:
    return Lock(output.with_name(output.name + ".partial.lock"))


def _is_done(output: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether the dataset is there with the same settings and inputs. With others it is refused."""
    refuse_inside_dataset(output)
    if output.is_symlink():
        raise StorageError(f"{output} is a symbolic link", hint="choose an --output without one")
    if output.exists() and not output.is_dir():
        raise StorageError(f"{output} is a file", hint="choose another --output")
    if not output.exists() or not any(output.iterdir()):
        return False
    old = old_of(output)
    if old.exists() and not is_replaced(old) and overwrite:
        raise StorageError(f"{old} is in the way", hint="move it: the old dataset would go there")
    if not (output / MANIFEST).is_file():
        hint = "choose another --output, or move the folder away: --overwrite replaces actlab's own datasets alone"
        raise StorageError(f"{output} was not made by actlab, or is incomplete", hint=hint)
    manifest = manifests.read_manifest(output)
    if manifest is not None and manifest["kind"] != plan.kind:
        raise StorageError(f"{output} holds {manifest['kind']}, not {plan.kind}", hint="choose another --output")
    if manifest is not None and manifest["fingerprint"] == plan.fingerprint and is_complete(output):
        damaged = manifests.damaged_files(output, list(manifests.stored_files(manifest)))
        if damaged and not overwrite:
            raise StorageError(
                f"{output} is damaged: {damaged[0]}", hint="actlab verify tells all; give --overwrite to make it again"
            )
        if damaged:
            refuse_foreign(output)
        return not damaged
    if overwrite:
        refuse_foreign(output)
        return False
    assert manifest is not None
    if manifest["fingerprint"] == plan.fingerprint:
        raise StorageError(f"{output} is damaged: a metadata.json is missing", hint="give --overwrite to make it again")
    found = differences_to(manifest, plan)
    is_older = any(one.startswith(_VERSIONS) for one in found)
    made = "by another version of actlab" if is_older else "with other settings or inputs"
    raise StorageError(
        f"{output} was made {made}: {'; '.join(found)}",
        hint="choose another --output, or give --overwrite to replace it",
    )


def _prepare(output: Path, plan: Plan, *, overwrite: bool) -> None:
    """Make sure that `.partial` holds this plan."""
    folder = partial_of(output)
    if folder.exists():
        try:
            _refuse_other_plan(folder, plan)
        except StorageError:
            if not overwrite and _has_units(folder):
                raise
            refuse_foreign_partial(folder)
            _remove_other_plan(folder, plan)
    _is_done(output, plan, overwrite=overwrite)
    if (folder / PLAN).exists() or is_complete(folder):
        return
    described = {**plan.described(), "fingerprint": plan.fingerprint, "units": plan.units}
    with storage_errors(folder), Aside(folder) as aside:
        make_folders(folder.parent, folder)
        aside.settle(folder / PLAN, manifests.to_json(described))
        sync_folder(folder.parent)
        aside.name()
    _refuse_other_plan(folder, plan)


def _remove_other_plan(folder: Path, plan: Plan) -> None:
    """Discard a `.partial`: taken away first, so that nobody finds half of it, or loses a new one begun in its place.

    Raises:
        StorageError: A folder that is not actlab's is where it would go.
    """
    aside = _discarded_of(folder)
    with storage_errors(folder):
        if not (folder / PLAN).is_file():
            remove_tree(folder, last=PLAN)  # nothing would say what it is
            return
        _forget_discarded(folder)
        if aside.exists():
            raise StorageError(f"{aside} is in the way", hint="move it: what is discarded would go there")
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, aside)
            there = read_plan(aside)
            if there is not None and there.fingerprint == plan.fingerprint:
                os.rename(aside, folder)  # another process began this plan meanwhile
        _forget_discarded(folder)


def _discarded_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _forget_discarded(folder: Path) -> None:
    """Remove a discarded `.partial`, told by its plan, which goes last."""
    aside = _discarded_of(folder)
    with contextlib.suppress(FileNotFoundError):
        if aside.is_dir() and ((aside / PLAN).is_file() or not any(aside.iterdir())):
            remove_tree(aside, last=PLAN)


def _is_done_and_not_begun(output: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether the dataset is there, and nothing in a `.partial` that it lacks."""
    # while no dataset is there, nothing has to be known about the units, whose records are many
    return output.exists() and not _is_begun(partial_of(output)) and _is_done(output, plan, overwrite=overwrite)


def _is_begun(folder: Path) -> bool:
    """Whether a `.partial` has something that a dataset which is there lacks."""
    return _has_units(folder) or is_complete(folder)


def _has_units(folder: Path) -> bool:
    """Whether work would be lost with a `.partial`: of units whose records were all dropped, nothing would be."""
    names = sorted(name for name in _unit_names(folder) if not is_aside(name))
    has_any = any(_is_work(folder / UNITS / name) for name in names)
    return has_any or (folder.is_dir() and not (folder / PLAN).exists() and not _is_empty(folder))


def _unit_names(folder: Path) -> set[str]:
    """Return the names in the records' folder: a look at it, without reading."""
    try:
        return {path.name for path in (folder / UNITS).iterdir()}
    except FileNotFoundError:
        return set()


def _is_empty(folder: Path) -> bool:
    """Whether a `.partial` was stopped before its plan was written, or is just being made or renamed."""
    try:
        return all(is_aside(path.name) for path in folder.iterdir())
    except FileNotFoundError:
        return True


def _is_work(path: Path) -> bool:
    try:
        record = manifests.read_json(path)
        return holds_rows(manifests.stored_files(record)) or not record.get("dropped")
    except (StorageError, KeyError, TypeError):
        return True


def holds_rows(files: Iterable[Stored]) -> bool:
    """Whether files hold anything: all have rows, and they are none, where every record was dropped."""
    return any(file.rows != 0 for file in files)


def _refuse_other_plan(folder: Path, plan: Plan) -> None:
    there = read_plan(folder) or plan_of_manifest(folder)
    if there is None and folder.is_dir():
        if _is_empty(folder):
            return
        raise StorageError(f"{folder} has no plan", hint="move it away, or give --overwrite to discard it")
    if there is not None and there.fingerprint != plan.fingerprint:
        found = "; ".join(differences_to(there.described(), plan))
        raise StorageError(
            f"{folder} was begun with other settings or inputs: {found}",
            hint="finish it with its own settings, choose another --output, or give --overwrite to discard it",
        )
