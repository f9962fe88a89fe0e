"""Kinds of datasets: `show`, `verify` and the sealing look up here who answers for one.

Each pipeline's `kind.py` registers its own when it is imported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.later import Later
from actlab.ground.manifest import Manifest
from actlab.ground.storage import Finish, Staging
from actlab.ground.verify import Recomputed, Recomputing

Show = Later[[Path], dict[str, object]]
_SINGLE: Later[[Staging], Finish] = Later("actlab.ground.storage:finish_single")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Who answers for a kind of dataset."""

    name: str
    """As plan and manifest have it."""
    show: Show
    """Describes a folder or file as JSON: `path`, `kind`, `n_bytes` and more."""
    read: Later[[Path, Mapping[str, object] | None, bool], Iterable[str]] | None = None
    """Says what is wrong with each file by itself, told whether to be quiet; of kinds that other programs write too,
    without a manifest. Files that are not as they were written are read as well."""
    check: Later[[Path, Manifest, bool], Iterable[str]] | None = None
    """Says where a sealed dataset's files, each as it was written, contradict each other."""
    asks_plugins: bool = False
    """Whether `check` asks the variants by which the dataset was made."""
    recompute: Later[[Path, Manifest, Recomputing], tuple[Recomputed, list[str]]] | None = None
    """Makes some rows again, and says what is wrong with the stored ones."""
    instead: str = "omit --recompute"
    """What to do where they cannot be made again so."""
    finish: Later[[Staging], Finish] = _SINGLE
    """Makes what a dataset has besides its units' files."""


_kinds: dict[str, Kind] = {}


def register(*kinds: Kind) -> None:
    """Add kinds to those that are known."""
    _kinds.update((one.name, one) for one in kinds)


def kind_named(name: str, where: Path) -> Kind:
    """Return the kind of a name that was read somewhere.

    Raises:
        StorageError: It is not known.
    """
    if name not in _kinds:
        raise StorageError(f"{where} is a dataset of kind {name!r}", hint="a newer actlab made it: upgrade")
    return _kinds[name]


def known_kinds() -> dict[str, Kind]:
    """Return the kinds that are known by now, by their names."""
    return dict(_kinds)
