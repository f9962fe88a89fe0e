"""How a dataset comes to lie on disk: planned, worked unit by unit, sealed, published by one rename.

While it is made, everything lies in `<output>.partial`:

    plan.json            what is to be done: settings, inputs, units
    units/000017.json    the completion record of unit 17: its files, what it dropped
    …                    the units' files, under temporary names until their record is there

Any number of processes may do so at once, with file locks or without: `aside` says how. Sealing writes
`manifest.json`, then every `metadata.json`, then removes plan, records and temporary files and renames the folder.
A folder whose manifest names a metadata file that is there is complete.
"""

from actlab.ground.names import safe_name
from actlab.ground.storage.aside import NewFile
from actlab.ground.storage.existing import made_otherwise, refuse_others
from actlab.ground.storage.files import GoneError, refuse_inside_dataset, storage_errors, write_file
from actlab.ground.storage.finishes import SINGLE, finish_single, write_dropped
from actlab.ground.storage.lock import Lock
from actlab.ground.storage.one_file import OneFile
from actlab.ground.storage.opening import reopen, stage
from actlab.ground.storage.plan import (
    FORMAT_VERSION,
    Plan,
    is_complete,
    output_of,
    partial_of,
    plan_of_manifest,
    read_plan,
)
from actlab.ground.storage.staging import Finish, Staging

__all__ = [
    "FORMAT_VERSION",
    "SINGLE",
    "Finish",
    "GoneError",
    "Lock",
    "NewFile",
    "OneFile",
    "Plan",
    "Staging",
    "finish_single",
    "is_complete",
    "made_otherwise",
    "output_of",
    "partial_of",
    "plan_of_manifest",
    "read_plan",
    "refuse_inside_dataset",
    "refuse_others",
    "reopen",
    "safe_name",
    "stage",
    "storage_errors",
    "write_dropped",
    "write_file",
]
