"""Reading what was sealed: a file that a manifest names is hashed as it is read, and has to be as it was written.

The manifest lies in the file's folder or in one above it, or above the file that a link leads to. What no manifest
names is read as it is.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from actlab.ground.errors import StorageError
from actlab.ground.hashes import FileState
from actlab.ground.limits import JSON_BYTES, read_at_most
from actlab.ground.log import log
from actlab.ground.manifest import (
    MANIFEST,
    METADATA,
    InputEntry,
    Manifest,
    Stored,
    as_object,
    file_entry,
    has_own_fingerprint,
    measured_entry,
    read_json,
    read_manifest,
    read_object,
    stored_files,
)
from actlab.ground.shapes import Shape, as_shape

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_BYTES = 1 << 20

_manifests: dict[Path, tuple[FileState, dict[str, Stored]]] = {}
"""By folder, the files that its manifest names: a dataset of 10,000 files has its manifest parsed once."""
_sound: dict[str, tuple[FileState, str]] = {}
"""Files that this process has hashed whole and found to be as written, so that none is hashed for each use of it."""
_told: set[Path] = set()
"""Datasets of which it was said that a file could not be checked."""
_says_sealed_by: dict[Path, bool] = {}
"""By folder, whether its metadata says that it was sealed."""
_is_off: ContextVar[bool] = ContextVar("_is_off", default=False)


class _Named(NamedTuple):
    """A file that a manifest names."""

    folder: Path
    """The dataset's, as its reader's path has it."""
    stored: Stored

    def compare(self, sha256: str) -> None:
        """Refuse other bytes than the manifest's.

        Raises:
            StorageError: They are.
        """
        if sha256 != self.stored.sha256:
            raise damage(self.folder, self.stored.path, "its bytes are not the ones that were written")


@contextmanager
def unchecked() -> Iterator[None]:
    """Read without comparing: for `verify`, which hashes every file itself and goes on where one is damaged."""
    token = _is_off.set(True)
    try:
        yield
    finally:
        _is_off.reset(token)


def read_sealed(path: Path, most: int | None = None) -> bytes:
    """Return a file's bytes, of which there may be a limit.

    Raises:
        StorageError: A manifest names the file, and these are not the bytes that were written.
        OSError: It cannot be read.
    """
    data = path.read_bytes() if most is None else read_at_most(path, most)
    named = _named(path)
    if named is not None:
        named.compare(hashlib.sha256(data).hexdigest())
    return data


def open_sealed(path: Path) -> BinaryIO:
    """Open a file that is read from its start on; what its reader leaves is hashed when the file is closed.

    So whoever stops early has to close it, and a generator that reads it, by `contextlib.closing`: what the garbage
    collector closes is read to its end then, and its damage becomes a message that nobody catches.

    Raises:
        StorageError: As `read_sealed`, at the end of the file, or when it is closed: before that, or while a parser's
            own error is on its way, which gives way to this one.
        OSError: It cannot be read.
    """
    named = _named(path)
    if named is None:
        return path.open("rb")
    return io.BufferedReader(_Hashing(path, named), _PIECE_BYTES)


def check_sealed(path: Path) -> None:
    """Hash a file that a library is about to map or to read by itself; once in a process, if nobody writes to it.

    Raises:
        StorageError: As `read_sealed`.
        OSError: A manifest names the file, and it cannot be read.
    """
    named = _named(path)
    if named is None:
        return
    if not path.exists():
        raise damage(named.folder, named.stored.path, "it is missing")
    with path.open("rb") as file:
        state = FileState.by(os.fstat(file.fileno()))
        if _sound.get(str(path.absolute())) == (state, named.stored.sha256):
            return
        named.compare(hashlib.file_digest(file, "sha256").hexdigest())
    _sound[str(path.absolute())] = state, named.stored.sha256


def input_entry(role: str, path: Path) -> InputEntry:
    """Return a plan's `file_entry`; a file that a manifest names is read for it, and has to be as it was written.

    Raises:
        StorageError: It is not.
    """
    named = _named(path)
    if named is None:
        return file_entry(role, path)
    entry = measured_entry(role, path)
    named.compare(str(entry["sha256"]))
    return entry


def is_sealed(path: Path) -> bool:
    """Whether a manifest names a file, so that its bytes are known."""
    return _named(path) is not None


def read_sealed_json(path: Path) -> Any:
    """Read a JSON file that actlab or its user wrote.

    Raises:
        StorageError: It is not there, not JSON, or not as it was written.
    """
    return read_json(path, lambda path: read_sealed(path, JSON_BYTES))


def read_sealed_object(path: Path, **shapes: type) -> dict[str, Any]:
    """Read a JSON file as `read_object` does.

    Raises:
        StorageError: As `read_object`, or it is not as it was written.
    """
    return as_object(path, read_sealed_json(path), **shapes)


def read_sealed_as(path: Path, shape: type[Shape]) -> Shape:
    """Read a JSON file as `as_shape` has it.

    Raises:
        StorageError: As `read_sealed_json`, or it has another shape.
    """
    return as_shape(path, read_sealed_json(path), shape)


def sealed_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder, or None where there is none.

    Raises:
        StorageError: It is none, or its fingerprint is not that of its settings and inputs.
    """
    manifest = read_manifest(folder)
    if manifest is not None and not _is_off.get():
        _refuse_other_fingerprint(folder, manifest)
    return manifest


def _refuse_other_fingerprint(folder: Path, manifest: Manifest) -> None:
    if not has_own_fingerprint(manifest):
        raise damage(folder, MANIFEST, "its fingerprint is not that of its settings and inputs")


def damage(folder: Path, path: str, what: str) -> StorageError:
    """Return the error that says what is wrong with a dataset's file."""
    return StorageError(
        f"{folder} is damaged: {path}: {what}", hint=f"actlab verify {folder} tells all; make it again with --overwrite"
    )


class _Hashing(io.RawIOBase):
    """A file's bytes, hashed on their way to the reader."""

    def __init__(self, path: Path, named: _Named) -> None:
        self._file = path.open("rb", buffering=0)
        self._named = named
        self._digest = hashlib.sha256()
        self._is_compared = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: "WriteableBuffer") -> int:
        n = self._file.readinto(buffer) or 0
        if n:
            self._digest.update(memoryview(buffer)[:n])
        else:
            self._compare()
        return n

    def close(self) -> None:
        if self.closed:
            return
        try:
            while not self._is_compared:
                self.readinto(bytearray(_PIECE_BYTES))
        finally:
            self._file.close()
            super().close()

    def _compare(self) -> None:
        if not self._is_compared:
            self._is_compared = True
            self._named.compare(self._digest.hexdigest())


def _named(path: Path) -> _Named | None:
    """Return a file's entry in the nearest manifest that has one; of a link's place first, then of the file's own."""
    if _is_off.get():
        return None
    real = Path(os.path.realpath(path))
    for given in (path, real) if real != path.absolute() else (path,):
        place = given.absolute()
        for folder in place.parents:
            stored = _files_of(folder).get(place.relative_to(folder).as_posix())
            if stored is not None:
                return _Named(_as_given(given, stored, folder), stored)
    _say_unchecked(path.absolute())
    return None


def _say_unchecked(place: Path) -> None:
    """Warn where a file lies in a sealed dataset whose manifest is gone or does not name it; of each dataset once."""
    if not place.is_file():
        return
    for folder in place.parents:
        if _files_of(folder):
            what = f"its manifest does not list {place.relative_to(folder).as_posix()}"
        elif not (folder / MANIFEST).exists() and _says_sealed(folder):
            what = "its manifest is missing"
        else:
            continue
        if folder not in _told:
            _told.add(folder)
            log.warning("%s was sealed, but %s: not checked", folder, what)
        return


def _says_sealed(folder: Path) -> bool:
    """Whether a folder's metadata has the fingerprint that a manifest would have."""
    if folder not in _says_sealed_by:
        try:
            _says_sealed_by[folder] = isinstance(read_object(folder / METADATA).get("fingerprint"), str)
        except (StorageError, OSError):
            _says_sealed_by[folder] = False
    return _says_sealed_by[folder]


def _as_given(path: Path, stored: Stored, folder: Path) -> Path:
    """Return a dataset's folder as the path of one of its files names it."""
    height = len(PurePosixPath(stored.path).parts)
    return path.parents[height - 1] if height < len(path.parts) else folder


def _was_sealed(folder: Path) -> bool:
    """Whether metadata of actlab's lies in a folder, or in one below it that has no manifest of its own."""
    below = [path.parent for path in folder.glob(f"*/{METADATA}") if not (path.parent / MANIFEST).exists()]
    return any(map(_says_sealed, [folder, *below]))


def _files_of(folder: Path) -> dict[str, Stored]:
    """Return the files that the manifest in a folder names, by their paths: none where it is no manifest of actlab's.

    Raises:
        StorageError: Its fingerprint is not that of its settings and inputs, or it is none beside metadata of
            actlab's.
        OSError: It cannot be read, beside such metadata.
    """
    try:
        state = FileState.by((folder / MANIFEST).stat())
    except OSError:
        return {}
    known = _manifests.get(folder)
    if known is not None and known[0] == state:
        return known[1]
    files: dict[str, Stored] = {}
    try:
        manifest = read_manifest(folder)
        files = {stored.path: stored for stored in stored_files(manifest)} if manifest is not None else {}
    except (StorageError, OSError):
        if _was_sealed(folder):
            raise
        manifest = None  # a browser extension's, say
    if manifest is not None:
        _refuse_other_fingerprint(folder, manifest)
    _manifests[folder] = state, files
    return files
