"""`show` and `verify` of what run-data-gen writes."""

# n rows, k patterns of a network

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from actlab.backends.threads import one_thread
from actlab.formats.weights import MODELS, OVERALL, SIGNATURE_FILE, STORE, Spec, StoredRows, TaskRow, WeightsDataset
from actlab.ground.errors import DataError
from actlab.ground.hashes import sha256_of
from actlab.ground.integrity import read_sealed_object
from actlab.ground.manifest import METADATA, Manifest
from actlab.ground.options import from_settings
from actlab.ground.progress import progress
from actlab.ground.verify import sizes_of
from actlab.weights.compute.judge import Accuracies, measure, measure_unlisted
from actlab.weights.compute.recorded import architecture_of, as_rows, digits_of
from actlab.weights.compute.stored import DTYPES
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.networks import Weights
from actlab.weights.patterns.pattern import none_of
from actlab.weights.patterns.registry import PATTERNS
from actlab.weights.patterns.space import Space
from actlab.weights.prompts import parse_patterns, parse_prompt_weights, weights_json
from actlab.weights.rows import Rows
from actlab.weights.sampler import Sampler

_READ_BACK = 20
"""Examples of each task whose texts are parsed."""

_PARTS = ("train", "validation", "test")


def show_weights(folder: Path) -> dict[str, object]:
    """Return a description of a dataset of weights, as JSON.

    Raises:
        ActlabError: It is none, or damaged.
    """
    dataset = WeightsDataset(folder)
    metadata = read_sealed_object(folder / METADATA, splits=dict, kind=str)
    splits = metadata.pop("splits")  # `show` takes "splits" for those of activations
    tasks = {"tasks": list(dataset.tasks), "examples_by_split": splits}
    return {"path": str(folder), "kind": metadata["kind"], **sizes_of(folder), **tasks, **metadata}


def check_weights(folder: Path, _manifest: Manifest, quiet: bool) -> Iterator[str]:
    """Check the tables against each other, and measure every network again."""
    with one_thread():
        yield from _check_tables(WeightsDataset(folder), quiet=quiet)


def _check_tables(dataset: WeightsDataset, *, quiet: bool) -> Iterator[str]:
    sampler = Sampler(from_settings(WeightsSettings, dataset.settings()))
    read = {entry["sha256"] for entry in dataset.manifest["inputs"] if entry["role"] == "signature_dataset"}
    if sha256_of(dataset.folder / SIGNATURE_FILE) not in read:
        yield f"{SIGNATURE_FILE} is not the one that the manifest names as read"
    specs = dataset.specs()
    accepted = dataset.attempts().filter(pc.field("accepted"))
    highest = {row["example_id"]: row["highest_unlisted_accuracy"] for row in accepted.to_pylist()}
    yield from _check_specs(dataset, specs)
    yield from _check_attempts(specs, accepted)
    with progress("measuring", total=len(specs), unit="example", quiet=quiet) as more:
        by_id = {spec["example_id"]: spec for spec in specs}
        for example_ids in dataset.by_unit(by_id):
            for example in _examples(dataset, [by_id[example_id] for example_id in example_ids]):
                found = _check(example, sampler, highest.get(example.spec["example_id"]))
                yield from (f"example {example.spec['example_id']}: {what}" for what in found)
                more(1)
    for task in dataset.tasks:
        yield from _check_task(dataset, task, by_id, sampler)


def _check_specs(dataset: WeightsDataset, specs: list[Spec]) -> Iterator[str]:
    metadata = read_sealed_object(dataset.folder / METADATA, splits=dict)
    counts = Counter(spec["split"] for spec in specs)
    if metadata["n_examples"] != len(specs) or any(counts[name] != n for name, n in metadata["splits"].items()):
        yield f"{METADATA}: its counts of examples are not those of store/specs"
    ids = Counter(spec["example_id"] for spec in specs)
    yield from (f"example {example_id}: {n} rows in store/specs" for example_id, n in ids.items() if n > 1)
    splits: dict[str, set[str]] = {}
    for spec in specs:
        splits.setdefault(spec["family"], set()).add(spec["split"])
    for family, found in splits.items():
        if len(found) > 1:
            yield f"the family {family} is in {' and '.join(sorted(found))}"
    for table in STORE:
        others = dataset.ids(table) - ids.keys()
        yield from (f"example {example_id}: in store/{table}, not in store/specs" for example_id in sorted(others))


def _check_attempts(specs: list[Spec], accepted: pa.Table) -> Iterator[str]:
    columns = ("attempt", "patterns", "target_pattern", "num_layers", "neurons_per_layer", "activation_type")
    by_id: dict[int, list[dict[str, Any]]] = {}
    for row in accepted.to_pylist():
        by_id.setdefault(row["example_id"], []).append(row)
    for spec in specs:
        own = spec | {"attempt": spec["accepted_try"]}
        attempts = by_id.pop(spec["example_id"], [])
        if [[row[column] for column in columns] for row in attempts] != [[own[column] for column in columns]]:
            yield f"example {spec['example_id']}: the attempts do not have one accepted one, like it"
    yield from (f"example {example_id}: accepted in the attempts, not in store/specs" for example_id in by_id)


class _Example(NamedTuple):
    """All that the store has of an example."""

    spec: Spec
    weights: dict[str, Weights]
    """By "degraded" and "improved"."""
    codes: dict[tuple[str, str], dict[str, Any]]
    """By network and module; none without quantisation."""
    metrics: dict[tuple[str, str], dict[str, Any]]
    """By network and pattern."""
    rows: dict[str, StoredRows]
    """By part."""
    unlisted: StoredRows | None
    """Of patterns that are not its own; None where there are none."""


def _examples(dataset: WeightsDataset, specs: list[Spec]) -> Iterator[_Example]:
    ids = [spec["example_id"] for spec in specs]
    weights = dataset.weights(ids)
    rows = {part: dataset.rows(ids, part) for part in _PARTS}
    unlisted = dataset.unlisted(ids)
    codes, metrics = _keyed(dataset, "codes", ids, "module"), _keyed(dataset, "metrics", ids, "pattern")
    for spec in specs:
        example_id = spec["example_id"]
        yield _Example(
            spec,
            {model: weights[example_id, model] for model in MODELS if (example_id, model) in weights},
            codes.get(example_id, {}),
            metrics.get(example_id, {}),
            {part: rows[part][example_id] for part in _PARTS if example_id in rows[part]},
            unlisted.get(example_id),
        )


def _keyed(dataset: WeightsDataset, table: str, ids: list[int], key: str) -> dict[int, dict[tuple[str, str], Any]]:
    """Return a table's rows by example, and there by network and another column."""
    keyed: dict[int, dict[tuple[str, str], Any]] = {}
    for row in dataset.table(table, ids).to_pylist():
        keyed.setdefault(row["example_id"], {})[row["model"], row[key]] = row
    return keyed


def _check(example: _Example, sampler: Sampler, highest_unlisted: float | None) -> Iterator[str]:
    """Yield what is wrong with an example of the store; measured only where all that it takes is there."""
    spec, space = example.spec, sampler.space
    architecture = architecture_of(spec)
    for model in MODELS:
        if tuple(layer.weight.shape for layer in example.weights.get(model, ())) != architecture.sizes:
            yield f"the {model} network is missing, or its layers have other shapes"
            return
    if example.rows.keys() != set(_PARTS):
        yield "it has no rows in one of train, validation and test"
        return
    yield from _check_codes(example)
    yield from _check_rows(example.rows, spec["patterns"], space)
    test = as_rows(example.rows["test"], spec["patterns"])
    if not {-1, *range(len(spec["patterns"]))} <= set(test.patterns.tolist()):
        yield "the test rows lack one of its patterns, or negatives"
        return
    for model in MODELS:
        found = measure(architecture, example.weights[model], test, len(spec["patterns"]))
        for pattern, accuracies in _by_pattern(found, spec["patterns"]).items():
            stored = example.metrics.get((model, pattern))
            if stored is None or any(stored[name] != value for name, value in accuracies.items()):
                yield f"the {model} network's accuracies on {pattern} are not those in store/metrics"
    yield from _check_unlisted(example, test, sampler, highest_unlisted)


def _by_pattern(found: Accuracies, names: list[str]) -> dict[str, dict[str, float]]:
    accuracies = zip(
        [*names, OVERALL], [*found.by_pattern, found.overall], [*found.yes_k, found.overall_yes], strict=True
    )
    return {
        name: {"accuracy": float(both), "yes_accuracy": float(yes), "no_accuracy": found.no}
        for name, both, yes in accuracies
    }


def _check_rows(rows: dict[str, StoredRows], names: list[str], space: Space) -> Iterator[str]:
    """Ask the patterns themselves whether the labels are right, and look for sequences that come twice."""
    for part, stored in rows.items():
        own_nk = np.stack([PATTERNS[name].holds(stored.tokens, space) for name in names], axis=1)
        place_n = stored.indices(names)
        is_right_n = np.where(stored.labels, own_nk[np.arange(len(place_n)), place_n] & (place_n >= 0), ~own_nk.any(1))
        if not is_right_n.all():
            yield f"{(~is_right_n).sum()} labels of {part} rows are not what the patterns say"
    tokens_np = np.concatenate([stored.tokens for stored in rows.values()])
    if n_twice := len(tokens_np) - len(np.unique(tokens_np, axis=0)):
        yield f"{n_twice} sequences come twice in its rows"


def _check_unlisted(example: _Example, test: Rows, sampler: Sampler, highest: float | None) -> Iterator[str]:
    """Ask the patterns whether the rows of others are theirs and no rows of the network's own, and measure on them."""
    spec, stored, space = example.spec, example.unlisted, sampler.space
    if stored is None:
        if highest is not None:
            yield "it has no rows in store/unlisted"
        return
    rows = as_rows(stored, [pattern.name for pattern in sampler.patterns])
    of_own_n = ~none_of(tuple(PATTERNS[name] for name in spec["patterns"])).holds(rows.tokens, space)
    of_it_nk = np.stack([pattern.holds(rows.tokens, space) for pattern in sampler.patterns], axis=1)
    is_wrong_n = rows.labels | of_own_n | (rows.patterns < 0) | ~of_it_nk[np.arange(len(of_it_nk)), rows.patterns]
    if is_wrong_n.any():
        yield f"{is_wrong_n.sum()} rows of store/unlisted are not what the patterns say"
        return
    seen_np = np.concatenate([part.tokens for part in example.rows.values()])
    both_np = np.concatenate([rows.tokens, np.unique(seen_np, axis=0)])
    if n_twice := len(both_np) - len(np.unique(both_np, axis=0)):
        yield f"{n_twice} sequences of store/unlisted come twice, or in its rows"
    improved, negatives_np = example.weights["improved"], test.tokens[~test.labels]
    again = measure_unlisted(architecture_of(spec), improved, rows, negatives_np, sampler.patterns, space)
    if again.highest != highest:
        yield "the improved network's accuracy on unlisted patterns is not the one in the attempts"


def _check_codes(example: _Example) -> Iterator[str]:
    """Multiply the codes by their scales, as the stored floats were made."""
    spec = example.spec
    is_quantised = spec["quantization"] != "none"
    modules = [f"network.{index}" for index in architecture_of(spec).module_indices]
    if set(example.codes) != {(model, module) for model in MODELS for module in modules if is_quantised}:
        yield "its codes are not those of its layers"
        return
    for (model, module), row in example.codes.items():
        layer = example.weights[model][modules.index(module)]
        for name, values in layer._asdict().items():
            codes = torch.tensor(row[f"{name}_codes"], dtype=torch.int8).reshape(values.shape)
            scales = torch.tensor(row[f"{name}_scales"]).reshape(-1, *[1] * (values.ndim - 1))
            if not np.array_equal((codes * scales).to(DTYPES[spec["precision"]]).float().numpy(), values):
                yield f"the {model} network's {module}.{name} is not what its codes stand for"


def _check_task(dataset: WeightsDataset, task: str, specs: dict[int, Spec], sampler: Sampler) -> Iterator[str]:
    """Compare which examples a task has, and read some of its texts back to the stored numbers."""
    there = Counter((row["example_id"], split) for split, row in dataset.records(task, columns=("example_id",)))
    if there != Counter((example_id, spec["split"]) for example_id, spec in specs.items()):
        yield f"{task}: its files do not have each example of store/specs once, in its split"
    sample = list(specs)[:: max(1, len(specs) // _READ_BACK)][:_READ_BACK]
    stored = dataset.weights(sample)
    for _, row in dataset.records(task, sample, ("example_id", "prompt", "completion")):
        example_id = row["example_id"]
        networks = {model: stored.get((example_id, model), ()) for model in MODELS}
        try:
            problems = list(_check_texts(task, row, specs[example_id], networks, sampler))
        except DataError as error:
            problems = [f"cannot be read: {error}"]
        yield from (f"example {example_id}: the {task} text {what}" for what in problems)


def _check_texts(task: str, row: TaskRow, spec: Spec, networks: dict[str, Weights], sampler: Sampler) -> Iterator[str]:
    architecture, digits = architecture_of(spec), digits_of(sampler.config)
    written = {
        model: weights_json(architecture, weights, digits)
        for model, weights in networks.items()
        if len(weights) == len(architecture.sizes)
    }
    shown = weights_json(architecture, parse_prompt_weights(row["prompt"], architecture), digits)
    if shown != written.get("degraded" if task == "modification" else "improved"):
        yield "shows other weights than the stored ones"
    if task == "modification":
        is_right = row["completion"] == written.get("improved")
    else:
        candidates = [pattern.name for pattern in sampler.patterns]
        is_right = parse_patterns(row["completion"], candidates) == frozenset(spec["patterns"])
    if not is_right:
        yield "completes with another answer than the stored one"
