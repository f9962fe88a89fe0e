"""Is a dump what it says it is? Hashes, shards, rows, numbers; and the model run again on a few rows."""

from pathlib import Path

from actlab.activations.verify.checks import check_split, check_tables
from actlab.activations.verify.recompute import recompute_rows
from actlab.formats.activations import (
    Activations,
    open_activations,
    split_folders,
)
from actlab.ground.errors import StorageError
from actlab.ground.integrity import unchecked
from actlab.ground.manifest import (
    METADATA,
    read_manifest,
    stored_files,
)
from actlab.ground.verify import Verified, check_against_manifest, files_of


@unchecked()
def verify_activations(
    path: str | Path,
    *,
    recompute: int = 0,
    model: str | None = None,
    dataset: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Verified:
    """Check a dump, and with `recompute` run the model again on so many rows of each split.

    `model` and `dataset` say where the originals lie, where the names in the manifest do not: both are
    compared with the hashes in the manifest first.

    Raises:
        ActlabError: There is no dump, or the originals are not the ones that it was made from.
    """
    folder = Path(path) if Path(path).name not in ("", "..") else Path(path).resolve()
    if (folder / METADATA).is_file() and not split_folders(folder):
        folder = folder.parent
    splits = split_folders(folder)
    manifest = read_manifest(folder)
    if not splits and manifest is None:
        open_activations(folder)  # says why there is nothing to verify
    files = files_of(folder)
    problems: list[str] = []
    if manifest is not None:
        problems += check_against_manifest(folder, manifest, quiet=quiet)
        expected = {Path(stored.path).parts[0] for stored in stored_files(manifest) if "/" in stored.path}
        problems += [f"{name}: the split's {METADATA} is missing" for name in sorted(expected - splits.keys())]
    for name, split in splits.items():
        problems += check_split(name, split, manifest["fingerprint"] if manifest else None)
    if manifest is not None and not problems:
        problems += check_tables(splits, manifest)
    recomputed = None
    if recompute and not problems:
        if manifest is None:
            raise StorageError(f"{folder} has no manifest, so nobody knows its settings", hint="leave --recompute away")
        recomputed = recompute_rows(splits, manifest, recompute, model=model, dataset=dataset, device=device)
        worst = max(recomputed.error_by_layer.values(), default=0.0)
        n_expected = sum(min(recompute, len(Activations(split))) for split in splits.values())
        if recomputed.n_rows != n_expected:
            problems.append(f"only {recomputed.n_rows} of {n_expected} stored rows could be made again")
        if not worst <= recomputed.tolerance:
            problems.append(f"recomputed rows differ by {worst:.1e}, more than {recomputed.tolerance:.0e}")
    n_bytes = sum(file.stat().st_size for file in files)
    return Verified(folder, len(files), n_bytes, manifest is not None, problems, recomputed)
