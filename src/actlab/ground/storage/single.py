"""Datasets of one unit: a handful of files made together, published whole."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

from actlab.ground.manifest import METADATA, Unit
from actlab.ground.storage.aside import NewFile
from actlab.ground.storage.opening import stage
from actlab.ground.storage.plan import Plan
from actlab.ground.storage.staging import Finish, Staging
from actlab.ground.units import Part

SINGLE: tuple[Unit, ...] = ({"unit": 0},)
"""The units of such a dataset's plan."""


class Made(NamedTuple):
    """What such a dataset consists of."""

    files: list[NewFile]
    metadata: Mapping[str, object]
    """The content of its `metadata.json`."""


class _Record(TypedDict):
    metadata: Mapping[str, object]


def publish_single(output: Path, plan: Plan, make: Callable[[], Made], *, overwrite: bool, again: bool = False) -> None:
    """Make a dataset of one unit, unless it is there already and not to be made `again`.

    Raises:
        StorageError: There is one made with other settings, or another run is at work on it.
    """
    with stage(output, plan, part=Part(), overwrite=overwrite, again=again) as dataset:
        for unit in dataset.missing():
            made = make()
            dataset.commit(unit, made.files, {"metadata": made.metadata})
        dataset.seal(finish_single)


def finish_single(staging: Staging) -> Finish:
    """Return the metadata that the one unit left."""
    (record,) = staging.records_as(_Record)
    return Finish([], {METADATA: record["metadata"]}, {})
