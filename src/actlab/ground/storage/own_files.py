"""Whose files lie in a dataset's folder: actlab deletes what its manifest or its records name, and nothing else."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from actlab.ground.errors import StorageError
from actlab.ground.log import log
from actlab.ground.manifest import DROPPED, MANIFEST, read_manifest, read_object, stored_files
from actlab.ground.storage.plan import PLAN, UNITS, inode
from actlab.ground.temporary import TEMPORARY

REPLACED = ".replaced"
"""A mark inside an old dataset that is being replaced: only what carries it is ever deleted."""
_TEMPORARY = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{8}-.+")
_OF_THE_SYSTEM = re.compile(r"\.nfs[0-9a-f]+|\.DS_Store")
"""What NFS keeps of a deleted file that is open somewhere, and what macOS keeps of a folder's looks."""
_MOST_NAMED = 3
_LOOKS = 10
"""How often a dataset is looked at again that another process replaced meanwhile."""


def refuse_foreign(output: Path) -> None:
    """Refuse to replace a dataset in whose folder lies what its manifest does not name.

    Raises:
        StorageError: Something does: files, hidden ones too, folders, links.
    """
    for _ in range(_LOOKS):
        before = inode(output)
        found = list(_foreign(output, _named_by_manifest(output))) if output.is_dir() else []
        if inode(output) == before:
            break  # else another process put a new dataset in its place meanwhile
    _refuse(output, found, "run the same command again")


def refuse_foreign_partial(folder: Path) -> None:
    """Refuse to discard a `.partial` in which lies what no run wrote, as far as its records tell.

    Raises:
        StorageError: Something does.
    """
    if folder.is_dir():
        locks = {lock.name for lock in folder.glob("*.lock") if is_lock(lock)}
        own = _named_by_manifest(folder) | _recorded(folder) | {PLAN, DROPPED} | locks
        _refuse(folder, _foreign(folder, own, whole=UNITS), "run the same command again, or remove the folder yourself")


def _refuse(folder: Path, foreign: Iterable[str], then: str) -> None:
    found = sorted(foreign)
    if found:
        named = ", ".join(found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise StorageError(
            f"{folder} holds what actlab did not write there: {named}{more}",
            hint=f"move it away, then {then}: --overwrite deletes actlab's own files alone",
        )


def _foreign(folder: Path, own: set[str], *, whole: str = "") -> Iterator[str]:
    """Yield what lies in a folder and is not actlab's; a folder without anything of actlab's as one, with a slash.

    Links are not followed. In a `.partial`, `whole` is a folder that is actlab's with all it holds, and folders that
    hold nothing but temporary files are a killed run's.
    """
    parents = {str(parent) for path in own for parent in PurePosixPath(path).parents}
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in list(folders):
            path = (inside / name).as_posix()
            is_own = path == whole or (path in parents and not (folder / path).is_symlink())
            is_own = is_own or bool(whole and _is_without_files(folder / path))
            if path == whole or not is_own:
                folders.remove(name)
            if not is_own:
                yield path + "/"
        for name in files:
            path = (inside / name).as_posix()
            if path not in own and not _is_nobodys(name, is_top=inside == Path()):
                yield path


def is_lock(path: Path) -> bool:
    """Whether a file by a lock's name is one of actlab's, which are empty; it may go meanwhile."""
    try:
        return path.is_file() and not path.stat().st_size
    except FileNotFoundError:
        return True


def _is_without_files(folder: Path) -> bool:
    return not folder.is_symlink() and all(
        (path.is_dir() and not path.is_symlink()) or _TEMPORARY.fullmatch(path.name) for path in folder.rglob("*")
    )


def _is_nobodys(name: str, *, is_top: bool) -> bool:
    """Whether a file that no manifest names is nobody's work: left by a stop, or the system's."""
    is_ours = is_top and name in (MANIFEST, REPLACED)
    return is_ours or bool(_TEMPORARY.fullmatch(name) or _OF_THE_SYSTEM.fullmatch(name))


def _named_by_manifest(folder: Path) -> set[str]:
    try:
        manifest = read_manifest(folder)
        return set() if manifest is None else {stored.path for stored in stored_files(manifest)}
    except StorageError:
        return set()


def _recorded(folder: Path) -> set[str]:
    """Return the files that the units' records name."""
    found: set[str] = set()
    for record in (folder / UNITS).glob("*.json"):
        with contextlib.suppress(StorageError):
            found |= {stored.path for stored in stored_files(read_object(record))}
    return found


def remove_replaced(old: Path) -> None:
    """Remove an old dataset that carries the mark; what is not actlab's stays, and is named.

    The mark goes last, so that a removal which was stopped goes on. Others may be removing it too.
    """
    own = _named_by_manifest(old)
    parents = {str(parent) for path in own for parent in PurePosixPath(path).parents if parent.parts}
    for path in sorted(own):
        with contextlib.suppress(NotADirectoryError, IsADirectoryError):  # somebody put one in the place of the other
            (old / path).unlink(missing_ok=True)
    for path in sorted(parents, reverse=True):
        with contextlib.suppress(OSError):
            (old / path).rmdir()
    with contextlib.suppress(FileNotFoundError):
        for one in list(old.iterdir()):
            if one.is_file() and one.name not in (MANIFEST, REPLACED) and _is_nobodys(one.name, is_top=True):
                one.unlink(missing_ok=True)
    for name in (MANIFEST, REPLACED):
        (old / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        old.rmdir()
    if old.exists():
        log.warning("%s stays: it holds what actlab did not write there", old)
