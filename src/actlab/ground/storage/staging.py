"""Units in, a sealed dataset out: the place where a dataset is made."""

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from actlab.ground.errors import EmptyDatasetError, StorageError
from actlab.ground.log import log
from actlab.ground.made_on import unlike_parts
from actlab.ground.manifest import (
    DROPPED,
    MANIFEST,
    Environment,
    Stored,
    Unit,
    damaged_files,
    differences,
    read_json,
    read_manifest,
    read_object,
    stored_files,
    to_json,
)
from actlab.ground.shapes import Shape, as_shape
from actlab.ground.storage.aside import Aside, NewFile, finish_naming, is_aside, link_new
from actlab.ground.storage.files import (
    GoneError,
    make_folders,
    storage_errors,
)
from actlab.ground.storage.lock import Lock
from actlab.ground.storage.plan import (
    PLAN,
    UNITS,
    Plan,
    holds,
    holds_rows,
    inode,
    partial_of,
    read_plan,
    unit_names,
)
from actlab.ground.storage.publish import publish
from actlab.ground.temporary import new_token, temporary_of
from actlab.ground.units import Part

TRIES = 10
"""How often something is tried again that another process changed under it."""
_LOOKS = 50
_MAY_DIFFER = ("environment", "made_on", "plan", "inputs_checked")
"""Keys of a record and its metadata that say where and with how much care a unit was made, not what came of it."""

_FIRST_STANDS = "the first result stands; run the same command again to go on"


class Finish(NamedTuple):
    """Files and metadata added when the last unit is done."""

    files: list[Stored]
    """Written already, by `Staging.write`."""
    metadata: Mapping[str, Mapping[str, object]]
    """The JSON of each `metadata.json`, by its path."""
    manifest: Mapping[str, object]
    """More keys for the manifest."""
    hints: Mapping[str, str] = {}
    """What helps where every record was dropped, by reason."""


class PublishedError(Exception):
    """Ends a run whose dataset another run has finished and published meanwhile; `stage` catches it."""


class Staging:
    """A dataset in progress, or one that was found sealed.

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
        self._lock = lock
        self.overwrite = overwrite
        self._sealing: Aside | None = None
        self.found = inode(output)
        """What had the dataset's name before, by its inode."""
        self._plan_seen: tuple[int, int, int] | None = None

    def missing(self) -> list[Unit]:
        """Return the units of this task's part that have no completion record, or files other than it says."""
        return self._without_record(self.part, discard=True)

    def left(self) -> list[Unit]:
        """Return the units of any part that have no completion record, or files other than it says."""
        return self._without_record(Part(), discard=False)

    def _without_record(self, part: Part, *, discard: bool) -> list[Unit]:
        if self.sealed or holds(self.folder, self.plan):
            return []
        names = unit_names(self.folder)
        pending = {name for name in names if is_aside(name)}
        units = (unit for unit in self.plan.units if part.has(unit["unit"]))
        found = [unit for unit in units if not self._has(unit["unit"], names, pending)]
        for unit in found if discard else ():
            if self._record_path(unit["unit"]).name in names:
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

    def _has(self, unit: int, names: set[str], pending: set[str]) -> bool:
        """Whether a unit has its record, and the files that the record names, whole."""
        path = self._record_path(unit)
        own = [path.with_name(name) for name in pending if name.endswith("-" + path.name)]
        return path.name in names and self._problem(path, own) is None

    def _read_record(self, path: Path) -> dict[str, Any]:
        """Return a record of this plan.

        Raises:
            GoneError: There is none.
            StorageError: It is cut, or of a late worker of another plan.
        """
        try:
            record = read_object(path)
        except StorageError:
            if not path.exists():
                raise GoneError(f"{path} is not there", hint="run the same command again") from None
            raise
        if record.get("plan", self.plan.fingerprint) != self.plan.fingerprint:
            raise StorageError(f"{path} is of another plan", hint="run the same command again")
        return record

    def _discard(self, unit: int) -> None:
        """Take away a record that is cut or whose files are damaged, unless another process put it right.

        It keeps a temporary name, by which the files that it names are known as actlab's.
        """
        path = self._record_path(unit)
        taken = temporary_of(path, new_token())
        with storage_errors(path), contextlib.suppress(FileNotFoundError):
            os.rename(path, taken)
            problem = self._problem(taken)
            if problem is None:
                link_new(taken, path)
                taken.unlink()
            else:
                log.warning("unit %d is done again: %s", unit, problem)

    def _problem(self, record: Path, pending: Iterable[Path] = ()) -> str | None:
        """Name what is wrong with a record or its files, which get the names that are pending."""
        try:
            files = list(stored_files(self._read_record(record)))
        except StorageError:
            return "its record is not whole"
        finish_naming(self.folder, record, files, pending)
        return next(iter(damaged_files(self.folder, files)), None)

    def write(self, new: NewFile) -> Stored:
        """Write one more file of the dataset, inside `finish`, and return its entry for the manifest."""
        assert self._sealing is not None, "a unit's files are given to commit"
        return self._sealing.write(new)

    def commit(
        self,
        unit: Unit,
        files: Iterable[NewFile],
        record: Mapping[str, object] | Callable[[], Mapping[str, object]],
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
            content: dict[str, object] = {
                "unit": unit["unit"],
                "plan": self.plan.fingerprint,
                "files": [file.as_json() for file in stored],
            }
            content |= record() if callable(record) else record
            try:
                self._settle(aside, unit["unit"], content)
            except GoneError as error:
                aside.drop()
                self._end_if_published(stored, error)

    def _settle(self, aside: Aside, unit: int, content: Mapping[str, object]) -> None:
        """Make a unit's record, or find that it is there already with the same results."""
        path, data = self._record_path(unit), to_json(content)
        what = f"unit {unit} of {self.output}"
        for _ in range(TRIES):
            if aside.is_lost or not self._is_its_folder():
                break
            with storage_errors(path):
                make_folders(self.folder, path.parent)
            if aside.settle(path, data):
                sealed = read_manifest(self.folder)  # then this came too late, or a sealing was stopped
                if sealed is not None and (unlike := _unlike_files(stored_files(sealed), content)):
                    path.unlink(missing_ok=True)
                    _refuse_unlike(what, unlike, hint=self._how_to_seal_anew())
                try:
                    aside.name()
                except GoneError:  # a record without its files, perhaps in a folder that a later run has begun
                    self._discard(unit)
                    raise
                return
            try:
                there = self._read_record(path)
            except GoneError:
                continue
            except StorageError:
                self._discard(unit)
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

    def _end_if_published(self, files: list[Stored], error: GoneError) -> NoReturn:
        """End this run as done: its `.partial` went since the dataset was published, with the same files.

        Raises:
            StorageError: It was not, or other files were; `error` where the `.partial` is there.
        """
        while (place := self._place_of_whole()) == self.folder:
            with contextlib.suppress(GoneError):
                publish(self.output, overwrite=self.overwrite)
        manifest = place and read_manifest(place)
        if not manifest:
            raise error if self._is_its_folder() else self._gone()
        if unlike := _unlike_files(stored_files(manifest), {"files": [file.as_json() for file in files]}):
            _refuse_unlike(str(self.output), unlike)
        with contextlib.suppress(OSError):
            (self.output / UNITS).rmdir()  # made while the folder was being renamed
        raise PublishedError

    def _is_published(self) -> bool:
        """Whether the dataset is complete under its name since this run was begun."""
        return holds(self.output, self.plan) and inode(self.output) != self.found

    def log(self, event: Mapping[str, object]) -> None:
        """Append a line to `<output>.log.jsonl`, where times and places may stand."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event}, ensure_ascii=False)
        path = self.output.with_name(self.output.name + ".log.jsonl")
        with storage_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the units' completion records, in the units' order."""
        for unit in self.plan.units:
            yield self._read_record(self._record_path(unit["unit"]))

    def records_as(self, shape: type[Shape]) -> Iterator[Shape]:
        """Yield the units' completion records as a pipeline's own shape has them, in the units' order.

        Raises:
            StorageError: One has another shape.
        """
        for unit in self.plan.units:
            path = self._record_path(unit["unit"])
            yield as_shape(path, self._read_record(path), shape)

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
        for tries_left in reversed(range(TRIES)):
            if self.sealed or self._is_published():
                self.end()
                return True
            try:
                if not holds(self.folder, self.plan):
                    if not self._all_recorded() or self.left():
                        return False
                    self._complete(finish)
                publish(self.output, overwrite=self.overwrite)
                self.end()
            except GoneError:  # another process is a step ahead
                if not tries_left:
                    raise
        return self.sealed

    def _all_recorded(self) -> bool:
        """Whether no unit lacks its record, by their names alone; also where another process sealed it by now."""
        names = unit_names(self.folder)
        return (
            all(self._record_path(unit["unit"]).name in names for unit in self.plan.units)
            or holds(self.folder, self.plan)
            or self._is_published()
        )

    def _complete(self, finish: "Callable[[Staging], Finish]") -> None:
        """Write what a dataset holds besides its units' files."""
        with Aside(self.folder) as self._sealing:
            finished = finish(self)
            files: list[Stored] = []
            dropped: Counter[str] = Counter()
            for record in self.records():
                files += stored_files(record)
                dropped.update(record.get("dropped", {}))
            if dropped and not holds_rows(files):  # that nothing was found is a result
                self._refuse_empty(dropped, finished.hints)
            self._write_manifest(finished, files, dropped, self._sealing)

    def end(self) -> None:
        """Note that the dataset is published, and leave no lock behind."""
        self.sealed = True
        self._lock.remove()

    def _refuse_empty(self, dropped: "Counter[str]", hints: Mapping[str, str]) -> NoReturn:
        """Refuse to seal what holds nothing because of what was dropped."""
        why = "; ".join(f"{reason}: {count}" for reason, count in dropped.most_common())
        helps = hints.get(dropped.most_common(1)[0][0], "fix the input or the settings")
        if self._sealing is not None:
            self._sealing.name(only=DROPPED)
        listed = f"; {self.folder / DROPPED} lists them" if (self.folder / DROPPED).is_file() else ""
        self._lock.release()
        raise EmptyDatasetError(f"{self.output} would be empty: every record was dropped ({why})", hint=helps + listed)

    def _write_manifest(self, finish: Finish, files: list[Stored], dropped: Mapping[str, int], aside: Aside) -> None:
        metadata = {path: to_json(content) for path, content in sorted(finish.metadata.items())}
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
        self._settle_manifest(to_json(manifest), aside)
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
            if there != data:  # of a run elsewhere, whose lock need not be seen here, or of a sealing that was stopped
                found = differences(read_json(path), json.loads(data))
                raise StorageError(
                    f"two runs sealed {self.output} with different results: {'; '.join(found[:3])}",
                    hint=self._how_to_seal_anew(),
                )
        aside.name()

    def _how_to_seal_anew(self) -> str:
        return f"if no other run is at work on it, remove {self.folder / MANIFEST} and run the same command again"

    def _record_path(self, unit: int) -> Path:
        return self.folder / UNITS / f"{unit:06d}.json"


def _unlike_files(there: Iterable[Stored], record: Mapping[str, object]) -> list[str]:
    """Name the files of a record that are not the same there."""
    known = {file.path: file for file in there}
    return [file.path for file in stored_files(record) if known.get(file.path) != file]


def _compare(what: str, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    """Compare two records of one unit, apart from where it was made.

    Raises:
        StorageError: They tell of different results.
    """
    machines = [one.get("environment") for one in (there, here)]
    if unlike := _unlike_files(stored_files(there), here):
        _refuse_unlike(what, unlike, [one for one in machines if isinstance(one, dict)])
    if found := differences(_results(there), _results(here)):
        _refuse_unlike(what, found, [one for one in machines if isinstance(one, dict)])


def _results(record: Mapping[str, object]) -> dict[str, object]:
    results = {key: value for key, value in record.items() if key not in _MAY_DIFFER}
    if isinstance(metadata := results.get("metadata"), dict):
        results["metadata"] = _results(metadata)
    return results


def _refuse_unlike(
    what: str, unlike: list[str], machines: Iterable[Environment] = (), *, hint: str = _FIRST_STANDS
) -> NoReturn:
    reasons = "; ".join(unlike_parts(list(machines)))
    because = f"; they ran under {reasons}" if reasons else ""
    raise StorageError(
        f"two runs gave different results for {what}: {unlike[0]}"
        + (f" and {len(unlike) - 1} more" * (len(unlike) > 1)),
        hint=hint + because,
    )
