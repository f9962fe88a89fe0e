"""Names, errors and files: the system's own calls, and what they can refuse."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from actlab.ground.errors import StorageError
from actlab.ground.manifest import MANIFEST
from actlab.ground.temporary import new_token, temporary_of

_GONE = (errno.ENOENT, errno.ESTALE)
"""What a system says of a file whose folder was renamed or removed; the second where the folder lies on a server."""

_TRIES = 100
"""How often a folder is removed in which others, who find out at their next step, still write."""


class GoneError(StorageError):
    """A folder or file is no longer there: somebody else finished with it, or removed it."""


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
        hint = hints.get(error.errno or 0, "fix it and rerun the command: finished units are kept")
        kind = GoneError if is_gone(error) else StorageError
        raise kind(f"cannot write {error.filename or path}: {error.strerror}", hint=hint) from error


def is_gone(error: OSError) -> bool:
    """Whether the system refused something because the place for it has gone."""
    return error.errno in _GONE


def make_folders(root: Path, folder: Path) -> None:
    """Make the folders from `root`, which has to be there and is never made, down to `folder`."""
    for one in reversed([folder, *folder.parents][: len(folder.relative_to(root).parts)]):
        try:
            one.mkdir()
        except FileExistsError:
            if not one.is_dir():
                kind = errno.EEXIST if one.exists() else errno.ENOENT  # the second: renamed since
                raise OSError(kind, os.strerror(kind), str(one)) from None


def refuse_inside_dataset(path: Path) -> None:
    """Refuse to write into a sealed dataset, whose manifest names all that it holds.

    Raises:
        StorageError: A folder above `path` is one.
    """
    for folder in path.resolve().parents:
        if (folder / MANIFEST).is_file():
            raise StorageError(f"{path} lies inside the dataset {folder}", hint="choose a place outside it")


def write_file(path: Path, data: bytes | Callable[[BinaryIO], None], *, makes_folder: bool = True) -> None:
    """Write a file so that its name never stands on half of it; `data` may be what writes it.

    Raises:
        GoneError: The folder is not there, and `makes_folder` is False.
        StorageError: The system refuses it.
    """
    temporary = temporary_of(path, new_token())
    with storage_errors(path):
        if makes_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write_through(file, data)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def write_through(file: BinaryIO, data: bytes | Callable[[BinaryIO], None]) -> None:
    """Write bytes, or have them written, down to the disk."""
    if callable(data):
        data(file)
    else:
        file.write(data)
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path, *, last: str) -> None:
    """Remove a folder so that the file which says what it is goes last; others may write or remove in it too."""

    def remove() -> None:
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                remove_folder(path)
            elif path.name != last:
                path.unlink(missing_ok=True)
        (folder / last).unlink(missing_ok=True)
        folder.rmdir()

    _until_gone(folder, remove)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that it holds; others may write or remove in it too."""
    _until_gone(folder, lambda: shutil.rmtree(folder))


def _until_gone(folder: Path, remove: Callable[[], None]) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            if not folder.is_dir():
                return
            remove()
        except OSError as error:  # somebody was faster with one of its files, or has just written one
            if not tries_left or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
