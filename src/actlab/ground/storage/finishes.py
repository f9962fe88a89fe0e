"""What datasets of several kinds are finished with: the list of what was dropped, and the metadata of a single unit."""

import json
from collections.abc import Mapping
from typing import BinaryIO, TypedDict

from actlab.ground.manifest import DROPPED, METADATA, Stored, Unit
from actlab.ground.storage.aside import NewFile
from actlab.ground.storage.staging import Finish, Staging

SINGLE: tuple[Unit, ...] = ({"unit": 0},)
"""The units of a dataset whose handful of files is made together."""


class _WithDropped(TypedDict):
    dropped_records: list[dict[str, object]]


class _WithMetadata(TypedDict):
    metadata: Mapping[str, object]


def write_dropped(staging: Staging) -> list[Stored]:
    """Write `dropped.jsonl` from the units' `dropped_records`, one a line; nothing where nothing was dropped."""
    n_dropped = sum(len(record["dropped_records"]) for record in staging.records_as(_WithDropped))

    def write(file: BinaryIO) -> None:
        records = (one for record in staging.records_as(_WithDropped) for one in record["dropped_records"])
        file.writelines((json.dumps(one, ensure_ascii=False) + "\n").encode() for one in records)

    return [staging.write(NewFile(DROPPED, write, n_dropped))] if n_dropped else []


def finish_single(staging: Staging) -> Finish:
    """Return the metadata that the one unit left."""
    (record,) = staging.records_as(_WithMetadata)
    return Finish([], {METADATA: record["metadata"]}, {})
