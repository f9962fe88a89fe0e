"""One file that a command writes whole: is it there already, and may another one be replaced?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.storage.files import refuse_inside_dataset


@dataclass(frozen=True, kw_only=True)
class OneFile:
    """Where a command writes a single file, and what it says of another that is in the way."""

    path: Path
    overwrite: bool
    is_own: Callable[[Path], bool]
    """Whether a file, by what it holds, is one that the command could have written, and so may be replaced."""
    foreign: str
    """What is said of one that is not: "is no split"."""
    example: str
    """For hints, the flag with a name: "--output splits.json"."""

    def is_there(self, is_same: Callable[[], bool], other: Callable[[], str]) -> bool:
        """Whether the file is there as it would be written.

        `is_same` looks at the one that is there; where it is not the same, `other` says what it is.

        Raises:
            StorageError: Something else is there, and it may not be overwritten.
        """
        self._refuse_place()
        if not self.path.exists():
            return False
        if is_same():
            return True
        if not self.overwrite:
            hint = f"choose another {self._flag}, or give --overwrite to replace it"
            raise StorageError(f"{self.path} {other()}", hint=hint)
        self.refuse_foreign()
        return False

    def refuse_foreign(self) -> None:
        """Refuse what may not be replaced, before any work.

        Raises:
            StorageError: A folder, a place inside a dataset, or a file that is not the command's own.
        """
        self._refuse_place()
        if self.path.exists() and not (self.path.is_file() and self.is_own(self.path)):
            hint = f"choose another {self._flag}, or move it away: --overwrite replaces actlab's own files alone"
            raise StorageError(f"{self.path} {self.foreign}", hint=hint)

    def has(self, *versions: bytes, other: Callable[[], str]) -> bool:
        """Whether the file is there with one of these contents; it is not read unless it has as many bytes.

        Raises:
            StorageError: As `is_there`.
        """

        def is_same() -> bool:
            return self.path.stat().st_size in map(len, versions) and self.path.read_bytes() in versions

        return self.is_there(is_same, other)

    @property
    def _flag(self) -> str:
        return self.example.partition(" ")[0]

    def _refuse_place(self) -> None:
        refuse_inside_dataset(self.path)
        if self.path.is_dir():
            raise StorageError(f"{self.path} is a folder", hint=f"name a file: {self.example}")
