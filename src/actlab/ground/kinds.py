"""Kinds of datasets: `show`, `verify` and the sealing look up here who answers for one.

Each pipeline's `kind.py` registers its own when it is imported.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actlab.ground.errors import StorageError
from actlab.ground.manifest import Manifest
from actlab.ground.storage import Finish, Staging


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Who answers for a kind of dataset. Functions are named as "module:function" and imported when they are wanted."""

    name: str
    """As plan and manifest have it."""
    shows: str
    """Of a function that describes a folder or file as JSON: `path`, `kind`, `n_bytes` and more."""
    checks: str
    """Of a function of a folder or file, its manifest or None, and `quiet`, that yields what is wrong inside."""
    finishes: str = "actlab.ground.storage:finish_single"
    """Of the function that `Staging.seal` takes."""
    recomputes: str | None = None
    """Of a function that makes some rows again (`ground.verify`), where the kind has one."""

    def show(self, path: Path) -> dict[str, object]:
        """Describe a dataset."""
        described: dict[str, object] = load(self.shows)(path)
        return described

    def check(self, path: Path, manifest: Manifest | None, *, quiet: bool) -> Iterable[str]:
        """Say what is wrong inside a dataset, besides what its manifest tells of its files."""
        found: Iterable[str] = load(self.checks)(path, manifest, quiet=quiet)
        return found

    def finish(self, staging: Staging) -> Finish:
        """Make what a dataset has besides its units' files."""
        finished: Finish = load(self.finishes)(staging)
        return finished


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


def is_kind(name: str) -> bool:
    """Whether a kind is known."""
    return name in _kinds


def load(where: str) -> Callable[..., Any]:
    """Return the function that "module:function" names."""
    module, name = where.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
