"""Hashes of files: taken from the bytes, or remembered for a file that nobody has touched since.

A remembered hash saves reading gigabytes again only to name them in a plan. It says what a file's bytes were when
they were last read here, by the file's state (size, times, inode, device). So it serves planning alone: whatever
asks whether bytes are whole, as verify does, reads them.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from actlab.ground.cache import cache_folder
from actlab.ground.temporary import TEMPORARY, new_token, temporary_of

_FOLDER = "hashes"
_SMALLEST_BYTES = 1 << 20
"""Smaller files are read in about the time that looking them up takes."""
_SETTLED_NS = 2_000_000_000
"""A file written to within the tick of its file system's clock keeps its times, as in git's "racy" index entries; the
coarsest tick, FAT's, is two seconds. So a hash is remembered only of a file that was older when its reading began."""
_MOST_ENTRIES = 4096


class FileState(NamedTuple):
    """What changes when a file does. ctime is set by the system alone, so putting mtime back hides nothing."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def by(cls, status: os.stat_result) -> "FileState":
        """Return the state in what `stat` says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


class Hashed(NamedTuple):
    """A file's sha256, and its state when its bytes had it."""

    state: FileState
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in bounded pieces."""
    return measured_hash(path).sha256


def remembered_hash(path: Path) -> Hashed:
    """Return a file's sha256 for a plan, and the state that it goes with.

    A cache that cannot be read or written, or is damaged, costs a reading of the file and nothing else.
    """
    now, state = time.time_ns(), FileState.by(path.stat())
    entry = _entry(path, state) if state.size >= _SMALLEST_BYTES else None
    if entry is not None and (known := _recall(entry)):
        return Hashed(state, known)
    hashed = measured_hash(path)
    is_settled = max(state.mtime_ns, state.ctime_ns) < now - _SETTLED_NS
    if entry is not None and is_settled and state == hashed.state == FileState.by(path.stat()):
        _remember(entry, hashed.sha256)
    return hashed


def measured_hash(path: Path) -> Hashed:
    """Return a file's sha256, taken from its bytes now, and the state in which its reading began."""
    with path.open("rb") as file:
        state = FileState.by(os.fstat(file.fileno()))
        return Hashed(state, hashlib.file_digest(file, "sha256").hexdigest())


def is_unchanged(path: Path, hashed: Hashed) -> bool:
    """Whether a file is the one that was hashed: in the same state, or else with the same bytes."""
    try:
        return FileState.by(path.stat()) == hashed.state or sha256_of(path) == hashed.sha256
    except OSError:
        return False


def _entry(path: Path, state: FileState) -> Path | None:
    """Return where a file's hash is remembered; None without a cache folder."""
    try:
        key = repr((os.fspath(path.resolve()), *state))
        return cache_folder() / _FOLDER / hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    except (OSError, RuntimeError):  # no home, or links that lead in a circle
        return None


def _line(entry: Path, sha256: str) -> bytes:
    """Return an entry's content: the hash, and a check of it against damage to the entry itself."""
    return f"{sha256} {hashlib.sha256(f'{entry.name} {sha256}'.encode()).hexdigest()}\n".encode()


def _recall(entry: Path) -> str | None:
    try:
        with entry.open("rb") as file:
            line = file.read(256)
    except OSError:
        return None
    sha256 = line[:64].decode("ascii", "replace")
    return sha256 if line == _line(entry, sha256) else None


def _remember(entry: Path, sha256: str) -> None:
    """Write an entry under its name at once, so that processes can share the folder without a lock."""
    temporary = temporary_of(entry, new_token())
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(_line(entry, sha256))
            os.replace(temporary, entry)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _prune(entry.parent)


def _prune(folder: Path) -> None:
    """Forget the older half once there are too many."""
    there = list(_own(folder))
    if len(there) > _MOST_ENTRIES:
        for one in sorted(there, key=lambda one: one.stat().st_mtime_ns)[: len(there) - _MOST_ENTRIES // 2]:
            Path(one).unlink(missing_ok=True)


def _own(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries, and what killed processes left of them."""
    with os.scandir(folder) as there:
        for one in there:
            if one.name.startswith(TEMPORARY) or (len(one.name) == 64 and set(one.name) <= set("0123456789abcdef")):
                yield one
