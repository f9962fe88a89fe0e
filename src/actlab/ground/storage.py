"""How a dataset comes to lie on disk: planned, worked unit by unit, sealed, published by one rename.

While it is made, everything lies in `<output>.partial`:

    plan.json            what is to be done: settings, inputs, units
    units/000017.json    the completion record of unit 17: its files, what it dropped
    …                    the units' files, each written under a temporary name, flushed, renamed

Sealing writes `manifest.json`, then every `metadata.json`, then removes plan, records and temporary files
and renames the folder. A folder whose manifest names a metadata file that is there is complete.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from actlab.ground import manifest as manifests
from actlab.ground.errors import ConfigError, StorageError
from actlab.ground.manifest import MANIFEST, METADATA, Stored
from actlab.ground.units import Part

log = logging.getLogger("actlab")

FORMAT_VERSION = 1
_PLAN = "plan.json"
_UNITS = "units"
_TEMPORARY = ".tmp-"
_REPLACED = ".replaced"
"""A mark inside an old dataset that is being replaced: only what carries it is ever deleted."""
_LOCK_WAIT_S = 20.0


@dataclass(frozen=True)
class Plan:
    """All that is known about a dataset before the work starts. Every value is JSON."""

    kind: str
    """Which pipeline made it, and so who can show, verify and seal it."""
    identity: dict[str, Any]
    """The settings that change the data, and what they came to for these inputs."""
    inputs: list[dict[str, Any]]
    """Name, bytes and sha256 of every file that is read."""
    units: list[dict[str, Any]] = field(default_factory=list)
    """The closed list of units, in order."""

    @property
    def fingerprint(self) -> str:
        """The sha256 of what decides the dataset's bytes."""
        return manifests.fingerprint(self.described())

    def described(self) -> dict[str, Any]:
        """Return the part of the plan that the manifest keeps."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "identity": json.loads(json.dumps(self.identity)),
            "inputs": self.inputs,
        }


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


def safe_name(name: str, what: str) -> str:
    """Return a name that may be one folder's name, and no more.

    Raises:
        ConfigError: It is empty, has a separator, or is one of the dots.
    """
    if not name or name.startswith(".") or set(name) & set('/\\:\0\n*?"<>|') or len(name) > 200:
        raise ConfigError(
            f"{name!r} cannot be the name of a {what}",
            hint="a name is one folder: no /, \\, : or leading dot",
        )
    if not name.isprintable() or any("\ud800" <= char <= "\udfff" for char in name):
        raise ConfigError(f"{name!a} cannot be the name of a {what}", hint="rename it in printable Unicode")
    if name.endswith((".partial", ".old", ".lock")):
        raise ConfigError(f"{name!r} cannot be the name of a {what}", hint="actlab uses that ending itself")
    return name


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Say what the operating system refused, and what to do about it."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space, then run the same command again: finished units are kept",
            errno.EDQUOT: "your quota is used up; free some space, then run the same command again",
            errno.EFBIG: "a file-size limit is set; raise it (ulimit -f), then run the same command again",
            errno.EROFS: "the file system is read-only; choose another --output",
            errno.EACCES: "you may not write there; choose another --output",
            errno.EPERM: "you may not write there; choose another --output",
            errno.ENOTDIR: "a file stands where a folder is needed; choose another --output",
            errno.EEXIST: "a file stands where a folder is needed; choose another --output",
        }
        hint = hints.get(error.errno or 0, "mend that, then run the same command again: finished units are kept")
        raise StorageError(f"cannot write {error.filename or path}: {error.strerror}", hint=hint) from error


def write_file(path: Path, data: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that its name never stands on half of it; `data` may be what writes it."""
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                if callable(data):
                    data(file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a sealed dataset, or one whose sealing lacks only the cleaning up."""
    manifest = manifests.read_manifest(folder)
    if manifest is None:
        return False
    metadata = [file.path for file in manifests.stored_files(manifest) if Path(file.path).name == METADATA]
    return bool(metadata) and all((folder / path).is_file() for path in metadata)


def partial_of(output: Path) -> Path:
    """Return the folder in which a dataset is made."""
    return output.with_name(output.name + ".partial")


def output_of(path: Path) -> Path:
    """Return the dataset's folder, named by itself or by its `.partial`.

    Raises:
        StorageError: The path has no name that a dataset could have.
    """
    path = path if path.name not in ("", "..") else path.resolve()
    name = path.name.removesuffix(".partial")
    if not name:
        raise StorageError(f"{path} is no dataset", hint="name a dataset's folder or its .partial")
    return path.with_name(name)


class Lock:
    """An advisory lock on a file: held by one (exclusive) or by several that agree (shared)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change the kind that is held, and say whether it is held now."""
        with storage_errors(self.path):
            while True:
                if self._descriptor is None:
                    self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.release()
                    return False
                except OSError as error:
                    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                        raise
                    log.warning("no file locks here (%s): see to it that no two runs write here", self.path.parent)
                    return True
                if self._is_the_file_by_that_name():
                    return True
                self.release()  # its last holder removed it between our open and our lock

    def _is_the_file_by_that_name(self) -> bool:
        assert self._descriptor is not None
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the file while the lock is held, and give the lock back."""
        self.path.unlink(missing_ok=True)
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.release()


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

    def commit(self, unit: dict[str, Any], files: Iterable[NewFile], record: dict[str, Any]) -> None:
        """Write a unit's files, then the record that says that they are all there."""
        stored = [self.write(new) for new in files]
        with storage_errors(self.folder):
            for parent in {(self.folder / file.path).parent for file in stored}:
                _sync_folder(parent)
        path = self._record_path(unit["unit"])
        content = {"unit": unit["unit"], "files": [file.as_json() for file in stored], **record}
        write_file(path, manifests.to_json(content))
        with storage_errors(path):
            _sync_folder(path.parent)

    def log(self, event: dict[str, Any]) -> None:
        """Append a line to `<output>.log.jsonl`, where times and places may stand."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event}, ensure_ascii=False)
        path = self.output.with_name(self.output.name + ".log.jsonl")
        with storage_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the units' completion records, in the units' order."""
        for unit in self.plan.units:
            yield manifests.read_json(self._record_path(unit["unit"]))

    def seal(self, finish: "Callable[[Staging], Finish]") -> bool:
        """Publish the dataset if every unit is there and nobody else is at work on it.

        Returns:
            Whether it is published now.
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
            self._write_manifest(finish(self))
        publish(self.output, overwrite=self._overwrite)
        self._lock.remove()
        self.sealed = True
        return True

    def _write_manifest(self, finish: Finish) -> None:
        dropped: dict[str, int] = {}
        files: list[Stored] = []
        for record in self.records():
            files += [Stored(**entry) for entry in record["files"]]
            for reason, count in record.get("dropped", {}).items():
                dropped[reason] = dropped.get(reason, 0) + count
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
                _sync_folder(folder)

    def _record_path(self, unit: int) -> Path:
        return self.folder / _UNITS / f"{unit:06d}.json"


@contextmanager
def stage(output: Path, plan: Plan, *, part: Part, overwrite: bool = False) -> Iterator[Staging]:
    """Open the place where a dataset is made: new, half made by an earlier run, or found complete.

    Raises:
        StorageError: There is one made with other settings, or another run is at work on it.
    """
    folder = partial_of(output)
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_output_lock(output))
        staging = Staging(output, plan, part, lock, overwrite=overwrite)
        in_the_making = folder.exists() or _is_replaced(_old_of(output))
        if not in_the_making and _is_done(output, plan, overwrite=overwrite):
            staging.sealed = True
            yield staging
            return
        if _join(lock, folder, part):
            _refuse_other_plan(folder, plan)
        else:
            _recover(output)
            if not folder.exists() and _is_done(output, plan, overwrite=overwrite):
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


def _join(lock: Lock, folder: Path, part: Part) -> bool:
    """Take the output's lock: alone (False), or with other parts that are at work on a plan (True)."""
    deadline = time.monotonic() + (0.0 if part.is_whole else _LOCK_WAIT_S)
    while True:
        if lock.try_acquire():
            return False
        if not part.is_whole and lock.try_acquire(shared=True) and (folder / _PLAN).is_file():
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


def reopen(path: Path, *, overwrite: bool = False) -> Staging | None:
    """Open a `.partial` again by its own plan, alone, to seal it; None where the dataset is sealed.

    `path` is the dataset's folder or its `.partial`.

    Raises:
        StorageError: There is neither, or somebody is at work on it.
    """
    output = output_of(path)
    folder = partial_of(output)
    if not folder.is_dir() and not _old_of(output).is_dir():
        if is_complete(output):
            return None
        raise StorageError(f"{path} is no dataset in the making", hint="name a dataset's folder or its .partial")
    lock = _output_lock(output)
    if not lock.try_acquire():
        raise _busy(f"a run is at work on {output}")
    _recover(output)
    if not folder.is_dir():
        lock.remove()
        return None
    plan = read_plan(folder) or _plan_of_manifest(folder)
    if plan is None:
        raise StorageError(f"{folder} has no plan", hint="run the command that made it again")
    return Staging(output, plan, Part(), lock, overwrite=overwrite)


def publish(output: Path, *, overwrite: bool) -> None:
    """Clean up a complete `.partial` and give it the dataset's name, the old dataset aside until then."""
    folder, old = partial_of(output), _old_of(output)
    with storage_errors(output):
        is_taken = output.exists() and any(output.iterdir())
        if is_taken and not overwrite:
            raise StorageError(f"{output} exists already", hint="give --overwrite to replace it")
        if is_taken and old.exists():
            raise StorageError(f"{old} is in the way", hint="move it: the old dataset would go there")
        for path in list(folder.rglob(_TEMPORARY + "*")) + list(folder.glob("*.lock")):
            path.unlink()
        if (folder / _UNITS).is_dir():
            shutil.rmtree(folder / _UNITS)
        (folder / _PLAN).unlink(missing_ok=True)
        _sync_folder(folder)
        if is_taken:
            (output / _REPLACED).touch()
            os.rename(output, old)
        os.rename(folder, output)
        _sync_folder(output.parent)
        if _is_replaced(old):
            _remove_tree(old, last=_REPLACED)


def refuse_others(output: Path, plan: Plan, *, overwrite: bool) -> None:
    """Refuse early what `stage` would refuse later: a dataset made with other settings or inputs.

    Raises:
        StorageError: There is one, finished or begun.
    """
    _is_done(output, plan, overwrite=overwrite)
    if not overwrite and _has_units(partial_of(output)):
        _refuse_other_plan(partial_of(output), plan)


def _old_of(output: Path) -> Path:
    return output.with_name(output.name + ".old")


def _output_lock(output: Path) -> Lock:
    return Lock(output.with_name(output.name + ".partial.lock"))


def _is_done(output: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether the dataset is there with the same settings and inputs. With others it is refused."""
    if output.is_symlink():
        raise StorageError(f"{output} is a symbolic link", hint="choose an --output without one")
    if output.exists() and not output.is_dir():
        raise StorageError(f"{output} is a file", hint="choose another --output")
    if not output.exists() or not any(output.iterdir()):
        return False
    old = _old_of(output)
    if old.exists() and not _is_replaced(old) and overwrite:
        raise StorageError(f"{old} is in the way", hint="move it: the old dataset would go there")
    if overwrite and not (output / MANIFEST).is_file():
        return False
    manifest = manifests.read_manifest(output)
    if manifest is not None and manifest["fingerprint"] == plan.fingerprint and is_complete(output):
        damaged = manifests.damaged_files(output, list(manifests.stored_files(manifest)))
        if damaged and not overwrite:
            raise StorageError(
                f"{output} is damaged: {damaged[0]}", hint="actlab verify tells all; give --overwrite to make it again"
            )
        return not damaged
    if overwrite:
        return False
    if manifest is None:
        why = "was not made by actlab, or is incomplete"
    else:
        found = differences_to(manifest, plan)
        why = "was made with other settings or inputs: " + "; ".join(found)
    raise StorageError(f"{output} {why}", hint="choose another --output, or give --overwrite to replace it")


def differences_to(there: dict[str, Any], plan: Plan, *, most: int = 3) -> list[str]:
    """Name what differs between a manifest or plan on disk and a plan, the first few only."""
    here = plan.described()
    found = manifests.differences({key: there.get(key) for key in here}, here)
    found = [one.removeprefix("identity.") for one in found]
    return found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else [])


def _recover(output: Path) -> None:
    """Finish a swap that was interrupted between its two renames."""
    folder, old = partial_of(output), _old_of(output)
    if not _is_replaced(old):
        return
    with storage_errors(output):
        if not output.exists():
            os.rename(folder if is_complete(folder) else old, output)
            (output / _REPLACED).unlink(missing_ok=True)
        if old.exists():
            _remove_tree(old, last=_REPLACED)


def _is_replaced(old: Path) -> bool:
    return old.is_dir() and ((old / _REPLACED).exists() or not any(old.iterdir()))


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
                _remove_tree(folder, last=_PLAN)
    _is_done(output, plan, overwrite=overwrite)
    if not (folder / _PLAN).exists() and not is_complete(folder):
        described = {**plan.described(), "fingerprint": plan.fingerprint, "units": plan.units}
        write_file(folder / _PLAN, manifests.to_json(described))
        with storage_errors(folder):
            _sync_folder(folder)
            _sync_folder(folder.parent)


def _has_units(folder: Path) -> bool:
    """Whether work would be lost with a `.partial`: without a finished unit, other settings may replace it."""
    return any((folder / _UNITS).glob("*.json")) or (folder.is_dir() and not (folder / _PLAN).exists())


def _refuse_other_plan(folder: Path, plan: Plan) -> None:
    there = read_plan(folder) or _plan_of_manifest(folder)
    if there is None and folder.is_dir():
        if all(path.name.startswith(_TEMPORARY) for path in folder.iterdir()):
            return  # stopped before its plan was written
        raise StorageError(f"{folder} has no plan", hint="move it away, or give --overwrite to discard it")
    if there is not None and there.fingerprint != plan.fingerprint:
        found = "; ".join(differences_to(there.described(), plan))
        raise StorageError(
            f"{folder} was begun with other settings or inputs: {found}",
            hint="finish it with its own settings, choose another --output, or give --overwrite to discard it",
        )


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a `.partial`, or None where it has none.

    Raises:
        StorageError: It was edited or damaged.
    """
    if not (folder / _PLAN).is_file():
        return None
    content = manifests.read_json(folder / _PLAN)
    try:
        plan = Plan(content["kind"], content["identity"], content["inputs"], content["units"])
        if plan.fingerprint == content["fingerprint"] and all(isinstance(unit["unit"], int) for unit in plan.units):
            return plan
    except (KeyError, TypeError):
        pass
    raise StorageError(
        f"{folder / _PLAN} is not what actlab wrote", hint="it was edited or damaged: give --overwrite to discard it"
    )


def _plan_of_manifest(folder: Path) -> Plan | None:
    """Return the plan of a folder that was stopped while its sealing cleaned up."""
    if not is_complete(folder):
        return None
    content = manifests.read_manifest(folder)
    assert content is not None
    return Plan(content["kind"], content["identity"], content["inputs"])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_tree(folder: Path, *, last: str) -> None:
    """Remove a folder so that the file which says what it is goes last."""
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != last:
            path.unlink()
    (folder / last).unlink(missing_ok=True)
    folder.rmdir()
