"""Is a dump what it says it is? Hashes, shards, rows, numbers; and the model run again on a few rows."""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from actlab.activations.compute.selftest import TOLERANCE, relative_error
from actlab.activations.compute.states import read_states
from actlab.activations.config import ExtractConfig
from actlab.activations.extraction import Extraction
from actlab.activations.sink import DROPPED
from actlab.activations.source import scan
from actlab.backends.models import find_model
from actlab.formats.activations import (
    EXAMPLES,
    Activations,
    layer_folders,
    open_activations,
    read_metadata,
    read_shard,
    shard_files,
    split_folders,
)
from actlab.ground.errors import ActlabError, ConfigError, DataError, ModelError, StorageError
from actlab.ground.manifest import (
    MANIFEST,
    METADATA,
    fingerprint,
    n_dropped,
    read_manifest,
    sha256_of,
    stored_files,
)
from actlab.ground.options import from_settings, options_of
from actlab.ground.progress import progress
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import FORMAT_VERSION


class Recomputed(NamedTuple):
    """The model run again, one row alone, against what is stored."""

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
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    problems: list[str] = []
    if manifest is not None:
        problems += _check_manifest(folder, manifest)
        with progress("hashing", total=len(files), unit="file", quiet=quiet) as more:
            for problem in _check_files(folder, manifest, files):
                problems += problem
                more(1)
        expected = {Path(stored.path).parts[0] for stored in stored_files(manifest) if "/" in stored.path}
        problems += [f"{name}: the split's {METADATA} is missing" for name in sorted(expected - splits.keys())]
    for name, split in splits.items():
        problems += _check_split(name, split, manifest["fingerprint"] if manifest else None)
    if manifest is not None and not problems:
        problems += _check_tables(splits, manifest)
    recomputed = None
    if recompute and not problems:
        if manifest is None:
            raise StorageError(f"{folder} has no manifest, so nobody knows its settings", hint="leave --recompute away")
        recomputed = _recompute(splits, manifest, recompute, model=model, dataset=dataset, device=device)
        worst = max(recomputed.error_by_layer.values(), default=0.0)
        n_expected = sum(min(recompute, len(Activations(split))) for split in splits.values())
        if recomputed.n_rows != n_expected:
            problems.append(f"only {recomputed.n_rows} of {n_expected} stored rows could be made again")
        if not worst <= recomputed.tolerance:
            problems.append(f"recomputed rows differ by {worst:.1e}, more than {recomputed.tolerance:.0e}")
    n_bytes = sum(file.stat().st_size for file in files)
    return Verified(folder, len(files), n_bytes, manifest is not None, problems, recomputed)


def _check_manifest(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Compare the manifest with itself and with the list of what was dropped."""
    problems = []
    if manifest.get("format_version") != FORMAT_VERSION:
        problems.append(f"{MANIFEST}: format version {manifest.get('format_version')}, not {FORMAT_VERSION}")
    described = {key: manifest.get(key) for key in ("format_version", "kind", "identity", "inputs")}
    if fingerprint(described) != manifest["fingerprint"]:
        problems.append(f"{MANIFEST}: its fingerprint is not that of its settings and inputs")
    listed = folder / DROPPED
    n_listed = len(listed.read_bytes().splitlines()) if listed.is_file() else 0
    if n_listed != n_dropped(manifest):
        problems.append(f"{MANIFEST}: it counts {n_dropped(manifest)} dropped records, {n_listed} are listed")
    return problems


def _check_files(folder: Path, manifest: dict[str, Any], files: list[Path]) -> Iterator[list[str]]:
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
    yield [f"{extra}: not in the manifest" for extra in sorted(on_disk - named - {MANIFEST})]


def _check_split(name: str, folder: Path, fingerprint_there: str | None) -> list[str]:
    """Return what is wrong with one split's shards and counts, whether or not there is a manifest."""
    try:
        metadata = read_metadata(folder)
    except ActlabError as error:
        return [str(error)]
    problems: list[str] = []
    if "fingerprint" in metadata and fingerprint_there is None:
        problems.append(f"{MANIFEST}: missing, and {name}/{METADATA} says that there was one")
    elif metadata.get("fingerprint") != fingerprint_there:
        problems.append(f"{name}/{METADATA}: its fingerprint is not the manifest's")
    layers = layer_folders(folder)
    expected_layers = metadata.get("layers", list(range(int(metadata.get("num_layers", len(layers))))))
    if sorted(layers) != sorted(expected_layers):
        problems.append(f"{name}: layers {sorted(layers)} are there, {expected_layers} expected")
    rows_of: dict[int, list[int]] = {}
    dtypes: set[str] = set()
    for layer, layer_folder in layers.items():
        shards = shard_files(layer_folder)
        if list(shards) != list(range(len(shards))):
            problems.append(f"{name}/{layer_folder.name}: its shards are {list(shards)}, not 0 to n without a gap")
        rows_of[layer] = []
        for path in shards.values():
            n_rows, dtype, found = _check_shard(path, metadata["hidden_dim"])
            rows_of[layer].append(n_rows)
            dtypes |= {dtype} if n_rows else set()
            problems += [f"{name}/{layer_folder.name}/{path.name}: {one}" for one in found]
    usual = Counter(map(tuple, rows_of.values())).most_common(1)
    for layer, rows in rows_of.items():
        if tuple(rows) != usual[0][0]:
            problems.append(f"{name}: layer {layer} has shards of {rows} rows, others of {list(usual[0][0])}")
    if len(dtypes) > 1 or ("dtype" in metadata and dtypes and dtypes != {metadata["dtype"]}):
        problems.append(f"{name}: its shards are {', '.join(sorted(dtypes))}, not {metadata.get('dtype', 'all alike')}")
    total = sum(usual[0][0]) if usual else 0
    if metadata.get("total_examples") != total:
        problems.append(f"{name}: {METADATA} counts {metadata.get('total_examples')} examples, {total} are stored")
    return problems


def _check_shard(path: Path, hidden_dim: int) -> tuple[int, str, list[str]]:
    """Return a shard's rows, its dtype, and what is wrong with it."""
    try:
        rows_nd = read_shard(path)
    except ActlabError as error:
        return 0, "", [str(error)]
    problems = []
    if rows_nd.shape[1] != hidden_dim:
        problems.append(f"width {rows_nd.shape[1]}, not {hidden_dim}")
    n_bad = int((~rows_nd.isfinite().all(dim=1)).sum())
    if n_bad:
        problems.append(f"{n_bad} rows hold NaN or inf")
    return len(rows_nd), str(rows_nd.dtype).removeprefix("torch."), problems


def _check_tables(splits: dict[str, Path], manifest: dict[str, Any]) -> list[str]:
    """Compare the example tables with the shards, and the splits with one another."""
    problems = []
    shard_size = manifest["identity"]["shard_size"]
    prompts: dict[int, str] = {}
    n_shards: dict[str, int] = {}
    for name, folder in splits.items():
        acts = Activations(folder)
        table = acts.examples
        n_shards[name] = len(acts.rows_per_shard)
        lines = table["source_line"].tolist()
        if lines != sorted(set(lines)):
            problems.append(f"{name}/{EXAMPLES}: its source lines are not ascending")
        counts = Counter((line - 1) // shard_size for line in lines)
        by_table = [counts[shard] for shard in range(n_shards[name])]
        if by_table != list(acts.rows_per_shard):
            problems.append(f"{name}: shards of {list(acts.rows_per_shard)} rows, {by_table} by {EXAMPLES}")
        for line, prompt in zip(lines, table["prompt_id"], strict=True):
            if prompts.setdefault(line, prompt) != prompt:
                problems.append(f"{name}: line {line} has another prompt than in another split")
    if len(set(n_shards.values())) > 1:
        problems.append(f"the splits have different numbers of shards: {n_shards}")
    return problems


def _recompute(
    splits: dict[str, Path],
    manifest: dict[str, Any],
    n_rows: int,
    *,
    model: str | None,
    dataset: str | None,
    device: str,
) -> Recomputed:
    """Run the model again, each row alone, on rows drawn from each split."""
    extraction, source = _original(manifest, model=model, dataset=dataset, device=device)
    errors: dict[int, float] = dict.fromkeys(extraction.layers, 0.0)
    n_done = 0
    stored_dtype = torch.float32
    for name, folder in splits.items():
        acts = Activations(folder)
        lines = acts.examples["source_line"].tolist()
        draw = random.Random(derive_seed(0, "verify", name))
        chosen = {lines[row]: row for row in draw.sample(range(len(lines)), min(n_rows, len(lines)))}
        for unit in source.units:
            if not any(unit.first_line < line <= unit.first_line + unit.n_lines for line in chosen):
                continue
            examples, _ = extraction.read_examples(source, unit)
            for example in examples:
                if example.split == name and example.row.line in chosen:
                    reader = dataclasses.replace(extraction.reader([example]), dtype=None)
                    (computed_ld,) = read_states(reader, [example])
                    for place, layer in enumerate(extraction.layers):
                        stored_d = acts[layer][chosen[example.row.line]]
                        stored_dtype = stored_d.dtype
                        error = relative_error(stored_d, computed_ld[place])
                        errors[layer] = max(errors[layer], error)
                    n_done += 1
    tolerance = torch.finfo(stored_dtype).eps
    if n_done:
        tolerance += TOLERANCE[reader.backbone.dtype]
    return Recomputed(n_done, errors, tolerance)


def _original(
    manifest: dict[str, Any], *, model: str | None, dataset: str | None, device: str
) -> tuple[Extraction, Any]:
    """Find the model and the dataset that a dump was made from, and make sure that they are the same."""
    identity = manifest["identity"]
    inputs = {(entry["role"], entry["name"]): entry for entry in manifest["inputs"]}
    (dataset_name,) = (name for role, name in inputs if role == "dataset")
    path = Path(dataset or Path("Datasets/SPDatasets") / dataset_name)
    if not path.is_file():
        raise ConfigError(f"there is no {path} to recompute from", hint=f"say where {dataset_name} is: --dataset FILE")
    name = model or identity["model_name"]
    try:
        folder = find_model(name, identity["revision"], code=identity["trust_remote_code"])
    except ModelError as error:
        raise ModelError(str(error), hint="say where the model is: --model DIR") from error
    known = {option.name for option in options_of(ExtractConfig)}
    settings = {key: value for key, value in identity.items() if key in known and key != "revision"}
    here = {"model": name, "dataset": str(path), "device": device}
    config: ExtractConfig = from_settings(ExtractConfig, settings | here)
    extraction = Extraction(folder, config)
    source = scan(path, splits=config.split_names, shard_size=config.shard_size, limit=config.limit)
    for entry in [source.as_input(), *extraction.input_files]:
        there = inputs.pop((entry["role"], entry["name"]), None)
        if entry["role"] == "dataset" and there is None:
            there = inputs.pop(("dataset", dataset_name))
        if there is None or there["sha256"] != entry["sha256"]:
            flag = entry["role"]
            raise DataError(
                f"{entry['name']} is not the {flag} file that this dump was made from",
                hint=f"say where the original is: --{flag} PATH",
            )
    if inputs:
        missing = next(iter(inputs))[1]
        raise DataError(f"the model here lacks {missing}", hint="say where the original is: --model DIR")
    return extraction, source
