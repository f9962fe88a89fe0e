"""Is it there already, with the same settings? A dataset and its `.partial` before the work starts."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from actlab.ground.errors import StorageError
from actlab.ground.hashes import sha256_of
from actlab.ground.manifest import (
    Manifest,
    Stored,
    damaged_files,
    has_own_fingerprint,
    read_manifest,
    read_object,
    stored_files,
    to_json,
)
from actlab.ground.storage.aside import Aside, is_aside
from actlab.ground.storage.files import (
    make_folders,
    refuse_inside_dataset,
    remove_tree,
    storage_errors,
    sync_folder,
)
from actlab.ground.storage.own_files import refuse_foreign, refuse_foreign_partial
from actlab.ground.storage.plan import (
    PLAN,
    UNITS,
    Plan,
    differences_to,
    holds_rows,
    is_complete,
    partial_of,
    plan_of_manifest,
    read_plan,
    unit_names,
)
from actlab.ground.storage.publish import is_replaced, old_of

_VERSIONS = ("versions", "acceptance ", "sae_lens_version ")
"""Keys of an identity by which one version of actlab tells its results from another's."""


def refuse_others(output: Path, plan: Plan, *, overwrite: bool) -> None:
    """Refuse early what `stage` would refuse later: a dataset made with other settings or inputs.

    Raises:
        StorageError: There is one, finished or begun; or what is not actlab's lies in one that is to be replaced.
    """
    is_done(output, plan, overwrite=overwrite)
    _may_be_discarded(partial_of(output), plan, overwrite=overwrite)


def _may_be_discarded(folder: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether a `.partial` is of another plan, and may be discarded.

    Raises:
        StorageError: It is, and may not.
    """
    try:
        refuse_other_plan(folder, plan)
    except StorageError:
        if not overwrite and _has_units(folder):
            raise
        refuse_foreign_partial(folder)
        return True
    return False


def is_done(output: Path, plan: Plan, *, overwrite: bool, hashes: bool = False) -> bool:
    """Whether the dataset is there with the same settings and inputs. With others it is refused.

    Files are known by their sizes; where it may be overwritten and `hashes` is given, by their bytes.
    """
    refuse_inside_dataset(output)
    if output.is_symlink():
        raise StorageError(f"{output} is a symbolic link", hint="choose an --output without one")
    if output.exists() and not output.is_dir():
        raise StorageError(f"{output} is a file", hint="choose another --output")
    if not output.exists() or not any(output.iterdir()):
        return False
    old = old_of(output)
    if old.exists() and not is_replaced(old) and overwrite:
        raise StorageError(f"{old} is in the way", hint="move it: the old dataset would go there")
    manifest = read_manifest(output)
    if manifest is None:
        hint = "choose another --output, or move the folder away: --overwrite replaces actlab's own datasets alone"
        raise StorageError(f"{output} was not made by actlab, or is incomplete", hint=hint)
    if manifest["kind"] != plan.kind:
        raise StorageError(f"{output} holds {manifest['kind']}, not {plan.kind}", hint="choose another --output")
    if manifest["fingerprint"] == plan.fingerprint and is_complete(output):
        files = list(stored_files(manifest))
        damaged = damaged_files(output, files)
        if overwrite and hashes and not damaged and not _is_as_written(output, manifest, files):
            damaged = [f"{output} is not as it was written"]
        if damaged and not overwrite:
            raise StorageError(
                f"{output} is damaged: {damaged[0]}", hint="actlab verify tells all; give --overwrite to make it again"
            )
        if damaged:
            refuse_foreign(output)
        return not damaged
    if overwrite:
        refuse_foreign(output)
        return False
    if manifest["fingerprint"] == plan.fingerprint:
        raise StorageError(f"{output} is damaged: a metadata.json is missing", hint="give --overwrite to make it again")
    hint = "choose another --output, or give --overwrite to replace it"
    raise StorageError(f"{output} {made_otherwise(manifest, plan)}", hint=hint)


def made_otherwise(there: Mapping[str, object], plan: Plan) -> str:
    """Say how what a manifest describes was made, and by what it differs from a plan."""
    found = differences_to(there, plan)
    is_older = any(one.startswith(_VERSIONS) for one in found)
    made = "by another version of actlab" if is_older else "with other settings or inputs"
    return f"was made {made}: {'; '.join(found)}"


def _is_as_written(output: Path, manifest: Manifest, files: list[Stored]) -> bool:
    """Whether the manifest has its own fingerprint, and each file that it names its bytes, which are read now."""
    return has_own_fingerprint(manifest) and all(sha256_of(output / file.path) == file.sha256 for file in files)


def is_done_and_not_begun(output: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether the dataset is there, and nothing in a `.partial` that it lacks."""
    # while no dataset is there, nothing has to be known about the units, whose records are many
    return (
        output.exists()
        and not (_has_units(partial_of(output)) or is_complete(partial_of(output)))
        and is_done(output, plan, overwrite=overwrite, hashes=True)
    )


def prepare(output: Path, plan: Plan, *, overwrite: bool) -> None:
    """Make sure that `.partial` holds this plan."""
    folder = partial_of(output)
    if folder.exists() and _may_be_discarded(folder, plan, overwrite=overwrite):
        _remove_other_plan(folder, plan)
    is_done(output, plan, overwrite=overwrite)
    if (folder / PLAN).exists() or is_complete(folder):
        return
    described = {**plan.described(), "fingerprint": plan.fingerprint, "units": [dict(unit) for unit in plan.units]}
    with storage_errors(folder), Aside(folder) as aside:
        make_folders(folder.parent, folder)
        aside.settle(folder / PLAN, to_json(described))
        sync_folder(folder.parent)
        aside.name()
    refuse_other_plan(folder, plan)


def refuse_other_plan(folder: Path, plan: Plan) -> None:
    """Refuse a `.partial` of another plan, or of none.

    Raises:
        StorageError: It is one.
    """
    there = read_plan(folder) or plan_of_manifest(folder)
    if there is None and folder.is_dir():
        if _is_empty(folder):
            return
        there = read_plan(folder)  # again: it may just have been written
    if there is None and folder.is_dir():
        raise StorageError(f"{folder} has no plan", hint="move it away, or give --overwrite to discard it")
    if there is not None and there.fingerprint != plan.fingerprint:
        found = "; ".join(differences_to(there.described(), plan))
        raise StorageError(
            f"{folder} was begun with other settings or inputs: {found}",
            hint="finish it with its own settings, choose another --output, or give --overwrite to discard it",
        )


def _remove_other_plan(folder: Path, plan: Plan) -> None:
    """Discard a `.partial`: taken away first, so that nobody finds half of it, or loses a new one begun in its place.

    Raises:
        StorageError: A folder that is not actlab's is where it would go.
    """
    aside = old_of(folder)
    with storage_errors(folder):
        if not (folder / PLAN).is_file():
            remove_tree(folder, last=PLAN)  # nothing would say what it is
            return
        forget_discarded(folder)
        if aside.exists():
            raise StorageError(f"{aside} is in the way", hint="move it: what is discarded would go there")
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, aside)
            there = read_plan(aside)
            if there is not None and there.fingerprint == plan.fingerprint:
                os.rename(aside, folder)  # another process began this plan meanwhile
        forget_discarded(folder)


def forget_discarded(folder: Path) -> None:
    """Remove a discarded `.partial`, told by its plan, which goes last."""
    aside = old_of(folder)
    with contextlib.suppress(FileNotFoundError):
        if aside.is_dir() and ((aside / PLAN).is_file() or not any(aside.iterdir())):
            remove_tree(aside, last=PLAN)


def _has_units(folder: Path) -> bool:
    """Whether work would be lost with a `.partial`: of units whose records were all dropped, nothing would be."""
    names = sorted(name for name in unit_names(folder) if not is_aside(name))
    has_any = any(_is_work(folder / UNITS / name) for name in names)
    return has_any or (folder.is_dir() and not (folder / PLAN).exists() and not _is_empty(folder))


def _is_empty(folder: Path) -> bool:
    """Whether a `.partial` was stopped before its plan was written, or is just being made or renamed."""
    try:
        return all(is_aside(path.name) for path in folder.iterdir())
    except FileNotFoundError:
        return True


def _is_work(path: Path) -> bool:
    try:
        record = read_object(path)
        return holds_rows(stored_files(record)) or not record.get("dropped")
    except StorageError:
        return True
