"""Temporary files: their names beside what they become, and a folder for what a library insists on writing to one."""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actlab.ground.errors import StorageError, foreign_errors

TEMPORARY = ".tmp-"
"""How temporary names begin."""


def temporary_of(path: Path, token: str) -> Path:
    """Return the temporary name of a file; `token`, of `new_token`, tells its maker from others."""
    return path.with_name(f"{TEMPORARY}{token}-{path.name}")


def new_token() -> str:
    """Return what the temporary names of one maker's files share, and nobody else's."""
    return secrets.token_hex(4)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Lend a folder where the system has room for such.

    Raises:
        StorageError: It has none: no folder that can be written, or its disk is full.
    """
    with _errors():
        folder = tempfile.TemporaryDirectory()
    with folder as name:
        yield Path(name)


def saved_files(save: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    """Let a library save what it holds into a folder, and yield each file's name and bytes.

    Raises:
        StorageError: The folder for temporary files has no room.
    """
    with temporary_folder() as folder:
        with _errors():  # safetensors and tokenizers raise errors of their own where a disk is full
            save(str(folder))
        for path in sorted(folder.iterdir()):
            yield path.name, path.read_bytes()


@contextmanager
def _errors() -> Iterator[None]:
    hint = "free some space there, or name another folder in the environment variable TMPDIR"
    with foreign_errors(f"cannot write temporary files ({_place()})", hint=hint, kind=StorageError):
        yield


def _place() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # none of the usual ones can be written
        return "TMPDIR"
