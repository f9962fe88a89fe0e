"""`actlab run-data-gen`: from settings to a dataset of networks' weights, a unit of slots at a time."""

import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from actlab.backends.models import environment, pick_device
from actlab.backends.threads import one_thread
from actlab.formats.weights import KIND
from actlab.ground.errors import ActlabError, ConfigError, StorageError
from actlab.ground.integrity import read_sealed_object, sealed_manifest
from actlab.ground.manifest import METADATA, InputEntry, Unit, n_dropped
from actlab.ground.options import takes
from actlab.ground.progress import More, progress
from actlab.ground.storage import (
    NewFile,
    Plan,
    Staging,
    is_complete,
    output_of,
    partial_of,
    refuse_inside_dataset,
    refuse_others,
    stage,
)
from actlab.ground.units import Part
from actlab.hub.push import push_dataset, refuse_push
from actlab.weights.compute.unit import fill, refuse_low_yield
from actlab.weights.config.data_gen import DataGenConfig
from actlab.weights.follow import curves
from actlab.weights.networks import Architecture
from actlab.weights.patterns.registry import equivalents
from actlab.weights.sink import example_files, finish, input_files, unit_record
from actlab.weights.source import Source

log = logging.getLogger("actlab")

_WATCH = "actlab-watch"

_BYTES_PER_PARAMETER = 40
"""On disk, of an example with one task: two networks in the store, texts of about nine characters a number."""
_BYTES_PER_EXAMPLE = 83_000
"""On disk, of its rows, unlisted sequences, signatures and metrics."""
_TIMES_IN_MEMORY = 9
"""What an example takes in a worker, by what it takes on disk: texts are compressed there. Measured."""


class Generated(NamedTuple):
    """What became of a run."""

    path: Path
    is_sealed: bool
    """False where other parts are still at work."""
    n_examples: int
    n_attempts: int
    n_dropped: int
    """Slots of which no try was accepted."""
    url: str | None = None
    """Where the dataset was sent."""


class PlannedGeneration(NamedTuple):
    """What a run would take."""

    path: Path
    n_units: int
    n_examples: int
    patterns: list[str]
    heldout_pair: list[str]
    n_parameters: tuple[int, int]
    """Of the smallest and the largest network."""
    bytes_to_write: int
    """About."""
    bytes_free: int
    bytes_of_memory: int
    """About, for each worker."""


class _Job:
    """The settings, met with the files that are read."""

    def __init__(self, config: DataGenConfig) -> None:
        self.config = config
        self.source = Source(config)
        if config.task_generation.include_classification:
            _refuse_two_names(self.source)
        self.output = output_of(Path(os.path.expanduser(config.pipeline.output_dir)))
        self.device = pick_device(config.pipeline.device)
        self.curves_folder = Path(os.path.expanduser(config.metrics.dir or f"{self.output}.tensorboard"))
        if config.metrics.tensorboard.enabled:
            _refuse_curves_inside(self.curves_folder, self.output)
        for note in self.source.notes:
            log.warning("%s", note)

    def plan(self) -> Plan:
        """Return all that decides the dataset's bytes, everything that is read having been read once."""
        rows = self.source.signature_rows
        if n_repeated := len(rows.tokens) - len(np.unique(rows.tokens, axis=0)):
            log.warning("%s: %d sequences come more than once", self.source.signature_path, n_repeated)
        for note in self.source.wrong_signature_labels():
            log.warning("%s: %s", self.source.signature_path, note)
        if self.source.n_tokens is not None:
            self.source.n_tokens("")
        total, size = self.config.dataset.output_dataset_length, self.config.pipeline.checkpoint_interval
        units = [
            {"unit": unit, "first": first, "n": min(size, total - first)}
            for unit, first in enumerate(range(0, total, size))
        ]
        return Plan(KIND, self.source.identity(), self.source.inputs(), units)


def _refuse_two_names(source: Source) -> None:
    """Refuse to ask which patterns a network recognises where two are one set of sequences.

    Raises:
        ConfigError: Networks that were trained on one of them recognise the other just as well.
    """
    names = {pattern.name for pattern in source.patterns}
    for name in sorted(names):
        if same := names.intersection(equivalents(name)):
            one, other = sorted((name, min(same)))
            raise ConfigError(
                f"{one} and {other} are the same sequences: a network cannot be said to recognise only one of them",
                hint="set dataset.patterns.allow_equivalent or task_generation.include_classification to false",
            )


def _refuse_curves_inside(folder: Path, output: Path) -> None:
    """Keep event files out of datasets, sealed or in the making.

    Raises:
        ActlabError: `metrics.dir` is in one.
    """
    refuse_inside_dataset(folder)
    if folder.is_file():
        raise ConfigError(f"metrics.dir {folder} is a file", hint="name a folder")
    for place in (output, partial_of(output), output.with_name(output.name + ".old")):
        if folder.resolve().is_relative_to(place.resolve()):
            raise ConfigError(f"metrics.dir {folder} is in the dataset's folder", hint="choose one beside it")


class _Done(NamedTuple):
    """A unit as a worker hands it back."""

    unit: Unit
    files: list[NewFile]
    record: dict[str, Any]
    histories: dict[int, list[dict[str, Any]]]
    """The losses of each accepted example."""
    compute_s: float


@takes(DataGenConfig)
def run_data_gen(config: DataGenConfig) -> Generated:
    """Train subject networks and write those that are accepted; `DataGenConfig` has the settings.

    A finished dataset with the same settings is left as it is, a half-made one is continued.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    job = _Job(config)
    plan = job.plan()
    if config.hub.dataset_name is not None and not is_complete(job.output):
        refuse_push(config.hub.dataset_name, private=config.hub.private, overwrite=config.overwrite)
    refuse_others(job.output, plan, overwrite=config.overwrite)
    with stage(job.output, plan, part=Part.parse(config.part or "1/1"), overwrite=config.overwrite) as dataset:
        _work(job, dataset)
        dataset.seal(finish)
    url = None
    if dataset.sealed and config.hub.dataset_name is not None:
        name, private = config.hub.dataset_name, config.hub.private
        pushed = push_dataset(dataset.output, name, private=private, overwrite=config.overwrite, quiet=config.quiet)
        url = pushed.url
    return _outcome(dataset, url)


def _work(job: _Job, dataset: Staging) -> None:
    """Do the units of this task's part that are missing."""
    config = job.config
    missing = dataset.missing()
    if not missing:
        return
    if len(missing) < config.pipeline.max_threads:
        log.warning(
            "%d of %d workers have work: pipeline.checkpoint_interval %d makes %d units",
            *(len(missing), config.pipeline.max_threads, config.pipeline.checkpoint_interval, len(dataset.plan.units)),
        )
    machine = environment(job.device)
    total = sum(unit["n"] for unit in missing)
    reasons: Counter[str] = Counter()
    with (
        progress("accepting", total=total, unit="example", quiet=config.quiet) as more,
        curves(job.curves_folder, config.metrics.tensorboard) as drawn,
    ):
        for done in _done_units(config, dataset, missing, _Tally(more)):
            dataset.commit(done.unit, done.files, done.record | {"environment": machine})
            dataset.log({"unit": done.unit["unit"], "compute_s": round(done.compute_s, 3), **machine})
            drawn.add(done.record["attempts"], done.histories)
            reasons.update(attempt["reason"] for attempt in done.record["attempts"])
            refuse_low_yield(reasons)


class _Tally:
    """Counts what was accepted and attempted, and shows it."""

    def __init__(self, more: More) -> None:
        self._more = more
        self._accepted = self._attempted = 0

    def __call__(self, accepted: int, attempted: int) -> None:
        self._accepted += accepted
        self._attempted += attempted
        share = self._accepted / max(self._attempted, 1)
        self._more(accepted, f"{self._accepted} of {self._attempted} attempts accepted, {share:.0%}")


def _done_units(config: DataGenConfig, dataset: Staging, missing: list[Unit], tally: _Tally) -> Iterator[_Done]:
    """Yield units as they are done: here, round by round, or by worker processes in any order."""
    inputs = dataset.plan.inputs
    n_workers = min(config.pipeline.max_threads, len(missing))
    if n_workers == 1:
        for unit in missing:
            yield _do_unit(config, inputs, unit, tally)
        return
    from concurrent.futures.process import BrokenProcessPool

    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    try:
        with parallel_config("loky", n_jobs=n_workers, inner_max_num_threads=1, max_nbytes=None):
            workers = Parallel(return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
            for done in workers(delayed(_work_for)(os.getpid(), config, inputs, unit) for unit in missing):
                tally(done.record["n_accepted"], done.record["n_attempted"])
                yield done
    except BrokenProcessPool as error:
        raise ActlabError(
            "a worker process was killed, perhaps for want of memory",
            hint="use fewer --workers, or free some memory, and run the same command again: finished units are kept",
        ) from error
    finally:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _work_for(parent: int, config: DataGenConfig, inputs: Sequence[InputEntry], unit: Unit) -> _Done:
    """Do a unit in a worker process, which ends when the process that it works for was killed."""
    if _WATCH not in {thread.name for thread in threading.enumerate()}:
        threading.Thread(target=_end_with, args=(parent,), name=_WATCH, daemon=True).start()
    return _do_unit(config, inputs, unit)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _do_unit(config: DataGenConfig, inputs: Sequence[InputEntry], unit: Unit, tally: _Tally | None = None) -> _Done:
    """Fill a unit's slots and make its files.

    Raises:
        StorageError: What is read is not what the plan names.
    """
    start = time.monotonic()
    source = Source(config)
    if source.inputs() != inputs:
        raise StorageError(
            "the signature dataset or the tokenizer was changed while the run was at work",
            hint="put it back and run the same command again, or give --overwrite to start anew",
        )
    slots = range(unit["first"], unit["first"] + unit["n"])
    with one_thread():
        filled = fill(source, slots, device=str(pick_device(config.pipeline.device)), told=tally or (lambda *_: None))
        files = list(example_files(source, unit["unit"], filled.examples))
    if unit["unit"] == 0:
        files += input_files(source)
    histories = {one.attempt.slot: [epoch._asdict() for epoch in one.history] for one in filled.examples}
    return _Done(unit, files, unit_record(filled), histories, time.monotonic() - start)


def _outcome(dataset: Staging, url: str | None) -> Generated:
    manifest = sealed_manifest(dataset.output) if dataset.sealed else None
    if manifest is None:
        return Generated(dataset.output, is_sealed=False, n_examples=0, n_attempts=0, n_dropped=0)
    metadata = read_sealed_object(dataset.output / METADATA)
    n = n_dropped(manifest)
    return Generated(dataset.output, True, metadata["n_examples"], metadata["n_attempts"], n, url)


@takes(DataGenConfig)
def plan_data_gen(config: DataGenConfig) -> PlannedGeneration:
    """Return what a run with these settings would do and cost, without training or writing."""
    job = _Job(config)
    plan = job.plan()
    refuse_others(job.output, plan, overwrite=config.overwrite)
    model = config.model
    smallest, largest = (
        Architecture(model.vocab_size, model.sequence_length, n_layers, n, model.activation_types[0]).n_parameters
        for n_layers, n in (
            (model.num_layers.min, model.neurons_per_layer.min),
            (model.num_layers.max, model.neurons_per_layer.max),
        )
    )
    tasks = config.task_generation.include_modification + config.task_generation.include_classification
    bytes_of_example = (smallest + largest) // 2 * _BYTES_PER_PARAMETER * tasks + _BYTES_PER_EXAMPLE
    n_in_unit = min(config.pipeline.checkpoint_interval, config.dataset.output_dataset_length)
    there = next(folder for folder in (job.output, *job.output.absolute().parents) if folder.is_dir())
    return PlannedGeneration(
        path=job.output,
        n_units=len(plan.units),
        n_examples=config.dataset.output_dataset_length,
        patterns=[pattern.name for pattern in job.source.patterns],
        heldout_pair=list(job.source.heldout_pair),
        n_parameters=(smallest, largest),
        bytes_to_write=bytes_of_example * config.dataset.output_dataset_length,
        bytes_free=shutil.disk_usage(there).free,
        bytes_of_memory=350_000_000 + _TIMES_IN_MEMORY * bytes_of_example * n_in_unit,
    )
