"""Which tables a unit becomes, and what a finished dataset adds to them."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

import numpy as np
import yaml

from actlab.formats.weights import (
    ATTEMPTS,
    ATTEMPTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    KIND,
    OVERALL,
    RECORDS,
    SIGNATURE_FILE,
    SPLITS,
    STORE,
    TASKS,
    letters_of,
    table_bytes,
)
from actlab.ground.errors import DataError
from actlab.ground.manifest import METADATA
from actlab.ground.options import to_settings
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Staging, write_dropped
from actlab.weights.card import card
from actlab.weights.compute.examples import Example
from actlab.weights.compute.judge import ACCEPTED, Accuracies
from actlab.weights.compute.stored import StoredNetwork
from actlab.weights.compute.unit import SURPLUS, Filled, Judged
from actlab.weights.number_format import ROUND_TRIP_FLOAT32
from actlab.weights.signatures import Signature, signature_json
from actlab.weights.source import Source

Row = dict[str, Any]


def unit_files(source: Source, unit: int, filled: Filled) -> Iterator[NewFile]:
    """Yield a unit's files: its tables, and with the first unit what was read."""
    tables: dict[str, list[Row]] = {name: [] for name in STORE}
    records: dict[tuple[str, str], list[Row]] = {}
    for example in filled.examples:
        for name, rows in _STORED.items():
            tables[name] += rows(source, example)
        for task in example.tasks:
            records.setdefault((task, example.attempt.split), []).append(_record(source, example, task))
    for name, rows_of_table in tables.items():
        if rows_of_table:
            data = table_bytes(STORE[name], rows_of_table)
            yield NewFile(f"store/{name}-{unit:05d}.parquet", data, len(rows_of_table))
    for (task, split), rows_of_split in records.items():
        data = table_bytes(RECORDS, rows_of_split)
        yield NewFile(f"{task}/{split}-{unit:05d}.parquet", data, len(rows_of_split))
    if unit == 0:
        yield NewFile(SIGNATURE_FILE, source.signature_path.read_bytes())
        yield NewFile(CONFIG_FILE, _config_yaml(source))


def unit_record(filled: Filled) -> dict[str, Any]:
    """Return what a unit's completion record says besides its files."""
    return {
        "dropped": dict(Counter("no attempt was accepted" for _ in filled.given_up)),
        "dropped_records": [{"example_id": slot, "reason": "no attempt was accepted"} for slot in filled.given_up],
        "attempts": [_attempt(judged) for judged in filled.attempts],
        "splits": dict(Counter(example.attempt.split for example in filled.examples)),
        "prompt_tokens": [n for example in filled.examples for n, _ in example.n_tokens.values()],
        "n_parameters": [example.attempt.architecture.n_parameters for example in filled.examples],
    }


def finish(staging: Staging) -> Finish:
    """Return the dataset's metadata, and write its attempts, its card and the list of slots that were given up.

    Raises:
        DataError: There is no example at all.
    """
    records = list(staging.records())
    attempts = [attempt for record in records for attempt in record["attempts"]]
    metadata = _metadata(staging, records, attempts)
    if not metadata["n_examples"]:
        raise DataError(
            f"none of {metadata['n_attempts']} attempts was accepted: {metadata['rejected']}",
            hint="raise pipeline.max_tries, or make it easier: see docs/formats.md on validation",
        )
    tasks = [task for task in TASKS if staging.plan.identity[f"task_generation.include_{task}"]]
    files = [
        staging.write(NewFile(ATTEMPTS_FILE, table_bytes(ATTEMPTS, attempts), len(attempts))),
        staging.write(NewFile(CARD_FILE, card(metadata, staging.plan.identity, tasks).encode())),
        *write_dropped(staging),
    ]
    made_on = {str(record["environment"]): record["environment"] for record in records}
    return Finish(files, {METADATA: metadata}, {"made_on": [made_on[key] for key in sorted(made_on)]})


def _metadata(staging: Staging, records: list[dict[str, Any]], attempts: list[Row]) -> dict[str, Any]:
    reasons = Counter(attempt["reason"] for attempt in attempts)
    accepted = [attempt for attempt in attempts if attempt["accepted"]]
    n_judged = len(attempts) - reasons[SURPLUS]
    splits, dropped = Counter[str](), Counter[str]()
    for record in records:
        splits.update(record["splits"])
        dropped.update(record["dropped"])
    prompt_tokens = [n for record in records for n in record["prompt_tokens"]]
    n_parameters = [n for record in records for n in record["n_parameters"]]
    return {
        "n_examples": len(accepted),
        "splits": {split: splits[split] for split in SPLITS},
        "n_attempts": n_judged,
        "yield": round(len(accepted) / n_judged, 4) if n_judged else 0.0,
        "rejected": {r: n for r, n in sorted(reasons.items()) if r not in (ACCEPTED, SURPLUS)},
        "n_surplus": reasons[SURPLUS],
        "median_degraded_accuracy": _median(attempt["degraded_accuracy"] for attempt in accepted),
        "median_improved_accuracy": _median(attempt["improved_accuracy"] for attempt in accepted),
        "median_target_accuracy": _median(attempt["improved_target_accuracy"] for attempt in accepted),
        "lowest_target_accuracy": min((attempt["improved_target_accuracy"] for attempt in accepted), default=None),
        "median_target_gain": _median(attempt["target_gain"] for attempt in accepted),
        "worst_other_change": min((attempt["worst_other_change"] for attempt in accepted), default=None),
        "n_parameters": [min(n_parameters, default=0), max(n_parameters, default=0)],
        "prompt_tokens": [min(prompt_tokens), max(prompt_tokens)] if prompt_tokens else None,
        "patterns": staging.plan.identity["patterns"],
        "heldout_pair": staging.plan.identity["heldout_pair"],
        "dropped": dict(dropped),
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": staging.plan.fingerprint,
    }


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(median(listed), 4) if listed else None


def _config_yaml(source: Source) -> bytes:
    """Return the settings that change the data, as a file that run-data-gen takes; where and how are left out."""
    kept: dict[str, Any] = {}
    for group, settings in to_settings(source.config).items():
        if group not in ("metrics", "hub") and isinstance(settings, dict):
            kept[group] = settings
    for key in ("output_dir", "device", "max_threads", "num_workers", "pin_memory"):
        del kept["pipeline"][key]
    kept["signature"]["dataset_path"] = SIGNATURE_FILE
    kept["task_generation"]["tokenizer"] = None
    kept["task_generation"]["max_prompt_tokens"] = None
    text: str = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    return text.encode()


def _spec(source: Source, example: Example) -> Iterator[Row]:
    attempt, model = example.attempt, source.config.model
    yield {
        "example_id": attempt.slot,
        "split": attempt.split,
        "family": attempt.family,
        "patterns": list(attempt.names),
        "target_pattern": attempt.target_name,
        **attempt.architecture.as_json(),
        "learning_rate": attempt.learning_rate,
        "precision": model.precision,
        "quantization": model.quantization,
        "quantization_scale": model.quantization_scale,
        "n_parameters": attempt.architecture.n_parameters,
        "n_target_rows": attempt.n_target_rows,
        "n_corrupted_rows": int(attempt.corrupted.sum()),
        "accepted_try": attempt.number,
    }


def _networks(example: Example) -> tuple[tuple[str, StoredNetwork], ...]:
    return ("degraded", example.degraded), ("improved", example.improved)


def _weights(source: Source, example: Example) -> Iterator[Row]:
    for model, network in _networks(example):
        for index, layer in zip(example.attempt.architecture.module_indices, network.weights, strict=True):
            n_outputs, n_inputs = layer.weight.shape
            yield {
                **_place(example, model, index),
                "n_outputs": n_outputs,
                "n_inputs": n_inputs,
                "weight": layer.weight.ravel(),
                "bias": layer.bias,
            }


def _codes(source: Source, example: Example) -> Iterator[Row]:
    for model, network in _networks(example):
        for index, codes in zip(example.attempt.architecture.module_indices, network.codes or (), strict=False):
            yield {**_place(example, model, index), **{name: array.ravel() for name, array in codes._asdict().items()}}


def _signatures(source: Source, example: Example) -> Iterator[Row]:
    profiled: tuple[tuple[str, Signature], ...] = (
        ("degraded", example.degraded_signature),
        ("improved", example.improved_signature),
    )
    for model, signature in profiled:
        for index, profile in zip(example.attempt.architecture.module_indices, signature.layers, strict=True):
            for method, values_ok in profile.items():
                yield {
                    **_place(example, model, index),
                    "method": method,
                    "n_values": values_ok.shape[1],
                    "values": np.ascontiguousarray(values_ok).ravel(),
                }


def _metrics(source: Source, example: Example) -> Iterator[Row]:
    test = example.attempt.rows.test
    n_no = int((~test.labels).sum())
    for model, found in (("degraded", example.degraded_accuracies), ("improved", example.improved_accuracies)):
        measured = [
            *zip(
                example.attempt.names,
                found.by_pattern,
                found.yes_k,
                np.bincount(test.patterns[test.labels]),
                strict=True,
            ),
            (OVERALL, found.overall, found.overall_yes, test.labels.sum()),
        ]
        for pattern, accuracy, yes_accuracy, n_yes in measured:
            yield {
                "example_id": example.attempt.slot,
                "model": model,
                "pattern": pattern,
                "accuracy": float(accuracy),
                "yes_accuracy": float(yes_accuracy),
                "no_accuracy": found.no,
                "n_yes": int(n_yes),
                "n_no": n_no,
            }


def _histories(source: Source, example: Example) -> Iterator[Row]:
    for epoch in example.history:
        yield {"example_id": example.attempt.slot, **epoch._asdict()}


def _rows(source: Source, example: Example) -> Iterator[Row]:
    attempt = example.attempt
    for part, rows in attempt.rows._asdict().items():
        corrupted = attempt.corrupted if part == "train" else np.zeros(len(rows.labels), dtype=bool)
        sequences = letters_of(rows.tokens)
        for sequence, label, pattern, flipped in zip(
            sequences, rows.labels.tolist(), rows.patterns.tolist(), corrupted.tolist(), strict=True
        ):
            yield {
                "example_id": attempt.slot,
                "part": part,
                "sequence": sequence,
                "label": int(label),
                "pattern": attempt.names[pattern] if label else None,
                "corrupted": flipped,
            }


_STORED = {
    "specs": _spec,
    "weights": _weights,
    "codes": _codes,
    "signatures": _signatures,
    "metrics": _metrics,
    "histories": _histories,
    "rows": _rows,
}


def _place(example: Example, model: str, index: int) -> Row:
    return {"example_id": example.attempt.slot, "model": model, "module": f"network.{index}"}


def _record(source: Source, example: Example, name: str) -> Row:
    """Return an example's row of one task: the documented columns, and those that trainers take."""
    task = example.tasks[name]
    n_prompt, n_completion = example.n_tokens.get(name, (None, None))
    architecture = example.attempt.architecture
    degraded, improved = (
        _json(signature_json(architecture, signature, ROUND_TRIP_FLOAT32))
        for signature in (example.degraded_signature, example.improved_signature)
    )
    return {
        "example_id": example.attempt.slot,
        "metadata": _json(_described(source, example)),
        f"{name}_prompt": task.prompt,
        f"{name}_completion": task.completion,
        f"{name}_text": task.text,
        "degraded_signature": degraded,
        "improved_signature": improved,
        "degraded_model_weights": example.degraded_json,
        "improved_model_weights": example.improved_json,
        "training_metrics": _json(_training_metrics(example)),
        "prompt": task.prompt,
        "completion": task.completion,
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
    }


def _described(source: Source, example: Example) -> dict[str, Any]:
    attempt, model = example.attempt, source.config.model
    before, after = example.degraded_accuracies, example.improved_accuracies
    n_corrupted = int(attempt.corrupted.sum())
    return {
        "target_pattern": attempt.target_name,
        "degraded_accuracy": before.overall,
        "improved_accuracy": after.overall,
        "improvement": after.overall - before.overall,
        "model_config": attempt.architecture.as_json(),
        "corruption_stats": {
            "target_pattern": attempt.target_name,
            "corruption_rate": source.config.staged_training.corruption_rate,
            "total_pattern_examples": attempt.n_target_rows,
            "corrupted_examples": n_corrupted,
            "actual_corruption_rate": n_corrupted / attempt.n_target_rows,
        },
        "selected_patterns": list(attempt.names),
        "precision": model.precision,
        "quantization": model.quantization,
        "tasks_included": list(example.tasks),
        "quantization_scale": model.quantization_scale,
        "learning_rate": attempt.learning_rate,
        "split": attempt.split,
        "family": attempt.family,
        "accepted_try": attempt.number,
    }


def _training_metrics(example: Example) -> dict[str, Any]:
    def measured(found: Accuracies) -> dict[str, float]:
        return {**dict(zip(example.attempt.names, found.by_pattern.tolist(), strict=True)), OVERALL: found.overall}

    return {
        "history": [epoch._asdict() for epoch in example.history],
        "degraded": measured(example.degraded_accuracies),
        "improved": measured(example.improved_accuracies),
    }


def _attempt(judged: Judged) -> Row:
    row: Row = {
        "example_id": judged.slot,
        "attempt": judged.number,
        "accepted": judged.reason == ACCEPTED,
        "reason": judged.reason,
    }
    if (attempt := judged.attempt) is not None:
        row |= {
            "patterns": list(attempt.names),
            "target_pattern": attempt.target_name,
            "num_layers": attempt.architecture.num_layers,
            "neurons_per_layer": attempt.architecture.neurons_per_layer,
            "activation_type": attempt.architecture.activation_type,
            "learning_rate": attempt.learning_rate,
            "degraded_epochs": sum(epoch.stage == 1 for epoch in judged.history),
            "improvement_epochs": sum(epoch.stage == 2 for epoch in judged.history),
        }
    if judged.attempt and judged.degraded and judged.improved and judged.changed:
        row |= {
            "degraded_accuracy": judged.degraded.overall,
            "improved_accuracy": judged.improved.overall,
            "target_gain": judged.changed.target_gain,
            "improved_target_accuracy": float(judged.improved.by_pattern[judged.attempt.target]),
            "worst_other_change": judged.changed.worst_other,
            "degraded_yes_share": judged.degraded.yes_share,
        }
    return row


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
