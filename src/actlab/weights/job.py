"""`actlab run-data-gen`: from settings to a dataset of networks' weights, a unit of slots at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from actlab.backends.models import environment, pick_device
from actlab.backends.threads import one_thread
from actlab.formats.weights import KIND, WeightsMetadata
from actlab.ground.errors import ConfigError, StorageError
from actlab.ground.integrity import read_sealed_as, sealed_manifest
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, Worker, run_job
from actlab.ground.log import log
from actlab.ground.manifest import METADATA, n_dropped
from actlab.ground.options import takes
from actlab.ground.progress import More
from actlab.ground.storage import Plan, is_complete, output_of, partial_of, refuse_inside_dataset
from actlab.hub.push import push_dataset, refuse_push
from actlab.weights import kind  # noqa: F401  registers the kind
from actlab.weights.compute.unit import fill, refuse_low_yield
from actlab.weights.config.data_gen import DataGenConfig
from actlab.weights.follow import Seen, curves
from actlab.weights.networks import Architecture
from actlab.weights.patterns.registry import equivalents
from actlab.weights.sampler import Sampler
from actlab.weights.sink import example_files, input_files, unit_record

_BYTES_PER_PARAMETER = 40
"""On disk, of an example with one task: two networks in the store, texts of about nine characters a number."""
_BYTES_PER_EXAMPLE = 83_000
"""On disk, of its rows, unlisted sequences, signatures and metrics."""
_TIMES_IN_MEMORY = 9
"""What an example takes in a worker, by what it takes on disk: texts are compressed there. Measured."""


@dataclass(frozen=True, kw_only=True)
class Generated(Outcome):
    """What became of a run; `n_dropped` counts the slots of which no try was accepted."""

    n_examples: int
    n_attempts: int
    url: str | None = None
    """Where the dataset was sent."""

    def tell(self) -> None:
        """Log how many networks were accepted, where they were sent, and which slots are empty."""
        if not self.is_sealed:
            return
        share = 100 * self.n_examples / max(self.n_attempts, 1)
        log.info("%d examples of %d networks that were judged (%.1f %%)", self.n_examples, self.n_attempts, share)
        if self.url:
            log.info("sent to %s", self.url)
        if self.n_dropped:
            log.warning("%s: %d slots have no example, listed in its dropped.jsonl", self.path, self.n_dropped)


@takes(DataGenConfig)
def run_data_gen(config: DataGenConfig) -> Generated:
    """Train subject networks and write those that are accepted; `DataGenConfig` has the settings.

    A finished dataset with the same settings is left as it is, a half-made one is continued.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: DataGenConfig) -> list[Sequence["DataGenJob"]]:
    """Return the one job."""
    return [[DataGenJob(config)]]


class DataGenJob(DatasetJob[Generated]):
    """A dataset of networks' weights, a unit of slots at a time."""

    config: DataGenConfig
    url: str | None = None

    def __init__(self, config: DataGenConfig) -> None:
        super().__init__(config, output_of(config.pipeline.output_dir))
        self.sampler = Sampler(config)
        self.device = pick_device(config.pipeline.device)
        self.curves_folder = config.metrics.dir or self.output.with_name(self.output.name + ".tensorboard")

    def __getstate__(self) -> dict[str, object]:
        kept = {**vars(self), "plan": self.plan}
        del kept["sampler"]  # read anew, and compared with the plan
        return kept

    @cached_property
    def plan(self) -> Plan:
        """All that decides the dataset's bytes, everything that is read having been read once."""
        total, size = self.config.dataset.output_dataset_length, self.config.pipeline.checkpoint_interval
        units = [
            {"unit": unit, "first": first, "n": min(size, total - first)}
            for unit, first in enumerate(range(0, total, size))
        ]
        return Plan(KIND, self.sampler.identity(), self.sampler.inputs(), units)

    def refuse(self) -> None:
        """Refuse settings that promise too much and what is in the way, and tell what is odd about what is read."""
        config, sampler = self.config, self.sampler
        if config.task_generation.include_classification:
            _refuse_two_names(sampler)
        if config.metrics.tensorboard.enabled:
            _refuse_curves_inside(self.curves_folder, self.output)
        for note in sampler.notes:
            log.warning("%s", note)
        for note in sampler.signature_notes():
            log.warning("%s: %s", sampler.signature_path, note)
        if sampler.n_tokens is not None:
            sampler.n_tokens("")  # a tokenizer that fails does so before the work
        if config.hub.dataset_name is not None and not config.dry_run and not is_complete(self.output):
            refuse_push(config.hub.dataset_name, private=config.hub.private, overwrite=config.overwrite)
        super().refuse()

    def bar(self, units: Sequence[int]) -> Bar:
        """Count accepted examples."""
        return Bar("accepting", "example", sum(self.plan.units[unit]["n"] for unit in units))

    def n_workers(self, n_units: int) -> int:
        """Return how many have a unit to do."""
        size, most = self.config.pipeline.checkpoint_interval, self.config.pipeline.max_threads
        if n_units < most:
            said = (n_units, most, size, len(self.plan.units))
            log.warning("%d of %d workers have work: pipeline.checkpoint_interval %d makes %d units", *said)
        return min(most, n_units)

    def together(self, more: More) -> More:
        """Add up the attempts, whose number is a worker's note."""
        n_accepted = n_attempted = 0

        def add(n_more: int, note: str = "0") -> None:
            nonlocal n_accepted, n_attempted
            n_accepted += n_more
            n_attempted += int(note)
            share = n_accepted / max(n_attempted, 1)
            more(n_more, f"{n_accepted} of {n_attempted} attempts accepted, {share:.0%}")

        return add

    @contextmanager
    def watch(self) -> Iterator[Callable[[Done], None]]:
        """Draw curves, and stop when too little is accepted over all units."""
        reasons: Counter[str] = Counter()
        with curves(self.curves_folder, self.config.metrics.tensorboard) as draw:

            def look(done: Done) -> None:
                assert isinstance(done.seen, Seen)
                draw(done.seen)
                reasons.update(str(attempt["reason"]) for attempt in done.seen.attempts)
                refuse_low_yield(reasons)

            yield look

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """Lend a worker of one thread: networks are small."""
        with one_thread():
            yield self.do_unit

    def do_unit(self, number: int, more: More) -> Done:
        """Fill a unit's slots and make its files.

        Raises:
            StorageError: What is read is not what the plan names.
        """
        sampler = Sampler(self.config)
        if Plan(KIND, sampler.identity(), sampler.inputs()).fingerprint != self.plan.fingerprint:
            raise StorageError(
                "the signature dataset, the tokenizer or a plugin was changed while the run was at work",
                hint="put it back and run the same command again, or give --overwrite to start anew",
            )
        unit, machine = self.plan.units[number], environment(self.device)
        slots = range(unit["first"], unit["first"] + unit["n"])
        filled = fill(sampler, slots, device=str(self.device), told=lambda n, attempted: more(n, str(attempted)))
        files = [*example_files(sampler, number, filled.examples), *(input_files(sampler) if number == 0 else ())]
        record = unit_record(filled, machine)
        histories = {one.attempt.slot: one.history for one in filled.examples}
        return Done(files, record, lambda: machine, Seen(record["attempts"], histories))

    def after(self) -> None:
        """Send the dataset to the hub, where it has a name there."""
        hub, config = self.config.hub, self.config
        if hub.dataset_name is not None:
            settings = {"private": hub.private, "overwrite": config.overwrite, "quiet": config.quiet}
            self.url = push_dataset(self.output, hub.dataset_name, **settings).url

    def outcome(self) -> Generated:
        """Return what is in the dataset, by its metadata."""
        manifest = sealed_manifest(self.output) if self.is_sealed else None
        if manifest is None:
            return Generated(path=self.output, is_sealed=False, n_examples=0, n_attempts=0)
        metadata = read_sealed_as(self.output / METADATA, WeightsMetadata)
        return Generated(
            path=self.output,
            n_dropped=n_dropped(manifest),
            n_examples=metadata["n_examples"],
            n_attempts=metadata["n_attempts"],
            url=self.url,
        )

    def cost(self) -> Cost:
        """Return about what a run would take, by networks of medium size."""
        model, sampler, n_examples = self.config.model, self.sampler, self.config.dataset.output_dataset_length
        smallest, largest = (
            Architecture(model.vocab_size, model.sequence_length, n_layers, n, model.activation_types[0]).n_parameters
            for n_layers, n in (
                (model.num_layers.min, model.neurons_per_layer.min),
                (model.num_layers.max, model.neurons_per_layer.max),
            )
        )
        tasks = self.config.task_generation.include_modification + self.config.task_generation.include_classification
        bytes_of_example = (smallest + largest) // 2 * _BYTES_PER_PARAMETER * tasks + _BYTES_PER_EXAMPLE
        names = [pattern.name for pattern in sampler.patterns]
        heldout = [f"held out: networks with both {' and '.join(sampler.heldout_pair)}"] if sampler.heldout_pair else []
        return Cost(
            path=self.output,
            n_units=len(self.plan.units),
            n_records=n_examples,
            records="examples",
            bytes_to_write=bytes_of_example * n_examples,
            bytes_of_memory=350_000_000
            + _TIMES_IN_MEMORY * bytes_of_example * min(self.config.pipeline.checkpoint_interval, n_examples),
            notes=(
                f"networks of {smallest} to {largest} parameters; the memory is that of each worker",
                f"patterns: {', '.join(names)}",
                *heldout,
            ),
            details={
                "n_examples": n_examples,
                "patterns": names,
                "heldout_pair": list(sampler.heldout_pair),
                "n_parameters": (smallest, largest),
            },
        )


def _refuse_two_names(sampler: Sampler) -> None:
    """Refuse to ask which patterns a network recognises where two are one set of sequences.

    Raises:
        ConfigError: Networks that were trained on one of them recognise the other just as well.
    """
    names = {pattern.name for pattern in sampler.patterns}
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
