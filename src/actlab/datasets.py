"""Datasets of every kind: what one is, whether it is whole, and how one whose units are all done is sealed."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from actlab.activations import kind as _activations  # noqa: F401  each pipeline registers its kinds
from actlab.features import kind as _features  # noqa: F401
from actlab.ground import storage
from actlab.ground.errors import ActlabError, ConfigError, StorageError
from actlab.ground.integrity import unchecked
from actlab.ground.job import Outcome
from actlab.ground.kinds import Kind, kind_named, known_kinds
from actlab.ground.limits import refuse_pipe
from actlab.ground.manifest import MANIFEST, METADATA, n_dropped, read_json, read_manifest
from actlab.ground.options import as_path
from actlab.ground.plugins import load_plugins, refuse_missing_plugins
from actlab.ground.storage.plan import UNITS
from actlab.ground.verify import Recomputing, Verified, check_against_manifest, sizes_of
from actlab.text import kind as _text  # noqa: F401
from actlab.weights import kind as _weights  # noqa: F401

_ROW_SUFFIXES = (".npz", ".parquet")
_GRAMMAR_SUFFIXES = (".yaml", ".yml", ".txt")


def show_dataset(path: str | Path) -> dict[str, object]:
    """Return a description, as JSON, of a dataset, of one in progress (`.partial`), or of a grammar.

    A dataset of activations may be named by the folder of one of its splits, a grammar by its file or by the domain
    for which it ships.

    Raises:
        ActlabError: It is none of these, or damaged.
    """
    if _is_grammar(as_path(path)):
        from actlab.text.inspect import show_grammar

        return show_grammar(path)
    place = _existing(path)
    plan = storage.read_plan(place)
    if plan is not None:
        done = len(list((place / UNITS).glob("[0-9]*.json")))
        return {"kind": plan.kind, "path": str(place), "units_done": done, "units": len(plan.units)}
    return _kind_of(place).show(place)


def datasets_in(path: str | Path) -> list[Path]:
    """Return the datasets in a folder that is none itself, and in its folders."""
    folder = as_path(path)
    inside = sorted(one.parent for depth in ("*", "*/*") for one in folder.glob(f"{depth}/{MANIFEST}"))
    return inside if inside and read_manifest(folder) is None else []


@unchecked()
def verify_dataset(
    path: str | Path,
    *,
    recompute: int = 0,
    model: str | None = None,
    dataset: str | None = None,
    device: str = "auto",
    quiet: bool = False,
    plugins: Iterable[str] = (),
) -> Verified:
    """Compare a dataset's files with its manifest and, where they are as they were written, with each other.

    Activations, sentence files and classifier datasets are read in any case: other programs write them too, without a
    manifest. With `recompute` a model is run again on so many rows of each split of activations; `model` and `dataset`
    say where the originals are, which are compared with the hashes in the manifest first.

    Raises:
        ActlabError: There is nothing to verify or to recompute, or the originals are not the ones that were read.
    """
    if recompute < 0:
        raise ConfigError(f"--recompute {recompute} is too small", hint="use 0 or more")
    load_plugins(plugins)
    from actlab.formats.classifier import read_manifest_of

    place = _existing(path)
    kind = _kind_of(place)
    if (recompute or model or dataset) and kind.recompute is None:
        raise ConfigError("only a dump of activations can be recomputed", hint=kind.instead)
    above = read_manifest(place.parent) if place.is_dir() and read_manifest(place) is None else None
    if above is not None and above["kind"] == kind.name:
        place = place.parent  # of a split
    manifest = read_manifest(place)
    told = manifest if place.is_dir() else read_manifest_of(place)
    if manifest is None and (kind.read is None or recompute):
        raise StorageError(f"{place} has no manifest", hint="name a folder that a command of actlab made")
    if recompute or kind.asks_plugins:
        refuse_missing_plugins(told and told.get("identity"), place)
    problems = check_against_manifest(place, manifest, quiet=quiet) if manifest is not None else []
    if kind.read is not None:
        problems += kind.read(place, told, quiet)
    if manifest is not None and kind.check is not None and not problems:
        problems += _until_stopped(kind.check(place, manifest, quiet), place)
    recomputed = None
    if manifest is not None and kind.recompute is not None and recompute and not problems:
        recomputed, more = kind.recompute(place, manifest, Recomputing(recompute, model, dataset, device))
        problems += more
    return Verified(place, **sizes_of(place), has_manifest=told is not None, problems=problems, recomputed=recomputed)


def seal_dataset(path: str | Path, *, overwrite: bool = False, plugins: Iterable[str] = ()) -> Outcome:
    """Publish a dataset whose units are all done, named by its folder or its `.partial`; a sealed one stays as it is.

    Raises:
        StorageError: There is none, units are missing, or another run is at work on it.
    """
    load_plugins(plugins)
    output = storage.output_of(as_path(path))
    staging = storage.reopen(as_path(path), overwrite=overwrite)
    if staging is not None:
        refuse_missing_plugins(staging.plan.identity, output)
        if left := staging.left():
            numbers = ", ".join(str(unit["unit"]) for unit in left[:8]) + (", …" if len(left) > 8 else "")
            raise StorageError(
                f"{len(left)} of {len(staging.plan.units)} units of {output} are missing: {numbers}",
                hint="run the command that makes it again, then it seals itself",
            )
        staging.seal(kind_named(staging.plan.kind, output).finish)
    manifest = read_manifest(output)
    return Outcome(path=output, n_dropped=n_dropped(manifest) if manifest is not None else 0)


def _existing(given: str | Path) -> Path:
    """Return what a path names: a folder, or a classifier dataset's file."""
    path: Path = as_path(given)
    if path.is_file() and path.suffix not in _ROW_SUFFIXES:
        raise StorageError(
            f"{given} is a file of another kind", hint="name a dataset's folder, an NPZ or a Parquet file"
        )
    if not path.is_file() and not path.is_dir():
        refuse_pipe(path)
        raise StorageError(
            f"there is no folder {given}",
            hint="name a dataset's folder, or a classifier dataset's file; show also takes a grammar, as cooking",
        )
    return path if path.name not in ("", "..") else path.resolve()


def _kind_of(place: Path) -> Kind:
    """Return who answers for a place; what another program wrote has no manifest."""
    if place.is_file():
        return kind_named("classifier-dataset", place)
    if any(place.glob("sentence_*.npz")):
        return kind_named("sentence-features", place)
    manifest = read_manifest(place) or read_manifest(place.parent)
    return kind_named(manifest["kind"] if manifest is not None else _told_kind(place), place)


def _told_kind(folder: Path) -> str:
    """Return the kind of which a dataset's own metadata speaks; activations where there is none that can be read."""
    with contextlib.suppress(StorageError):
        match read_json(folder / METADATA):
            case {"kind": str(kind)} if kind in known_kinds():
                return kind
    return "activations"


def _until_stopped(found: Iterable[str], place: Path) -> Iterator[str]:
    """Yield the problems that a check finds; what stops it is the last of them."""
    try:
        yield from found
    except ActlabError as error:
        yield str(error).replace(f"{place}/", "")


def _is_grammar(name: Path) -> bool:
    """Whether a path or a name can only be a grammar's: a file that no dataset is, or the domain of one that ships."""
    if name.exists():
        return name.is_file() and name.suffix.lower() in _GRAMMAR_SUFFIXES
    if name.suffix.lower() in _GRAMMAR_SUFFIXES:
        return True
    from actlab.text.domains import AUTO, DOMAINS

    return str(name) in DOMAINS.names and str(name) != AUTO.name
