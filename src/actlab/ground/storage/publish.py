"""Give a complete `.partial` the dataset's name, an old dataset aside until then."""

import os
import shutil
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.storage.files import TEMPORARY, storage_errors, sync_folder
from actlab.ground.storage.own_files import NOTES, refuse_foreign, remove_replaced
from actlab.ground.storage.own_files import REPLACED as _REPLACED
from actlab.ground.storage.plan import PLAN, UNITS, is_complete, partial_of


def publish(output: Path, *, overwrite: bool) -> None:
    """Clean up a complete `.partial` and give it the dataset's name, the old dataset aside until then.

    Raises:
        StorageError: Something is in the way, or lies in the old dataset's folder and is not actlab's.
    """
    folder, old = partial_of(output), old_of(output)
    with storage_errors(output):
        is_taken = output.exists() and any(output.iterdir())
        if is_taken and not overwrite:
            raise StorageError(f"{output} exists already", hint="give --overwrite to replace it")
        if is_taken and old.exists():
            raise StorageError(f"{old} is in the way", hint="move it: the old dataset would go there")
        if is_taken:
            refuse_foreign(output)
        for path in [*folder.rglob(TEMPORARY + "*"), *folder.glob("*.lock"), *folder.glob(NOTES + "*")]:
            path.unlink()
        if (folder / UNITS).is_dir():
            shutil.rmtree(folder / UNITS)
        (folder / PLAN).unlink(missing_ok=True)
        sync_folder(folder)
        if is_taken:
            (output / _REPLACED).touch()
            os.rename(output, old)
        os.rename(folder, output)
        sync_folder(output.parent)
        if is_replaced(old):
            remove_replaced(old)


def recover(output: Path) -> None:
    """Finish a swap that was interrupted between its two renames."""
    folder, old = partial_of(output), old_of(output)
    if not is_replaced(old):
        return
    with storage_errors(output):
        if not output.exists():
            os.rename(folder if is_complete(folder) else old, output)
            (output / _REPLACED).unlink(missing_ok=True)
        if old.exists():
            remove_replaced(old)


def is_replaced(old: Path) -> bool:
    """Whether a folder is an old dataset that is being replaced, and so may be deleted."""
    return old.is_dir() and ((old / _REPLACED).exists() or not any(old.iterdir()))


def old_of(output: Path) -> Path:
    """Return where an old dataset waits while it is being replaced."""
    return output.with_name(output.name + ".old")
