"""What lies in a folder, to compare, and datasets of one unit."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from actlab.ground.storage import NewFile, Plan, finish_single, stage
from actlab.ground.units import Part


class Made(NamedTuple):
    """What a dataset of one unit consists of."""

    files: list[NewFile]
    metadata: Mapping[str, object]
    """The content of its `metadata.json`."""


def publish_single(output: Path, plan: Plan, make: Callable[[], Made], *, overwrite: bool) -> None:
    """Make a dataset of one unit, unless it is there already."""
    with stage(output, plan, part=Part(), overwrite=overwrite) as dataset:
        for unit in dataset.missing():
            made = make()
            dataset.commit(unit, made.files, {"metadata": made.metadata})
        dataset.seal(finish_single)


def hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
