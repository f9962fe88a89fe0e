"""The plan of a dataset, and the folders in which it is made."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.manifest import (
    MANIFEST,
    METADATA,
    Identity,
    InputEntry,
    Manifest,
    Stored,
    Unit,
    differences,
    fingerprint,
    read_json,
    read_manifest,
    stored_files,
)

FORMAT_VERSION = 1
PLAN = "plan.json"
UNITS = "units"


@dataclass(frozen=True)
class Plan:
    """All that is known about a dataset before the work starts. Every value is JSON."""

    kind: str
    """Which pipeline made it, and so who can show, verify and seal it."""
    identity: Identity
    """The settings that change the data, and what they came to for these inputs."""
    inputs: Sequence[InputEntry]
    """Name, bytes and sha256 of every file that is read."""
    units: Sequence[Unit] = ()
    """The closed list of units, in order."""

    @property
    def fingerprint(self) -> str:
        """The sha256 of what decides the dataset's bytes."""
        return fingerprint(self.described())

    def described(self) -> dict[str, object]:
        """Return the part of the plan that the manifest keeps."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "identity": json.loads(json.dumps(self.identity)),
            "inputs": [dict(entry) for entry in self.inputs],
        }


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a sealed dataset, or one whose sealing lacks only the cleaning up."""
    return _complete_manifest(folder) is not None


def holds(folder: Path, plan: Plan) -> bool:
    """Whether a folder is complete, and by this plan."""
    manifest = _complete_manifest(folder)
    return manifest is not None and manifest["fingerprint"] == plan.fingerprint


def _complete_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a complete folder; None also where it is renamed in this moment."""
    manifest = None
    for tries_left in (2, 1, 0):
        try:
            manifest = read_manifest(folder)
            break
        except StorageError:
            if not tries_left and (folder / MANIFEST).exists():
                raise  # it is damaged, not just being replaced
    if manifest is None:
        return None
    metadata = [file.path for file in stored_files(manifest) if Path(file.path).name == METADATA]
    return manifest if metadata and all((folder / path).is_file() for path in metadata) else None


def partial_of(output: Path) -> Path:
    """Return the folder in which a dataset is made."""
    return output.with_name(output.name + ".partial")


def output_of(path: Path) -> Path:
    """Return the dataset's folder, named by itself or by its `.partial`.

    Raises:
        StorageError: The path has no name that a dataset could have.
    """
    path = path if path.name not in ("", "..") else path.resolve()
    name = path.name.removesuffix(".partial")
    if not name:
        raise StorageError(f"{path} is no dataset", hint="name a dataset's folder or its .partial")
    return path.with_name(name)


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a `.partial`, or None where it has none.

    Raises:
        StorageError: It was edited or damaged.
    """
    if not (folder / PLAN).is_file():
        return None
    try:
        content = read_json(folder / PLAN)
    except StorageError:
        if (folder / PLAN).exists():
            raise
        return None  # the folder is sealed or renamed in this moment
    try:
        plan = Plan(content["kind"], content["identity"], content["inputs"], content["units"])
        if plan.fingerprint == content["fingerprint"] and all(isinstance(unit["unit"], int) for unit in plan.units):
            return plan
    except (KeyError, TypeError):
        pass
    raise StorageError(
        f"{folder / PLAN} is not what actlab wrote", hint="it was edited or damaged: give --overwrite to discard it"
    )


def plan_of_manifest(folder: Path) -> Plan | None:
    """Return the plan of a folder that was stopped while its sealing cleaned up."""
    manifest = _complete_manifest(folder)
    return Plan(manifest["kind"], manifest["identity"], manifest["inputs"]) if manifest is not None else None


def differences_to(there: Mapping[str, object], plan: Plan, *, most: int = 3) -> list[str]:
    """Name what differs between a manifest or plan on disk and a plan, the first few only."""
    here = plan.described()
    found = [one.removeprefix("identity.") for one in differences({key: there.get(key) for key in here}, here)]
    return found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else [])


def inode(path: Path) -> int | None:
    """Return what tells a file or folder from another of its name; None where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def unit_names(folder: Path) -> set[str]:
    """Return the names in the records' folder: a look at it, without reading."""
    try:
        return {path.name for path in (folder / UNITS).iterdir()}
    except FileNotFoundError:
        return set()


def holds_rows(files: Iterable[Stored]) -> bool:
    """Whether files hold anything: all have rows, and they are none, where every record was dropped."""
    return any(file.rows != 0 for file in files)
