"""Where a run in training is kept, beside the folder that it will be: two checkpoints, the newest last.

One training is one unit of work: the folder is published whole from the last state. Checkpoints are no units
of it, since a unit's files are part of the dataset and these go; so they lie outside `.partial`, each written
under a temporary name, flushed and renamed, and a kill at any moment leaves the newest whole one.
"""

import shutil
from pathlib import Path
from typing import Any

import torch

from actlab.ground.errors import StorageError, foreign_errors
from actlab.ground.storage import storage_errors, write_file

_KEPT = 2


class Checkpoints:
    """The checkpoints of the run that makes `output`."""

    def __init__(self, output: Path, fingerprint: str) -> None:
        self.folder = output.with_name(output.name + ".checkpoints")
        self._run = fingerprint[:12]

    def load(self, *, overwrite: bool) -> dict[str, Any] | None:
        """Return the newest state, or None where there is none.

        Raises:
            StorageError: Those that are there are of other settings, and `overwrite` does not discard them.
        """
        others = [path for path in self.folder.glob("*.pt") if not path.name.startswith(self._run)]
        if others and not overwrite:
            raise StorageError(
                f"{self.folder} holds a training that was begun with other settings or inputs",
                hint="finish it with its own settings, choose another --output, or give --overwrite to discard it",
            )
        with storage_errors(self.folder):
            for path in others:
                path.unlink()
        own = self._own()
        if not own:
            return None
        hint = f"remove {own[-1]} to go on from the one before it"
        with foreign_errors(f"cannot read {own[-1]}", hint=hint, kind=StorageError):
            state: dict[str, Any] = torch.load(own[-1], map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, and forget the older ones."""
        path = self.folder / f"{self._run}-step_{state['step']:08d}.pt"
        write_file(path, lambda file: torch.save(state, file))
        with storage_errors(self.folder):
            for old in self._own()[:-_KEPT]:
                old.unlink()

    def remove(self) -> None:
        """Remove this run's checkpoints, and the folder where it holds nothing else."""
        with storage_errors(self.folder):
            for path in self._own():
                path.unlink()
            if self.folder.is_dir() and not any(path.suffix == ".pt" for path in self.folder.iterdir()):
                shutil.rmtree(self.folder)

    def _own(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._run}-step_*.pt"))
