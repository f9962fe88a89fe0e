"""`actlab train-probe`: from labelled rows to probes with honest scores."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from actlab.features.probe.compute.confounds import Confounds, check_confounds
from actlab.features.probe.compute.fit import Probe, cross_validated, fit_probe
from actlab.features.probe.compute.task import Task, make_task
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.plots import plot_files
from actlab.features.probe.sink import KIND, RESULTS, Chosen, best_of, metadata_of, probe_files, results_of
from actlab.features.probe.source.dataset import read_datasets
from actlab.features.probe.source.dumps import read_dumps
from actlab.features.probe.source.samples import Samples
from actlab.features.split.compute.order import VERSION as SPLIT_VERSION
from actlab.ground.integrity import read_sealed_object
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, NewFile, Plan, Staging, finish_single, stage
from actlab.ground.units import Part

log = logging.getLogger("actlab")

_COPIES = 4
"""Copies of a layer's features that scaling and fitting keep at a time."""
_VERSIONS = {"split": SPLIT_VERSION, "intervals": 2, "fit": 2}
"""Of the parts whose results are others than an earlier actlab's: its probes are not taken for these."""


class Trained(NamedTuple):
    """What became of a probe."""

    path: Path
    """The folder with results.json, the weights and the plots."""
    results: dict[str, Any]
    """The content of results.json."""


class PlannedProbe(NamedTuple):
    """What training would take."""

    path: Path
    model_type: str
    n_samples: int
    n_train: int
    n_test: int
    n_groups: int
    n_features: int
    layers: tuple[int, ...]
    """Empty for a dataset, which has one probe."""
    held_out: bool | None
    notes: tuple[str, ...]
    bytes_of_memory: int
    """A rough sum: one layer's features as float64, and the copies that fitting makes."""


@takes(ProbeConfig)
def train_probe(config: ProbeConfig) -> Trained:
    """Fit linear probes, test them on held-out rows and write them; `ProbeConfig` has the settings.

    Probes that are there with the same settings and inputs are left as they are.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    if config.bootstrap is not None:
        log.warning("--bootstrap has no effect any more: intervals are calculated, not resampled")
    candidates = _read(config)
    tasks = [make_task(one, config) for one in candidates]
    plan = _plan(candidates, tasks[0], config)
    with stage(_output(config), plan, part=Part(), overwrite=config.overwrite) as dataset:
        for unit in dataset.missing():
            place, chosen_from = _choose(candidates, tasks, config)
            samples, task = candidates[place], tasks[place]
            confounds = check_confounds(samples.confounds, task)
            probes = _fit_layers(samples, task, config, dataset)
            results = results_of(probes, samples, task, config, confounds, chosen_from)
            _tell(samples, task, confounds, results)
            files = [*probe_files(probes, results, samples), *_plots(probes, results, config)]
            dataset.commit(unit, files, {"metadata": metadata_of(plan, samples, task)})
        dataset.seal(finish_single)
    return Trained(dataset.output, read_sealed_object(dataset.output / RESULTS))


@takes(ProbeConfig)
def plan_probe(config: ProbeConfig) -> PlannedProbe:
    """Return what training with these settings would do, without fitting or writing."""
    samples = _read(config)[0]
    task = make_task(samples, config)
    return PlannedProbe(
        path=_output(config),
        model_type=task.model_type,
        n_samples=len(samples.y),
        n_train=len(task.train),
        n_test=len(task.test),
        n_groups=len(set(samples.groups.tolist())),
        n_features=samples.n_features,
        layers=samples.layers,
        held_out=samples.held_out,
        notes=(*samples.notes, *task.notes),
        bytes_of_memory=_COPIES * 8 * len(samples.y) * samples.n_features,
    )


def _read(config: ProbeConfig) -> tuple[Samples, ...]:
    return read_datasets(config) if config.input else (read_dumps(config),)


def _output(config: ProbeConfig) -> Path:
    return Path(os.path.expanduser(config.output))


def _plan(candidates: Sequence[Samples], task: Task, config: ProbeConfig) -> Plan:
    """Return all that decides the folder's bytes: the settings, and what they came to for this input."""
    samples = candidates[0]
    inputs = [entry for one in candidates[1:] for entry in one.inputs if entry["role"] == "dataset"]
    identity = identity_of(config) | {
        "versions": _VERSIONS,
        "model_type": task.model_type,
        "layers": list(samples.layers),
        "split_fingerprint": samples.split_fingerprint,
    }
    return Plan(kind=KIND, identity=identity, inputs=[*samples.inputs, *inputs], units=SINGLE)


def _choose(
    candidates: Sequence[Samples], tasks: Sequence[Task], config: ProbeConfig
) -> tuple[int, tuple[Chosen, ...]]:
    """Return the place of the dataset with the best score in the folds, and how each did; no test row is looked at."""
    if len(candidates) == 1:
        return 0, ()
    tried = []
    with progress("choosing a dataset", total=len(candidates), unit="dataset", quiet=config.quiet) as more:
        for samples, task in zip(candidates, tasks, strict=True):
            tried.append(Chosen(samples.about, samples.input_layers, cross_validated(samples.read(None), task)))
            more(1)
    return best_of([one.folds["cv_mean"] for one in tried]), tuple(tried)


def _fit_layers(samples: Samples, task: Task, config: ProbeConfig, dataset: Staging) -> dict[int | None, Probe]:
    """Fit the probe of every layer, one layer's features in memory at a time."""
    probes: dict[int | None, Probe] = {}
    layers = samples.layers or (None,)
    with progress(f"probes of {samples.name}", total=len(layers), unit="probe", quiet=config.quiet) as more:
        for layer in layers:
            start = time.monotonic()
            probes[layer] = fit_probe(samples.read(layer), task, samples.scaled)
            dataset.log({"layer": layer, "training_time_sec": round(time.monotonic() - start, 3)})
            more(1)
    return probes


def _plots(probes: dict[int | None, Probe], results: dict[str, Any], config: ProbeConfig) -> Iterator[NewFile]:
    """Yield the plots, of the best layer where there are several."""
    if config.plots:
        layer = results.get("best_layer")
        yield from plot_files(probes[layer].tested, layer, results)


def _tell(samples: Samples, task: Task, confounds: Confounds, results: dict[str, Any]) -> None:
    """Warn of what may make the scores mean something else; the rest is for whoever reads on."""
    for line in confounds.lines():
        log.info("%s", line)
    for note in results["notes"]:
        log.log(logging.INFO if note in task.notes else logging.WARNING, "%s", note)
