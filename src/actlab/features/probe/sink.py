"""Which files a probe becomes: results, and weights in three formats that execute nothing."""

# f feature, k class

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
import torch
from jaxtyping import Float

from actlab.features.probe.compute.confounds import Confounds
from actlab.features.probe.compute.fit import Folds, Probe
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

_SHARED = ("n_samples_total", "n_samples_train", "n_samples_test", "n_features", "model_type", "config", "metadata")
"""What the results of all layers have in common."""
_OF_CHOICE = ("dataset_path", "dataset_hash", "meta_strategy", "n_features")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was fitted, on what, and what is to be said of it."""

    config: ProbeConfig
    samples: Samples
    task: Task
    confounds: Confounds
    probes: Mapping[int | None, Probe]
    """By layer; a dataset's one probe under None."""
    chosen_from: Sequence[tuple[Samples, Folds]] = ()
    """The datasets that were compared, with how each did in the folds; none where there was no choice."""

    @property
    def best(self) -> int | None:
        """The layer with the best score in the folds, so that the test rows choose nothing; None for a dataset."""
        return list(self.probes)[best_of([probe.folds for probe in self.probes.values()])]

    @property
    def notes(self) -> list[str]:
        """What a reader has to know, of the best layer's probe."""
        probe = self.probes[self.best]
        return [*self._notes_of(probe), *self.confounds.warnings(probe.folds.cv_mean)]

    def _notes_of(self, probe: Probe) -> list[str]:
        return [*self.samples.notes, *self.task.notes, *probe.notes]

    def results(self) -> dict[str, object]:
        """Return the content of results.json.

        A dataset's has the probe's results at the top; that of dumps has them by layer, and names the best layer.
        Of several datasets only the chosen one's are there, with how each did in the folds.
        """
        best, of_best = self.best, self._of_layer(self.probes[self.best])
        about = {"held_out": self.samples.held_out, "notes": self.notes, "confounds": self.confounds.as_json()}
        if best is None:
            return of_best | about | self._choice()
        return {
            **{key: of_best[key] for key in _SHARED},
            **about,
            "best_layer": best,
            "best_layer_by": "cv_mean",
            "layers": {str(layer): self._of_layer(probe) for layer, probe in self.probes.items()},
        }

    def _choice(self) -> dict[str, object]:
        """Return what is said of a choice between datasets; nothing where there was none."""
        if not self.chosen_from:
            return {}
        tried = [
            {key: samples.about[key] for key in _OF_CHOICE}
            | {"input_layers": list(samples.input_layers), **folds._asdict()}
            for samples, folds in self.chosen_from
        ]
        own = self.samples.about["dataset_hash"]
        return {
            "chosen": self.samples.about["dataset_path"],
            "chosen_index": [one["dataset_hash"] for one in tried].index(own),  # of equal ones the first
            "chosen_by": "cv_mean",
            "chosen_from": tried,
        }

    def _of_layer(self, probe: Probe) -> dict[str, object]:
        samples, task = self.samples, self.task
        return {
            "n_samples_total": len(samples.y),
            "n_samples_train": len(task.train),
            "n_samples_test": len(task.test),
            "n_features": samples.n_features,
            "model_type": task.model_type,
            "training_time_sec": None,  # the folder depends on no clock: the time is in the log beside it
            **probe.folds._asdict(),
            "config": identity_of(self.config),
            "metadata": samples.about,
            "cv_metric": task.target.metric,
            **probe.as_json(),
            "n_groups": len(np.unique(samples.groups)),
            "n_groups_train": len(np.unique(samples.groups[task.train])),
            "n_groups_test": len(np.unique(samples.groups[task.test])),
            "split_fingerprint": samples.split_fingerprint,
            "space": samples.space,
            "held_out": samples.held_out,
            "notes": self._notes_of(probe),
        }

    def files(self) -> Iterator[NewFile]:
        """Yield the results, the weights, and for dumps each layer's metrics beside them."""
        yield NewFile(RESULTS, to_json(_finite(self.results())))
        for layer, probe in self.probes.items():
            stem = self.samples.name if layer is None else f"{layer_folder(layer)}/{self.samples.name}"
            yield from _weight_files(stem, probe, layer, self.samples)
            if layer is not None:
                yield NewFile(f"{stem}_metrics.json", to_json(_finite({"layer": layer, **self._of_layer(probe)})))


def best_of(folds: Sequence[Folds]) -> int:
    """Return the place of the best score in the folds; of equal ones the first."""
    means = [-math.inf if one.cv_mean is None else one.cv_mean for one in folds]
    return max(range(len(means)), key=means.__getitem__)


def metadata_of(plan: Plan, samples: Samples, task: Task) -> dict[str, object]:
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
    buffer = io.BytesIO()  # its bytes depend on the values alone: saved to a path, they would name it
    torch.save(torch.from_numpy(weight), buffer)
    yield NewFile(f"{stem}.pt", buffer.getvalue())
    yield NewFile(f"{stem}.safetensors", safetensors.numpy.save({"weight": weight, "bias": bias}))
    yield NewFile(f"{stem}.json", (json.dumps(described, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _float32(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    with np.errstate(over="ignore"):
        narrow = np.array(values, dtype=np.float32, order="C")
    if not np.isfinite(narrow).all():
        raise DataError("the weights do not fit into float32: a feature hardly varies", hint="rescale the features")
    return narrow


def _finite(value: object) -> object:
    """Return a JSON value in which null stands for what is no finite number."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
