"""Give a complete `.partial` the dataset's name, an old dataset aside until then.

Several processes may do so at once, each stopped or delayed at any step: what another did already is passed over.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.manifest import MANIFEST
from actlab.ground.storage.files import GoneError, remove_folder, remove_tree, storage_errors, sync_folder
from actlab.ground.storage.own_files import REPLACED, is_lock, refuse_foreign, refuse_foreign_partial, remove_replaced
from actlab.ground.storage.plan import PLAN, UNITS, is_complete, partial_of
from actlab.ground.temporary import TEMPORARY

_IS_THERE = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
"""What a rename says when another process did it."""


def publish(output: Path, *, overwrite: bool) -> None:
    """Clean up a complete `.partial` and give it the dataset's name, the old dataset aside until then.

    One that another process has published already, with the same manifest, is taken away.

    Raises:
        GoneError: It is not there, or not complete: another process published it.
        StorageError: Something else is in the way, or lies in the old dataset's folder and is not actlab's.
    """
    folder, old = partial_of(output), old_of(output)
    with storage_errors(output):
        is_taken = output.exists() and any(output.iterdir()) and folder.is_dir()  # last: else it is the new one
        if is_taken and not overwrite and _is_same(folder, output):
            refuse_foreign_partial(folder)
            remove_tree(folder, last=MANIFEST)  # another process published it while this one, late, made it again
            return
        if is_taken and not overwrite:
            raise StorageError(f"{output} exists already", hint="give --overwrite to replace it")
        if is_taken and old.exists() and not is_replaced(old):
            raise StorageError(f"{old} is in the way", hint="move it: the old dataset would go there")
        if is_taken:
            refuse_foreign(output)
        if not is_complete(folder):
            raise GoneError(f"{folder} is not there, or not complete", hint="run the same command again")
        _clean(folder)
        sync_folder(folder)
        if is_taken and not old.exists():
            _move_away(output, folder, old)
        _rename(folder, output)
        _clean(output)  # of what a late process put there since
        sync_folder(output.parent)
        if is_replaced(old):
            remove_replaced(old)


def _rename(folder: Path, output: Path) -> None:
    """Give the folder the dataset's name.

    Raises:
        GoneError: Another process published it, and a later one has begun a new one in its place.
    """
    try:
        os.rename(folder, output)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise GoneError(f"{output} is there already", hint="run the same command again") from error


def _is_same(folder: Path, output: Path) -> bool:
    """Whether a `.partial` and a dataset have the same manifest, and so the same files."""
    try:
        return (folder / MANIFEST).read_bytes() == (output / MANIFEST).read_bytes()
    except FileNotFoundError:
        return False


def _clean(folder: Path) -> None:
    """Remove what the making left: the plan, the records, temporary files, locks."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if name.startswith(TEMPORARY) or (name.endswith(".lock") and Path(parent) == folder and is_lock(path)):
                path.unlink(missing_ok=True)
    (folder / PLAN).unlink(missing_ok=True)
    remove_folder(folder / UNITS)


def _move_away(output: Path, folder: Path, old: Path) -> None:
    """Mark an old dataset and move it away, never what another process published in its place meanwhile."""
    with _passed_over():
        descriptor = os.open(output, os.O_RDONLY)
        try:
            if not folder.is_dir():
                return  # it is the new one
            os.close(os.open(REPLACED, os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=descriptor))
            judged = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if os.path.samestat(judged, output.stat()):
            os.rename(output, old)
            if not os.path.samestat(judged, old.stat()):
                os.rename(old, output)


def recover(output: Path) -> None:
    """Finish a swap that was interrupted between its two renames."""
    folder, old = partial_of(output), old_of(output)
    if not is_replaced(old):
        return
    with storage_errors(output):
        if not output.exists():
            with _passed_over():
                os.rename(folder if is_complete(folder) else old, output)
            (output / REPLACED).unlink(missing_ok=True)
        if old.exists():
            remove_replaced(old)


@contextlib.contextmanager
def _passed_over() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _IS_THERE:
            raise


def is_replaced(old: Path) -> bool:
    """Whether a folder is an old dataset that is being replaced, and so may be deleted."""
    try:
        return old.is_dir() and ((old / REPLACED).exists() or not any(old.iterdir()))
    except FileNotFoundError:
        return False


def old_of(output: Path) -> Path:
    """Return where an old dataset waits while it is being replaced."""
    return output.with_name(output.name + ".old")
