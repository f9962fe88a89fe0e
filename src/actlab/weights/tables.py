"""The rows of a dataset's tables, from the values of an example or an attempt."""

import json
from collections.abc import Iterator

import numpy as np

from actlab.formats.weights import OVERALL, Layer, Row, letters_of
from actlab.weights.compute.examples import Example
from actlab.weights.compute.judge import ACCEPTED, Accuracies, change
from actlab.weights.compute.stored import LayerCodes
from actlab.weights.compute.unit import Judged
from actlab.weights.number_format import ROUND_TRIP_FLOAT32
from actlab.weights.sampler import Sampler
from actlab.weights.signatures import Profile, signature_json


def _spec(sampler: Sampler, example: Example) -> Iterator[Row]:
    attempt, model = example.attempt, sampler.config.model
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


def _modules(example: Example) -> Iterator[tuple[Row, Layer, LayerCodes | None, Profile]]:
    """Yield all Linears of both networks: which one it is, its weights, its codes and its signature."""
    for model, network, signature in (
        ("degraded", example.pair.degraded, example.degraded_signature),
        ("improved", example.pair.improved, example.improved_signature),
    ):
        modules = [f"network.{index}" for index in example.attempt.architecture.module_indices]
        all_codes = network.codes or [None] * len(modules)
        for module, layer, codes, profile in zip(modules, network.weights, all_codes, signature.layers, strict=True):
            yield {"example_id": example.attempt.slot, "model": model, "module": module}, layer, codes, profile


def _weights(sampler: Sampler, example: Example) -> Iterator[Row]:
    for place, layer, _, _ in _modules(example):
        n_outputs, n_inputs = layer.weight.shape
        yield {
            **place,
            "n_outputs": n_outputs,
            "n_inputs": n_inputs,
            "weight": layer.weight.ravel(),
            "bias": layer.bias,
        }


def _codes(sampler: Sampler, example: Example) -> Iterator[Row]:
    for place, _, codes, _ in _modules(example):
        if codes is not None:
            yield {**place, **{name: array.ravel() for name, array in codes._asdict().items()}}


def _signatures(sampler: Sampler, example: Example) -> Iterator[Row]:
    for place, _, _, profile in _modules(example):
        for method, values_ok in profile.items():
            yield {
                **place,
                "method": method,
                "n_values": values_ok.shape[1],
                "values": np.ascontiguousarray(values_ok).ravel(),
            }


def _metrics(sampler: Sampler, example: Example) -> Iterator[Row]:
    test = example.attempt.rows.test
    n_no = int((~test.labels).sum())
    for model, found in (("degraded", example.pair.before), ("improved", example.pair.after)):
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


def _histories(sampler: Sampler, example: Example) -> Iterator[Row]:
    for epoch in example.history:
        yield {"example_id": example.attempt.slot, **epoch._asdict()}


def _rows(sampler: Sampler, example: Example) -> Iterator[Row]:
    attempt = example.attempt
    for part, rows in attempt.rows._asdict().items():
        corrupted = attempt.corrupted if part == "train" else np.zeros(len(rows.labels), dtype=bool)
        for sequence, label, pattern, flipped in zip(
            letters_of(rows.tokens), rows.labels.tolist(), rows.patterns.tolist(), corrupted.tolist(), strict=True
        ):
            yield {
                "example_id": attempt.slot,
                "part": part,
                "sequence": sequence,
                "label": int(label),
                "pattern": attempt.names[pattern] if label else None,
                "corrupted": flipped,
            }


def _unlisted(sampler: Sampler, example: Example) -> Iterator[Row]:
    if (unlisted := example.pair.unlisted) is None:
        return
    names = [sampler.patterns[place].name for place in unlisted.rows.patterns]
    for sequence, name in zip(letters_of(unlisted.rows.tokens), names, strict=True):
        yield {"example_id": example.attempt.slot, "pattern": name, "sequence": sequence}


STORED = {
    "specs": _spec,
    "weights": _weights,
    "codes": _codes,
    "signatures": _signatures,
    "metrics": _metrics,
    "histories": _histories,
    "rows": _rows,
    "unlisted": _unlisted,
}


def task_row(sampler: Sampler, example: Example, name: str) -> Row:
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
        "metadata": _json(_described(sampler, example)),
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


def _described(sampler: Sampler, example: Example) -> Row:
    attempt, model = example.attempt, sampler.config.model
    before, after = example.pair.before, example.pair.after
    n_corrupted = int(attempt.corrupted.sum())
    return {
        "target_pattern": attempt.target_name,
        "degraded_accuracy": before.overall,
        "improved_accuracy": after.overall,
        "improvement": after.overall - before.overall,
        "model_config": attempt.architecture.as_json(),
        "corruption_stats": {
            "target_pattern": attempt.target_name,
            "corruption_rate": sampler.config.staged_training.corruption_rate,
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


def _training_metrics(example: Example) -> Row:
    def measured(found: Accuracies) -> dict[str, float]:
        return {**dict(zip(example.attempt.names, found.by_pattern.tolist(), strict=True)), OVERALL: found.overall}

    return {
        "history": [epoch._asdict() for epoch in example.history],
        "degraded": measured(example.pair.before),
        "improved": measured(example.pair.after),
    }


def attempt_row(judged: Judged) -> Row:
    """Return an attempt's row."""
    row: dict[str, object] = {
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
    if judged.attempt is not None and judged.pair is not None:
        before, after, target = judged.pair.before, judged.pair.after, judged.attempt.target
        changed = change(before, after, target)
        row |= {
            "degraded_accuracy": before.overall,
            "improved_accuracy": after.overall,
            "target_gain": changed.target_gain,
            "degraded_target_accuracy": float(before.by_pattern[target]),
            "improved_target_accuracy": float(after.by_pattern[target]),
            "lowest_improved_accuracy": float(after.by_pattern.min()),
            "highest_unlisted_accuracy": judged.pair.unlisted and judged.pair.unlisted.highest,
            "worst_other_change": changed.worst_other,
            "degraded_yes_share": before.yes_share,
        }
    return row


def _json(content: Row) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
