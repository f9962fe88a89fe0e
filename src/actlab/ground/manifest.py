"""The manifest: what a dataset is made from, which files it holds, what was dropped and why."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from actlab.ground.errors import StorageError
from actlab.ground.hashes import remembered_hash, sha256_of
from actlab.ground.limits import read_at_most
from actlab.ground.shapes import as_shape

MANIFEST = "manifest.json"
METADATA = "metadata.json"
DROPPED = "dropped.jsonl"

_DESCRIBED = ("format_version", "kind", "identity", "inputs")
"""What the fingerprint is taken over, as `Plan.described` has it."""


Identity = dict[str, Any]
"""The settings that change the data, and what they came to for these inputs. Every value is JSON."""
Environment = dict[str, str]
"""Versions and machine on which a unit was made."""


InputEntry = Mapping[str, object]
"""What was read, as plan and manifest name it: its role, the last component of its path, its size and sha256."""
Unit = Mapping[str, int]
"""A unit of work: its number as `unit`, and where in the inputs it lies."""


class FileEntry(TypedDict):
    """A file in a manifest or a unit's record."""

    path: str
    bytes: int
    sha256: str
    rows: NotRequired[int]


class Manifest(TypedDict):
    """What a sealed dataset's `manifest.json` says."""

    format_version: NotRequired[int]
    kind: str
    identity: Identity
    inputs: list[InputEntry]
    fingerprint: str
    n_units: NotRequired[int]
    dropped: dict[str, int]
    made_on: NotRequired[list[Environment]]
    files: list[FileEntry]


class Stored(NamedTuple):
    """A file of a dataset as its manifest names it."""

    path: str
    """Relative to the dataset's folder, with forward slashes."""
    bytes: int
    sha256: str
    rows: int | None = None
    """Rows in it, where it has rows."""

    def as_json(self) -> FileEntry:
        """Return the manifest's entry for this file."""
        entry = FileEntry(path=self.path, bytes=self.bytes, sha256=self.sha256)
        if self.rows is not None:
            entry["rows"] = self.rows
        return entry


def to_json(value: object) -> bytes:
    """Return indented UTF-8 JSON with a final newline: the same value gives the same bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def fingerprint(value: object) -> str:
    """Return the sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def has_own_fingerprint(manifest: Mapping[str, object]) -> bool:
    """Whether a manifest's fingerprint is that of its settings and inputs."""
    return fingerprint({key: manifest.get(key) for key in _DESCRIBED}) == manifest.get("fingerprint")


def file_entry(role: str, path: Path, sha256: str | None = None) -> InputEntry:
    """Return a plan's entry for a file that is read: its last path component, size and hash, which may be remembered.

    It says what the plan is about; whether the bytes are whole is for who reads them.
    """
    sha256 = sha256 or remembered_hash(path).sha256
    return {"role": role, "name": path.name, "bytes": path.stat().st_size, "sha256": sha256}


def measured_entry(role: str, path: Path) -> InputEntry:
    """Return a `file_entry` whose hash is taken from the bytes now."""
    return file_entry(role, path, sha256_of(path))


def read_json(path: Path, read: Callable[[Path], bytes] = read_at_most) -> Any:
    """Read a JSON file that actlab or its user wrote.

    Raises:
        StorageError: It is not there or not JSON.
    """
    try:
        data = read(path)
        content = json.loads(data)
        if b"\\u" in data:
            json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair cannot be written again
        return content
    except FileNotFoundError:
        raise StorageError(f"{path} is not there", hint="is this a finished dataset?") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path} is not JSON: {error}", hint="was it cut or edited by hand?") from error


def read_object(path: Path, **shapes: type) -> dict[str, Any]:
    """Read a JSON file that has to be an object, and to hold these keys with values of these types.

    Asked for another key that it lacks, what comes back raises a StorageError too.

    Raises:
        StorageError: It is not there, not JSON, or not of that shape.
    """
    return as_object(path, read_json(path), **shapes)


def as_object(path: Path, content: object, **shapes: type) -> dict[str, Any]:
    """Return what a file holds as an object, as `read_object` does.

    Raises:
        StorageError: It is not of that shape.
    """
    if not isinstance(content, dict):
        raise StorageError(f"{path} is no JSON object", hint="was it edited by hand?")
    for key, shape in shapes.items():
        if not isinstance(content.get(key), shape):
            raise StorageError(f"{path} has no {key} that is {_A[shape]}", hint="was it edited by hand?")
    return _Read(path, content)


class _Read(dict[str, Any]):
    """What a file says, which knows the file."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise StorageError(f"{self._path} has no {key}", hint="was it edited by hand?")


_A = {int: "a whole number", float: "a number", str: "text", dict: "an object", list: "a list"}


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder, or None where there is none.

    Raises:
        StorageError: There is one, and it is not a manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return as_shape(path, content, Manifest)
    except StorageError as error:
        raise StorageError(f"{path} is not an actlab manifest", hint="was it edited by hand?") from error


def stored_files(manifest: Mapping[str, object]) -> Iterator[Stored]:
    """Yield the files that a manifest or a record names.

    Raises:
        StorageError: An entry lacks a field, or names a path outside the dataset.
    """
    entries = manifest.get("files")
    for entry in entries if isinstance(entries, list) else [entries]:
        match entry:
            case {"path": str(path), "bytes": int(n_bytes), "sha256": str(sha256), **more} if _is_inside(Path(path)):
                rows = more.get("rows")
                yield Stored(path, n_bytes, sha256, rows if isinstance(rows, int) else None)
            case _:
                raise StorageError(f"the manifest has a bad entry: {entry}", hint="was it edited by hand?")


def _is_inside(path: Path) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def damaged_files(folder: Path, files: Iterable[Stored]) -> list[str]:
    """Name the files that are not there or have another size: a look at the folder, without reading them."""
    damaged = []
    for stored in files:
        try:
            size = (folder / stored.path).stat().st_size
        except FileNotFoundError:
            damaged.append(f"{stored.path} is missing")
        else:
            if size != stored.bytes:
                damaged.append(f"{stored.path} has {size} bytes, not {stored.bytes}")
    return damaged


def n_dropped(manifest: Manifest) -> int:
    """Return how many records the dataset's run dropped, over all reasons."""
    return sum(manifest["dropped"].values())


def differences(there: object, here: object, path: str = "") -> list[str]:
    """Name what differs between two JSON values, leaf by leaf.

    >>> differences({"dtype": "float16", "limit": None}, {"dtype": "float32", "limit": None})
    ["dtype is 'float16' there and 'float32' here"]
    """
    if there == here:
        return []
    match there, here:
        case dict(), dict():
            pairs = [(f"{path}.{key}" if path else str(key), there.get(key), here.get(key)) for key in there | here]
        case list(), list() if len(there) == len(here):
            names = [one.get("name", index) if isinstance(one, dict) else index for index, one in enumerate(there)]
            pairs = [(f"{path}[{name}]", *pair) for name, *pair in zip(names, there, here, strict=True)]
        case list(), list():
            return [f"{path} has {len(there)} entries there and {len(here)} here"]
        case _:
            return [f"{path} is {_short(there)} there and {_short(here)} here"]
    return [found for name, one, other in pairs for found in differences(one, other, name)]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
