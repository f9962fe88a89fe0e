"""Run the model again on a few rows, each alone, and compare."""

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from actlab.activations.compute import Model
from actlab.activations.config import ExtractConfig
from actlab.activations.job import ExtractJob
from actlab.activations.source import scan
from actlab.activations.tokenise import Example
from actlab.backends.hub import find_model, model_files
from actlab.backends.proof import TOLERANCE, relative_error
from actlab.backends.reader import Reader, read_states
from actlab.formats.activations import Activations, splits_of
from actlab.ground.errors import ConfigError, DataError, ModelError
from actlab.ground.manifest import Manifest
from actlab.ground.options import from_settings, options_of
from actlab.ground.seeds import derive_seed
from actlab.ground.verify import Recomputed, Recomputing


def recompute_rows(path: Path, manifest: Manifest, asked: Recomputing) -> tuple[Recomputed, list[str]]:
    """Run the model again, each row alone, on rows drawn from each split; return what came of it, and what is wrong."""
    job = _original(manifest, model=asked.model, dataset=asked.dataset, device=asked.device)
    used = job.model
    errors: dict[int, float] = dict.fromkeys(used.layers, 0.0)
    n_done = n_asked = 0
    stored_dtype = torch.float32
    for name, folder in splits_of(path).items():
        acts = Activations(folder)
        lines = acts.examples["source_line"].tolist()
        chosen = {lines[row]: row for row in _by_length(acts.examples["n_tokens"].tolist(), asked.n_rows, split=name)}
        n_asked += len(chosen)
        for example in _examples(job, name, chosen):
            (computed_ld,) = read_states(Reader(used.backbone, used.facts, used.layers, 1, 1), [example])
            for place, layer in enumerate(used.layers):
                stored_d = acts[layer][chosen[example.row.line]]
                stored_dtype = stored_d.dtype
                errors[layer] = max(errors[layer], relative_error(stored_d, computed_ld[place]))
            n_done += 1
    tolerance = torch.finfo(stored_dtype).eps
    if n_done:
        tolerance += TOLERANCE[used.backbone.dtype]
    problems = [] if n_done == n_asked else [f"only {n_done} of {n_asked} stored rows could be made again"]
    worst = max(errors.values(), default=0.0)
    if not worst <= tolerance:
        problems.append(f"recomputed rows differ by {worst:.1e}, more than {tolerance:.0e}")
    return Recomputed(n_done, errors, tolerance), problems


def _examples(job: ExtractJob, split: str, lines: Collection[int]) -> Iterator[Example]:
    """Yield a split's examples of these source lines; units without one are not read."""
    for unit in job.source.units:
        if any(unit.first_line < line <= unit.first_line + unit.n_lines for line in lines):
            examples, _ = job.read_examples(unit)
            yield from (one for one in examples if one.split == split and one.row.line in lines)


def _by_length(lengths: Sequence[int], n_rows: int, *, split: str) -> list[int]:
    """Return rows to recompute: the longest, the shortest, and at random one of each stretch of lengths between."""
    draw = random.Random(derive_seed(0, "verify", split))
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], draw.random()))
    ends = order[: min(n_rows, 1)] + (order[-1:] if n_rows > 1 and len(order) > 1 else [])
    between, n_more = order[1:-1], min(n_rows, len(order)) - len(ends)
    bounds = [len(between) * k // max(n_more, 1) for k in range(n_more + 1)]
    return ends + [between[draw.randrange(low, high)] for low, high in itertools.pairwise(bounds)]


def _original(manifest: Manifest, *, model: str | None, dataset: str | None, device: str) -> ExtractJob:
    """Find the model and the dataset that a dump was made from, and make sure that they are the same."""
    identity = manifest["identity"]
    inputs = {(entry["role"], entry["name"]): entry for entry in manifest["inputs"]}
    (dataset_name,) = (name for role, name in inputs if role == "dataset")
    path = Path(dataset or f"Datasets/SPDatasets/{dataset_name}")
    if not path.is_file():
        raise ConfigError(f"there is no {path} to recompute from", hint=f"say where {dataset_name} is: --dataset FILE")
    name = model or identity["model_name"]
    try:
        folder = find_model(name, identity["revision"], code=identity["trust_remote_code"])
    except ModelError as error:
        raise ModelError(str(error), hint="say where the model is: --model DIR") from error
    known = {option.name for option in options_of(ExtractConfig)}
    settings = {key: value for key, value in identity.items() if key in known - {"revision", "plugins"}}
    here = {"model": name, "dataset": str(path), "device": device}
    config: ExtractConfig = from_settings(ExtractConfig, settings | here)
    made_by = Model(folder, config)
    if made_by.writes_date and "template_date" not in identity:
        raise DataError(
            "the chat template writes the date, and this dump is from before actlab kept it",
            hint="omit --recompute, or make the dump again",
        )
    source = scan(path, splits=config.split_names, shard_size=config.shard_size, limit=config.limit)
    files = [{"role": "model", **file} for file in model_files(folder, remembered=False)]
    for entry in [source.as_input(), *files]:
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
    return ExtractJob(made_by, source)
