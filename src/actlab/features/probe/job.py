"""`actlab train-probe`: from labelled rows to probes with honest scores."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from actlab.features import kind  # noqa: F401  registers the kind
from actlab.features.probe.compute.confounds import check_confounds
from actlab.features.probe.compute.estimators import PROBE_TYPES
from actlab.features.probe.compute.fit import cross_validated, fit_probe
from actlab.features.probe.compute.scores import with_interval
from actlab.features.probe.compute.task import make_task
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.plots import plot_files
from actlab.features.probe.sink import KIND, RESULTS, Report, best_of, metadata_of
from actlab.features.probe.source.dataset import read_datasets
from actlab.features.probe.source.dumps import read_dumps
from actlab.features.split.compute.sides import VERSION as SPLIT_VERSION
from actlab.ground.integrity import read_sealed_object
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, run_job
from actlab.ground.log import log
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More
from actlab.ground.storage import SINGLE, Plan

_COPIES = 4
"""Copies of a layer's features that scaling and fitting keep at a time."""
_VERSIONS = {"split": SPLIT_VERSION, "intervals": 2, "fit": 2}
"""Of the parts whose results are others than an earlier actlab's: its probes are not taken for these."""


@dataclass(frozen=True, kw_only=True)
class Trained(Outcome):
    """What became of a probe; `path` is the folder with results.json, the weights and the plots."""

    results: dict[str, Any]
    """The content of results.json."""

    def as_json(self) -> dict[str, object]:
        """Return the folder and the results."""
        return {"path": self.path, "results": self.results}

    def tell(self) -> None:
        """Log the main score with its interval and baselines, of the best layer where there are several."""
        log.info("%s", _summary(self.results))


@takes(ProbeConfig)
def train_probe(config: ProbeConfig) -> Trained:
    """Fit linear probes, test them on held-out rows and write them; `ProbeConfig` has the settings.

    Probes that are there with the same settings and inputs are left as they are.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: ProbeConfig) -> Iterator[Sequence["ProbeJob"]]:
    """Yield the one job."""
    if config.bootstrap is not None:
        log.warning("--bootstrap has no effect any more: intervals are calculated, not resampled")
    yield [ProbeJob(config)]


class ProbeJob(DatasetJob[Trained]):
    """The probes of one dataset, the best of several by cross-validation, or of each layer of two dumps."""

    config: ProbeConfig

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__(config, config.output)
        self.candidates = read_datasets(config) if config.input else (read_dumps(config),)
        self.tasks = [make_task(one, config) for one in self.candidates]
        self.layers = self.candidates[0].layers or (None,)

    @cached_property
    def plan(self) -> Plan:
        """All that decides the folder's bytes: the settings, and what they came to for this input."""
        samples = self.candidates[0]
        inputs = [entry for one in self.candidates[1:] for entry in one.inputs if entry["role"] == "dataset"]
        identity = identity_of(self.config) | {
            "versions": _VERSIONS,
            "model_type": self.tasks[0].model_type,
            "layers": list(samples.layers),
            "split_fingerprint": samples.split_fingerprint,
        }
        return Plan(kind=KIND, identity=identity, inputs=[*samples.inputs, *inputs], units=SINGLE)

    def bar(self, units: Sequence[int]) -> Bar:
        """Count the datasets that are compared, and the probes."""
        n_compared = len(self.candidates) if len(self.candidates) > 1 else 0
        return Bar(f"probes of {self.candidates[0].name}", "probe", n_compared + len(self.layers))

    def do_unit(self, number: int, more: More) -> Done:
        """Fit the probe of every layer, one layer's features in memory at a time, and test it."""
        tried = []
        for one, its_task in zip(self.candidates, self.tasks, strict=True) if len(self.tasks) > 1 else ():
            tried.append(cross_validated(one.read(None), its_task))  # no test row is looked at
            more(1)
        place = best_of(tried) if tried else 0
        samples, task = self.candidates[place], self.tasks[place]
        confounds = check_confounds(samples.confounds, task)
        probes, times = {}, []
        for layer in self.layers:
            start = time.monotonic()
            probes[layer] = fit_probe(samples.read(layer), task, samples.scaled)
            times.append(round(time.monotonic() - start, 3))
            more(1)
        report = Report(
            config=self.config,
            samples=samples,
            task=task,
            confounds=confounds,
            probes=probes,
            chosen_from=list(zip(self.candidates, tried, strict=False)),
        )
        for line in confounds.lines():
            log.info("%s", line)
        for note in report.notes:  # a warning where it may make the scores mean something else
            log.log(logging.INFO if note in task.notes else logging.WARNING, "%s", note)
        plots = plot_files(probes, report.best) if self.config.plots else ()
        return Done(
            [*report.files(), *plots],
            {"metadata": metadata_of(self.plan, samples, task)},
            lambda: {"layers": self.layers, "training_time_sec": times},
        )

    def outcome(self) -> Trained:
        """Return what is in the folder."""
        return Trained(path=self.output, results=read_sealed_object(self.output / RESULTS))

    def cost(self) -> Cost:
        """Count the rows, without fitting: memory is that of a layer as float64, with the copies that fitting makes."""
        samples, task = self.candidates[0], self.tasks[0]
        details: dict[str, object] = {
            "model_type": task.model_type,
            "n_samples": len(samples.y),
            "n_train": len(task.train),
            "n_test": len(task.test),
            "n_groups": len(set(samples.groups.tolist())),
            "n_features": samples.n_features,
            "layers": samples.layers,
            "held_out": samples.held_out,
        }
        layers = f"{len(samples.layers)} layers, " if samples.layers else ""
        return Cost(
            path=self.output,
            n_records=len(samples.y),
            records="samples",
            bytes_of_memory=_COPIES * 8 * len(samples.y) * samples.n_features,
            notes=(
                f"{task.model_type} on {layers}{samples.n_features} features",
                "{n_samples} samples in {n_groups} groups: {n_train} to fit on, {n_test} to test on".format(**details),
                *samples.notes,
                *task.notes,
            ),
            details=details,
        )


def _summary(results: dict[str, Any]) -> str:
    layer = results.get("best_layer")
    shown, where = results, ""
    if layer is not None:
        shown, where = results["layers"][str(layer)], f"layer {layer} (the best by its folds): "
    if "chosen" in results:
        place = f"input {results['chosen_index'] + 1} of {len(results['chosen_from'])}"
        where = f"{results['chosen']} ({place}, the best by its folds): "
    target = PROBE_TYPES[shown["model_type"]].target
    score, interval = shown[target.key], shown[f"{target.key}_interval"]
    why = shown.get("no_intervals_because")
    missing = f" (no interval: {why})" if interval is None and why else ""
    leaked = {True: "", False: " (not held out)", None: " (held out: unknown)"}[shown["held_out"]]
    baselines = shown["baselines"].items()
    beside = ", ".join(f"{one.replace('_', ' ')} {with_interval(of[target.key])}" for one, of in baselines)
    return f"{where}test {target.label} {with_interval(score, interval)}{missing}{leaked}; {beside}"
