"""What can be checked by reading: shards, counts, tables."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from actlab.formats.activations import (
    EXAMPLES,
    Activations,
    SplitMetadata,
    layer_folders,
    n_counted_shards,
    open_activations,
    read_metadata,
    read_shard,
    shard_files,
    shard_name,
    splits_of,
)
from actlab.ground.errors import ActlabError, StorageError
from actlab.ground.manifest import MANIFEST, METADATA, Manifest, stored_files


def read_splits(path: Path, manifest: Mapping[str, object] | None, _quiet: bool) -> Iterator[str]:
    """Yield what is wrong with each split's shards and counts, whether or not there is a manifest.

    Raises:
        StorageError: There is no finished dump.
    """
    splits = splits_of(path)
    if not splits and manifest is None:
        open_activations(path)  # says why there is nothing to verify
    if manifest is not None:
        expected = {Path(stored.path).parts[0] for stored in stored_files(manifest) if "/" in stored.path}
        yield from (f"{name}: the split's {METADATA} is missing" for name in sorted(expected - splits.keys()))
    for name, split in splits.items():
        yield from _check_split(name, split, manifest["fingerprint"] if manifest else None)


def _check_split(name: str, folder: Path, fingerprint_there: object) -> Iterator[str]:
    try:
        metadata = read_metadata(folder)
    except ActlabError as error:
        yield str(error)
        return
    if "fingerprint" in metadata and fingerprint_there is None:
        yield f"{MANIFEST}: missing, and {name}/{METADATA} says that there was one"
    elif metadata.get("fingerprint") != fingerprint_there:
        yield f"{name}/{METADATA}: its fingerprint is not the manifest's"
    layers = layer_folders(folder)
    expected_layers = metadata.get("layers", list(range(metadata["num_layers"])))
    if sorted(layers) != sorted(expected_layers):
        yield f"{name}: layers {sorted(layers)} are there, {expected_layers} expected"
    rows_of: dict[int, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for layer, layer_folder in layers.items():
        shards = shard_files(layer_folder)
        if list(shards) != list(range(len(shards))):
            yield f"{name}/{layer_folder.name}: its shards are {list(shards)}, not 0 to n without a gap"
        checked = {path.name: _check_shard(path, metadata["hidden_dim"]) for path in shards.values()}
        rows_of[layer] = tuple(one.n_rows for one in checked.values())
        dtypes |= {one.dtype for one in checked.values() if one.n_rows}
        yield from (
            f"{name}/{layer_folder.name}/{shard}: {what}" for shard, one in checked.items() for what in one.problems
        )
    usual = max(rows_of.values(), key=list(rows_of.values()).count, default=())
    for layer, rows in rows_of.items():
        if rows != usual:
            yield f"{name}: layer {layer} has shards of {list(rows)} rows, others of {list(usual)}"
    if len(dtypes) > 1 or ("dtype" in metadata and dtypes and dtypes != {metadata["dtype"]}):
        yield f"{name}: its shards are {', '.join(sorted(dtypes))}, not {metadata.get('dtype', 'all alike')}"
    if metadata["total_examples"] != sum(usual):
        counted = f"{name}: {METADATA} counts {metadata['total_examples']} examples, {sum(usual)} are stored"
        yield counted + _left_out(usual, metadata, folder)


def _left_out(rows: tuple[int, ...], metadata: SplitMetadata, folder: Path) -> str:
    """Say which shards readers leave out as those of another run."""
    try:
        n_counted = n_counted_shards(rows, metadata, folder)
    except StorageError:
        return ""
    return f"; {shard_name(n_counted)} and later shards are left out by readers" if n_counted < len(rows) else ""


class _Shard(NamedTuple):
    n_rows: int
    dtype: str
    problems: list[str]


def _check_shard(path: Path, hidden_dim: int) -> _Shard:
    try:
        rows_nd = read_shard(path)
    except ActlabError as error:
        return _Shard(0, "", [str(error)])
    problems = []
    if rows_nd.shape[1] != hidden_dim:
        problems.append(f"width {rows_nd.shape[1]}, not {hidden_dim}")
    if n_bad := int((~rows_nd.isfinite().all(dim=1)).sum()):
        problems.append(f"{n_bad} rows hold NaN or inf")
    return _Shard(len(rows_nd), str(rows_nd.dtype).removeprefix("torch."), problems)


def check_activations(path: Path, manifest: Manifest, _quiet: bool) -> Iterator[str]:
    """Compare the example tables with the shards, and the splits with one another."""
    shard_size = manifest["identity"]["shard_size"]
    prompts: dict[int, str] = {}
    n_shards: dict[str, int] = {}
    for name, folder in splits_of(path).items():
        acts = Activations(folder)
        table = acts.examples
        n_shards[name] = len(acts.rows_per_shard)
        lines = table["source_line"].tolist()
        if lines != sorted(set(lines)):
            yield f"{name}/{EXAMPLES}: its source lines are not ascending"
        counts = Counter((line - 1) // shard_size for line in lines)
        by_table = [counts[shard] for shard in range(n_shards[name])]
        if by_table != list(acts.rows_per_shard):
            yield f"{name}: shards of {list(acts.rows_per_shard)} rows, {by_table} by {EXAMPLES}"
        for line, prompt in zip(lines, table["prompt_id"], strict=True):
            if prompts.setdefault(line, prompt) != prompt:
                yield f"{name}: line {line} has another prompt than in another split"
    if len(set(n_shards.values())) > 1:
        yield f"the splits have different numbers of shards: {n_shards}"
