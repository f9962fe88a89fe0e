"""The list of what a dataset's units dropped."""

import json
from typing import BinaryIO, TypedDict

from actlab.ground.manifest import DROPPED, Stored
from actlab.ground.storage.aside import NewFile
from actlab.ground.storage.staging import Staging


class _Record(TypedDict):
    dropped_records: list[dict[str, object]]


def write_dropped(staging: Staging) -> list[Stored]:
    """Write `dropped.jsonl` from the units' `dropped_records`, one a line; nothing where nothing was dropped."""
    n_dropped = sum(len(record["dropped_records"]) for record in staging.records_as(_Record))

    def write(file: BinaryIO) -> None:
        records = (one for record in staging.records_as(_Record) for one in record["dropped_records"])
        file.writelines((json.dumps(one, ensure_ascii=False) + "\n").encode() for one in records)

    return [staging.write(NewFile(DROPPED, write, n_dropped))] if n_dropped else []
