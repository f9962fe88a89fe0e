"""Where a run in training is kept, beside the folder that it will be: two checkpoints, the newest last.

One training is one unit of work: the folder is published whole from the last state. Checkpoints are no units
of it, since a unit's files are part of the dataset and these go; so they lie outside `.partial`, each written
under a temporary name, flushed and renamed, and a kill at any moment leaves the newest whole one. A name holds
the hash of its file, so a damaged one is noticed. Whatever else lies in the folder is somebody's, and stays.
"""

import contextlib
import hashlib
import io
import re
from pathlib import Path

import torch

from actlab.ground.errors import StorageError, foreign_errors
from actlab.ground.hashes import sha256_of
from actlab.ground.log import log
from actlab.ground.storage import GoneError, storage_errors, write_file
from actlab.ground.temporary import TEMPORARY
from actlab.text.train_gpt.compute import State

_KEPT = 2
MOST_AT_ONCE = _KEPT + 1
"""A new one is there before the oldest goes."""
_NAME = re.compile(r"[0-9a-f]{12}-step_\d{10}-[0-9a-f]{16}\.pt")
_HALF = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{8}-" + _NAME.pattern)


class Checkpoints:
    """The checkpoints of the run that makes `output`."""

    def __init__(self, output: Path, fingerprint: str) -> None:
        self.folder = output.with_name(output.name + ".checkpoints")
        self._run = fingerprint[:12]
        self._is_open = False

    def load(self, *, overwrite: bool) -> State | None:
        """Return the newest state that is as it was saved, or None where there is none.

        Damaged ones and those that were never finished are removed.

        Raises:
            StorageError: Those that are there are of other settings, and `overwrite` does not discard them.
        """
        own = self._own()
        others = [path for path in self._named(_NAME) if path not in own]
        if others and not overwrite:
            raise StorageError(
                f"{self.folder} holds a training that was begun with other settings or inputs",
                hint="finish it with its own settings, choose another --output, or give --overwrite to discard it",
            )
        with storage_errors(self.folder):
            for path in [*others, *self._named(_HALF)]:
                path.unlink(missing_ok=True)
            while own and not own[-1].stem.endswith(sha256_of(own[-1])[:16]):
                log.warning("%s is damaged: going on from the one before it, or from the start", own[-1])
                own.pop().unlink(missing_ok=True)
            self.folder.mkdir(exist_ok=True)
            self._is_open = True
        if not own:
            return None
        hint = "remove it to go on from the one before it, or from the start"
        with foreign_errors(f"cannot read {own[-1]}", hint=hint, kind=StorageError):
            state: State = torch.load(own[-1], map_location="cpu", weights_only=True)
        return state

    def save(self, state: State) -> None:
        """Keep a state, and forget the older ones.

        The folder is made before the training, and not again: it goes when another run has published the model.
        """
        buffer = io.BytesIO()  # torch tells what a disk refuses in words of its own
        torch.save(state, buffer)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        path = self.folder / f"{self._run}-step_{state['step']:010d}-{digest[:16]}.pt"
        try:
            write_file(path, buffer.getvalue(), makes_folder=not self._is_open)
        except GoneError:
            log.warning("%s has gone: no checkpoint is kept of step %d", self.folder, state["step"])
            return
        with storage_errors(self.folder):
            for old in self._own()[:-_KEPT]:
                old.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove this run's checkpoints, and the folder where it holds nothing else."""
        with storage_errors(self.folder):
            for path in self._own():
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty, not there, or a link
            self.folder.rmdir()

    def _own(self) -> list[Path]:
        return sorted(path for path in self._named(_NAME) if path.name.startswith(self._run))

    def _named(self, pattern: re.Pattern[str]) -> list[Path]:
        return [path for path in self.folder.glob("*") if pattern.fullmatch(path.name)]
