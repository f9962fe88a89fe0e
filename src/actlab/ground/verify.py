"""Is a dataset what its manifest says? Hashes, sizes, counts: what holds for every kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

from actlab.ground.hashes import sha256_of
from actlab.ground.manifest import DROPPED, MANIFEST, Manifest, has_own_fingerprint, n_dropped, stored_files
from actlab.ground.progress import progress
from actlab.ground.storage import FORMAT_VERSION

CARD = "README.md"
"""A push adds one to a dataset that has none."""


class Recomputing(NamedTuple):
    """What `verify` was told about making rows again."""

    n_rows: int
    """Of each split; 0 where none is asked for."""
    model: str | None = None
    dataset: str | None = None
    device: str = "auto"


class Recomputed(NamedTuple):
    """Rows made again, one alone, against what is stored."""

    n_rows: int
    error_by_layer: dict[int, float]
    """The largest ‖stored - computed‖ / ‖computed‖ of a row."""
    tolerance: float


class Verified(NamedTuple):
    """What was looked at, and what is wrong."""

    path: Path
    n_files: int
    n_bytes: int
    has_manifest: bool
    problems: list[str]
    recomputed: Recomputed | None = None
    """What came of running the model again, where that was asked for."""


class Sizes(TypedDict):
    """What a dataset takes on disk."""

    n_files: int
    n_bytes: int


def sizes_of(*places: Path) -> Sizes:
    """Count files and their bytes: of a file, or of folders, hidden ones left out."""
    files = [file for place in places for file in (files_of(place) if place.is_dir() else [place])]
    return {"n_files": len(files), "n_bytes": sum(file.stat().st_size for file in files)}


def files_of(folder: Path) -> list[Path]:
    """Return a dataset's files, hidden ones left out."""
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]


def check_against_manifest(folder: Path, manifest: Manifest, *, quiet: bool) -> list[str]:
    """Return what is wrong with the manifest itself and with the files that it names."""
    files = files_of(folder)
    problems = check_manifest(folder, manifest)
    with progress("hashing", total=len(files), unit="file", quiet=quiet) as more:
        for found in check_files(folder, manifest, files):
            problems += found
            more(1)
    return problems


def check_manifest(folder: Path, manifest: Manifest) -> list[str]:
    """Compare the manifest with itself and with the list of what was dropped."""
    problems = []
    if manifest.get("format_version") != FORMAT_VERSION:
        problems.append(f"{MANIFEST}: format version {manifest.get('format_version')}, not {FORMAT_VERSION}")
    if not has_own_fingerprint(manifest):
        problems.append(f"{MANIFEST}: its fingerprint is not that of its settings and inputs")
    listed = folder / DROPPED
    n_listed = len(listed.read_bytes().splitlines()) if listed.is_file() else 0
    if n_listed != n_dropped(manifest):
        problems.append(f"{MANIFEST}: it counts {n_dropped(manifest)} dropped records, {n_listed} are listed")
    return problems


def check_files(folder: Path, manifest: Manifest, files: list[Path]) -> Iterator[list[str]]:
    """Yield the problems of each file that is there, or that the manifest names."""
    on_disk = {file.relative_to(folder).as_posix() for file in files}
    named = set()
    for stored in stored_files(manifest):
        named.add(stored.path)
        file = folder / stored.path
        if stored.path not in on_disk:
            yield [f"{stored.path}: missing"]
        elif file.stat().st_size != stored.bytes:
            yield [f"{stored.path}: {file.stat().st_size} bytes, not {stored.bytes}"]
        elif sha256_of(file) != stored.sha256:
            yield [f"{stored.path}: its bytes are not the ones that were written (sha256 differs)"]
        else:
            yield []
    yield [f"{extra}: not in the manifest" for extra in sorted(on_disk - named - {MANIFEST, CARD})]
