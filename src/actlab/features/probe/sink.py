"""Which files a probe becomes: results, and weights in three formats that execute nothing."""

# f feature, k class

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from jaxtyping import Float

from actlab.features.probe.compute.confounds import Confounds
from actlab.features.probe.compute.fit import Probe
from actlab.features.probe.compute.task import Task
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.samples import Samples
from actlab.formats.activations import layer_folder
from actlab.ground.errors import DataError
from actlab.ground.manifest import to_json
from actlab.ground.options import identity_of
from actlab.ground.storage import FORMAT_VERSION, NewFile, Plan

KIND = "probe"
RESULTS = "results.json"

Probes = Mapping[int | None, Probe]
"""By layer; a dataset's one probe under None."""
Results = dict[str, Any]


class Chosen(NamedTuple):
    """How one of several datasets did on the training rows."""

    about: dict[str, Any]
    input_layers: tuple[int, ...]
    folds: dict[str, Any]
    """`cv_scores`, `cv_mean`, `cv_std`."""


def results_of(
    probes: Probes,
    samples: Samples,
    task: Task,
    config: ProbeConfig,
    confounds: Confounds,
    chosen_from: Sequence[Chosen] = (),
) -> Results:
    """Return the content of results.json.

    A dataset's has the probe's results at the top; that of dumps has them by layer, and names the best layer
    by cross-validation: the test rows choose nothing. Of several datasets only the chosen one's are there, with
    how each did in the folds.
    """
    by_layer = {layer: _layer_results(probe, samples, task, config) for layer, probe in probes.items()}
    if not samples.layers:
        results = by_layer[None]
        results["confounds"] = confounds.found
        results["notes"] += confounds.warnings(results["cv_mean"])
        return _finite(results | _choice(samples, chosen_from))
    best = best_layer(by_layer)
    shared = ("n_samples_total", "n_samples_train", "n_samples_test", "n_features", "model_type", "config", "metadata")
    of_best = by_layer[best]
    known = (*samples.notes, *task.notes)
    return _finite(
        {
            **{key: of_best[key] for key in shared},
            "held_out": samples.held_out,
            "notes": [
                *known,
                *(note for note in of_best["notes"] if note not in known),
                *confounds.warnings(of_best["cv_mean"]),
            ],
            "confounds": confounds.found,
            "best_layer": best,
            "best_layer_by": "cv_mean",
            "layers": {str(layer): results for layer, results in by_layer.items()},
        }
    )


def _choice(samples: Samples, chosen_from: Sequence[Chosen]) -> Results:
    """Return what is said of a choice between datasets; nothing where there was none."""
    if not chosen_from:
        return {}
    tried = [
        {
            **{key: one.about[key] for key in ("dataset_path", "dataset_hash", "meta_strategy", "n_features")},
            "input_layers": list(one.input_layers),
            **{key: one.folds[key] for key in ("cv_scores", "cv_mean", "cv_std")},
        }
        for one in chosen_from
    ]
    place = [one["dataset_hash"] for one in tried].index(samples.about["dataset_hash"])  # of equal ones the first
    return {
        "chosen": samples.about["dataset_path"],
        "chosen_index": place,
        "chosen_by": "cv_mean",
        "chosen_from": tried,
    }


def best_layer(by_layer: Mapping[int | None, Results]) -> int | None:
    """Return the layer with the best cross-validated score on the training rows; of equal ones the first."""
    return list(by_layer)[best_of([results["cv_mean"] for results in by_layer.values()])]


def best_of(cv_means: Sequence[float | None]) -> int:
    """Return the place of the best score in the folds; of equal ones the first."""
    return max(range(len(cv_means)), key=lambda place: _or_least(cv_means[place]))


def probe_files(probes: Probes, results: Results, samples: Samples) -> Iterator[NewFile]:
    """Yield the results, the weights, and for dumps each layer's metrics beside them."""
    yield NewFile(RESULTS, to_json(results))
    for layer, probe in probes.items():
        folder = "" if layer is None else f"{layer_folder(layer)}/"
        yield from _weight_files(f"{folder}{samples.name}", probe, layer, samples)
        if layer is not None:
            metrics = {"layer": layer, **results["layers"][str(layer)]}
            yield NewFile(f"{folder}{samples.name}_metrics.json", to_json(metrics))


def metadata_of(plan: Plan, samples: Samples, task: Task) -> dict[str, Any]:
    """Return the folder's metadata.json."""
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
        "results": RESULTS,
        "model_type": task.model_type,
        "name": samples.name,
        "layers": list(samples.layers),
        "n_features": samples.n_features,
        "space": samples.space,
    }


def _layer_results(probe: Probe, samples: Samples, task: Task, config: ProbeConfig) -> Results:
    known = ("cv_scores", "cv_mean", "cv_std")
    return {
        "n_samples_total": len(samples.y),
        "n_samples_train": len(task.train),
        "n_samples_test": len(task.test),
        "n_features": samples.n_features,
        "model_type": task.model_type,
        "training_time_sec": None,  # the folder depends on no clock: the time is in the log beside it
        **{key: probe.scores[key] for key in known},
        "config": identity_of(config),
        "metadata": samples.about,
        **{key: value for key, value in probe.scores.items() if key not in known},
        "n_groups": len(np.unique(samples.groups)),
        "n_groups_train": len(np.unique(samples.groups[task.train])),
        "n_groups_test": len(np.unique(samples.groups[task.test])),
        "split_fingerprint": samples.split_fingerprint,
        "space": samples.space,
        "held_out": samples.held_out,
        "notes": [*samples.notes, *task.notes, *probe.notes],
    }


def _weight_files(stem: str, probe: Probe, layer: int | None, samples: Samples) -> Iterator[NewFile]:
    weight, bias = (_float32(values) for values in (probe.weights.weight, probe.weights.intercept))
    described = {
        "space": samples.space,
        "score": "weight · x + intercept",
        "layer": layer,
        "model_name": samples.about.get("model_name"),
        "classes": list(probe.weights.classes),
        "intercept": probe.weights.intercept.tolist(),
        "weight": probe.weights.weight.tolist(),
    }
    yield NewFile(f"{stem}.pt", _pt_bytes(weight))
    yield NewFile(f"{stem}.safetensors", safetensors.numpy.save({"weight": weight, "bias": bias}))
    yield NewFile(f"{stem}.json", (json.dumps(described, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _float32(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    with np.errstate(over="ignore"):
        narrow = np.array(values, dtype=np.float32, order="C")
    if not np.isfinite(narrow).all():
        raise DataError("the weights do not fit into float32: a feature hardly varies", hint="rescale the features")
    return narrow


def _pt_bytes(weight: Float[np.ndarray, "..."]) -> bytes:
    """Return a tensor file whose bytes depend on the values alone: saved to a path, they would name it."""
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(weight), buffer)
    return buffer.getvalue()


def _or_least(score: float | None) -> float:
    return -math.inf if score is None else score


def _finite(results: Results) -> Results:
    """Return results in which null stands for what is no finite number."""
    return {key: _finite_value(value) for key, value in results.items()}


def _finite_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _finite(value)
    if isinstance(value, list | tuple):
        return [_finite_value(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
