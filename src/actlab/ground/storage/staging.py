"""Units in, a sealed dataset out: the place where a dataset is made."""

import contextlib
import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from actlab.ground import manifest as manifests
from actlab.ground.errors import EmptyDatasetError, StorageError
from actlab.ground.manifest import DROPPED, MANIFEST, Stored
from actlab.ground.storage.files import (
    TEMPORARY,
    refuse_inside_dataset,
    remove_tree,
    storage_errors,
    sync_folder,
    write_file,
)
from actlab.ground.storage.lock import Lock
from actlab.ground.storage.plan import (
    PLAN,
    UNITS,
    Plan,
    differences_to,
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
_VERSIONS = ("versions", "acceptance ", "sae_lens_version ")
"""Keys of an identity by which one version of actlab tells its results from another's."""


class NewFile(NamedTuple):
    """A file that a unit or a seal writes."""

    path: str
    data: bytes | Callable[[BinaryIO], None]
    """Its bytes, or a function that writes them."""
    rows: int | None = None


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


class Staging:
    """A dataset in the making, or one that was found sealed."""

    def __init__(self, output: Path, plan: Plan, part: Part, lock: Lock, *, overwrite: bool) -> None:
        self.output = output
        self.folder = partial_of(output)
        self.plan = plan
        self.part = part
        self.sealed = False
        """Whether the dataset is complete and published."""
        self._lock = lock
        self._overwrite = overwrite

    def missing(self) -> list[dict[str, Any]]:
        """Return the units of this task's part that have no completion record."""
        return [unit for unit in self.left() if self.part.has(unit["unit"])]

    def left(self) -> list[dict[str, Any]]:
        """Return the units of any part that have no completion record."""
        if self.sealed or is_complete(self.folder):
            return []
        return [unit for unit in self.plan.units if not self._has(unit["unit"])]

    def _has(self, unit: int) -> bool:
        """Whether a unit has its record, and the files that the record names, whole."""
        path = self._record_path(unit)
        if not path.is_file():
            return False
        try:
            files = list(manifests.stored_files(manifests.read_json(path)))
        except (StorageError, KeyError, TypeError):
            return False
        damaged = manifests.damaged_files(self.folder, files)
        if damaged:
            log.warning("unit %d is done again: %s", unit, damaged[0])
        return not damaged

    def write(self, new: NewFile) -> Stored:
        """Write one file of the dataset and return its entry for the manifest."""
        path = self.folder / new.path
        write_file(path, new.data)
        if isinstance(new.data, bytes):
            return Stored(new.path, len(new.data), hashlib.sha256(new.data).hexdigest(), new.rows)
        return Stored(new.path, path.stat().st_size, manifests.sha256_of(path), new.rows)

    def commit(
        self, unit: dict[str, Any], files: Iterable[NewFile], record: dict[str, Any] | Callable[[], dict[str, Any]]
    ) -> None:
        """Write a unit's files, then the record that says that they are all there.

        `record` may be a function, called when the files are written: it can tell what came of making them.
        """
        stored = [self.write(new) for new in files]
        with storage_errors(self.folder):
            for parent in {(self.folder / file.path).parent for file in stored}:
                sync_folder(parent)
        path = self._record_path(unit["unit"])
        content = {"unit": unit["unit"], "files": [file.as_json() for file in stored]}
        content |= record() if callable(record) else record
        write_file(path, manifests.to_json(content))
        with storage_errors(path):
            sync_folder(path.parent)

    def log(self, event: dict[str, Any]) -> None:
        """Append a line to `<output>.log.jsonl`, where times and places may stand."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event}, ensure_ascii=False)
        path = self.output.with_name(self.output.name + ".log.jsonl")
        with storage_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the units' completion records, in the units' order."""
        for unit in self.plan.units:
            yield manifests.read_object(self._record_path(unit["unit"]))

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
            self.sealed = is_complete(self.output) and not self.folder.exists()
        if self.sealed:
            return True
        if self.left():
            return False
        if not is_complete(self.folder):
            finished = finish(self)
            self._refuse_empty(finished.hints)
            self._write_manifest(finished)
        publish(self.output, overwrite=self._overwrite)
        self._lock.remove()
        self.sealed = True
        return True

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
        listed = f"; {self.folder / DROPPED} lists them" if (self.folder / DROPPED).is_file() else ""
        self._lock.release()
        raise EmptyDatasetError(f"{self.output} would be empty: every record was dropped ({why})", hint=helps + listed)

    def _write_manifest(self, finish: Finish) -> None:
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
        write_file(self.folder / MANIFEST, manifests.to_json(manifest))
        for path, data in metadata.items():
            write_file(self.folder / path, data)
        with storage_errors(self.folder):
            for folder in {self.folder, *((self.folder / path).parent for path in metadata)}:
                sync_folder(folder)

    def _record_path(self, unit: int) -> Path:
        return self.folder / UNITS / f"{unit:06d}.json"


@contextmanager
def stage(output: Path, plan: Plan, *, part: Part, overwrite: bool = False, again: bool = False) -> Iterator[Staging]:
    """Open the place where a dataset is made: new, half made by an earlier run, or found complete.

    With `again` a complete one is made anew, as after a change that the plan does not know of.

    Raises:
        StorageError: There is one made with other settings, or another run is at work on it.
    """
    folder = partial_of(output)
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_output_lock(output))
        staging = Staging(output, plan, part, lock, overwrite=overwrite)
        in_the_making = again or folder.exists() or is_replaced(old_of(output))
        if not in_the_making and _is_done(output, plan, overwrite=overwrite):
            staging.sealed = True
            yield staging
            return
        if _join(lock, folder, part):
            _refuse_other_plan(folder, plan)
        else:
            recover(output)
            if not again and not _is_begun(folder) and _is_done(output, plan, overwrite=overwrite):
                if folder.exists():
                    with storage_errors(folder):
                        remove_tree(folder, last=PLAN)
                lock.remove()
                staging.sealed = True
                yield staging
                return
            _prepare(output, plan, overwrite=overwrite)
        if not part.is_whole:
            _share(lock, output)
            own = Lock(folder / f"part-{part.number}-of-{part.of}.lock")
            stack.enter_context(own)
            if not own.try_acquire():
                raise _busy(f"part {part} of {output} is at work already")
        yield staging


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
    if not lock.try_acquire():
        raise _busy(f"a run is at work on {output}")
    recover(output)
    if not folder.is_dir():
        lock.remove()
        return None
    plan = read_plan(folder) or plan_of_manifest(folder)
    if plan is None:
        raise StorageError(f"{folder} has no plan", hint="run the command that made it again")
    return Staging(output, plan, Part(), lock, overwrite=overwrite)


def refuse_others(output: Path, plan: Plan, *, overwrite: bool) -> None:
    """Refuse early what `stage` would refuse later: a dataset made with other settings or inputs.

    Raises:
        StorageError: There is one, finished or begun.
    """
    _is_done(output, plan, overwrite=overwrite)
    if not overwrite and _has_units(partial_of(output)):
        _refuse_other_plan(partial_of(output), plan)


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
        return not damaged
    if overwrite:
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
            with storage_errors(folder):
                remove_tree(folder, last=PLAN)
    _is_done(output, plan, overwrite=overwrite)
    if not (folder / PLAN).exists() and not is_complete(folder):
        described = {**plan.described(), "fingerprint": plan.fingerprint, "units": plan.units}
        write_file(folder / PLAN, manifests.to_json(described))
        with storage_errors(folder):
            sync_folder(folder)
            sync_folder(folder.parent)


def _is_begun(folder: Path) -> bool:
    """Whether a `.partial` has something that a dataset which is there lacks."""
    return _has_units(folder) or is_complete(folder)


def _has_units(folder: Path) -> bool:
    """Whether work would be lost with a `.partial`: of units whose records were all dropped, nothing would be."""
    has_any = any(map(_is_work, sorted((folder / UNITS).glob("*.json"))))
    return has_any or (folder.is_dir() and not (folder / PLAN).exists())


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
        if all(path.name.startswith(TEMPORARY) for path in folder.iterdir()):
            return  # stopped before its plan was written
        raise StorageError(f"{folder} has no plan", hint="move it away, or give --overwrite to discard it")
    if there is not None and there.fingerprint != plan.fingerprint:
        found = "; ".join(differences_to(there.described(), plan))
        raise StorageError(
            f"{folder} was begun with other settings or inputs: {found}",
            hint="finish it with its own settings, choose another --output, or give --overwrite to discard it",
        )
