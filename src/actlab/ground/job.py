"""Jobs: settings that have met the world. One driver runs them, whatever they make.

A command's `job.py` has `jobs_of(config)`, which finds what the settings name and gives a job for each dataset to be
made, in groups: before any work on a group all of it is refused that would fail. The command line, the Python API and
`--dry-run` go through `run_jobs` and `costs_of`.
"""

import importlib
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Generic, NamedTuple, ParamSpec, TypeVar, overload

from actlab.ground import kinds
from actlab.ground.errors import ActlabError, EmptyDatasetError
from actlab.ground.log import log
from actlab.ground.options import CommonOptions, config_of
from actlab.ground.progress import More, progress
from actlab.ground.storage import Finish, NewFile, Plan, Staging, refuse_others, stage
from actlab.ground.units import Part


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a job would take, before it is begun; None where that is not known."""

    path: Path
    """What it would write."""
    n_units: int = 1
    n_records: int | None = None
    """Sentences, documents, examples, rows: what `records` calls them."""
    records: str = "records"
    n_tokens: int | None = None
    bytes_to_write: int | None = None
    bytes_of_memory: int | None = None
    notes: tuple[str, ...] = ()
    """What a person should know besides, a line each."""
    details: Mapping[str, object] = field(default_factory=dict)
    """More numbers for programs, by their names."""

    @property
    def bytes_free(self) -> int:
        """On the disk where it would be written."""
        there = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.is_dir())
        return shutil.disk_usage(there).free

    def as_json(self) -> dict[str, object]:
        """Return all of it by name, the details among the rest."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "details"}
        return {**own, "bytes_free": self.bytes_free, **self.details}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job."""

    path: Path
    """What it wrote."""
    is_sealed: bool = True
    """False where other parts are still at work."""
    n_dropped: int = 0
    """Records that are not in it, over all reasons."""

    @property
    def falls_short(self) -> bool:
        """Whether something that was asked for is not there (exit status 3)."""
        return self.n_dropped > 0

    def as_json(self) -> dict[str, object]:
        """Return all of it by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def tell(self) -> None:
        """Log what a person should know besides the path."""


Result = TypeVar("Result", bound=Outcome)
Settings = ParamSpec("Settings")
Result_co = TypeVar("Result_co", bound=Outcome, covariant=True)


class Job(ABC, Generic[Result_co]):
    """What is to be made, and how."""

    @abstractmethod
    def refuse(self) -> None:
        """Refuse early what would fail later: something else is where the output goes."""

    @abstractmethod
    def run(self) -> None:
        """Make it, unless it is there already with the same settings and inputs."""

    @abstractmethod
    def outcome(self) -> Result_co:
        """Return what is there now."""

    @abstractmethod
    def cost(self) -> Cost:
        """Return what `run` would take, writing nothing."""


Jobs = Iterable[Sequence[Job[Result_co]]]
"""What `jobs_of` gives: groups of jobs, each opened when the groups before it are done."""


class Done(NamedTuple):
    """What came of a unit."""

    files: Iterable[NewFile]
    """May be made while they are written."""
    record: Mapping[str, object] | Callable[[], Mapping[str, object]]
    """What its completion record says besides its files; a function is called when they are written."""
    event: Callable[[], Mapping[str, object]] | None = None
    """Tells what the log beside the output says of it, called when they are written; None where there is no log."""
    seen: object = None
    """What `watch` is shown of it besides, and nobody writes."""


Worker = Callable[[int, More], Done]
"""Does the unit of a number; told how far it is, it moves the bar."""


class Bar(NamedTuple):
    """How the progress of units is shown."""

    label: str
    unit: str
    """What is counted, as "sentence"."""
    total: int


class DatasetJob(Job[Result]):
    """A dataset's folder, made unit by unit."""

    is_sealed = False
    """Whether `run` ended with the dataset published."""

    def __init__(self, config: CommonOptions, output: Path) -> None:
        self.config = config
        self.output = output

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """All that decides the dataset's bytes; the same at each call."""

    def open(self) -> AbstractContextManager[Worker]:
        """Lend a worker, which holds what is expensive, such as a model, from its first unit on."""
        return nullcontext(self.do_unit)

    def do_unit(self, number: int, more: More) -> Done:
        """Do the unit of a number, where `open` lends no other worker; told how far it is, `more` moves the bar."""
        raise NotImplementedError

    def bar(self, units: Sequence[int]) -> Bar | None:
        """Return how progress over these units is shown; None where a worker shows its own."""
        return None

    def n_workers(self, n_units: int) -> int:
        """Return how many processes do so many missing units.

        A job that answers more than 1 is pickled with its plan: its `__getstate__` leaves out what is opened anew.
        """
        return 1

    def together(self, more: More) -> More:
        """Return what the workers tell how far they are: `more`, or what adds up their notes for it."""
        return more

    def watch(self) -> AbstractContextManager[Callable[[Done], None]]:
        """Lend what looks at each unit when it is written, in this process: it may follow the run, or stop it."""
        return nullcontext(lambda done: None)

    def is_to_be_made_again(self) -> bool:
        """Whether a dataset that is complete has to be made anew, after a change that the plan does not know of."""
        return False

    def finish(self, staging: Staging) -> Finish:
        """Make what the dataset has besides its units' files."""
        return kinds.kind_named(self.plan.kind, self.output).finish(staging)

    def after(self) -> None:
        """Do what is left to do when the dataset is published."""

    @property
    def part(self) -> Part:
        """The share of the units that is this task's."""
        return Part.parse(getattr(self.config, "part", None) or "1/1")

    def refuse(self) -> None:
        """Refuse a dataset that was made or begun with other settings or inputs.

        Raises:
            StorageError: There is one.
        """
        refuse_others(self.output, self.plan, overwrite=self.config.overwrite)

    def run(self) -> None:
        """Do this part's units that are missing, and publish the dataset when none is."""
        overwrite, again = self.config.overwrite, self.is_to_be_made_again()
        with stage(self.output, self.plan, part=self.part, overwrite=overwrite, again=again) as dataset:
            if missing := [unit["unit"] for unit in dataset.missing()]:
                self._work(dataset, missing)
            dataset.seal(self.finish)
        self.is_sealed = dataset.sealed
        if dataset.sealed:
            self.after()

    def _work(self, dataset: Staging, missing: Sequence[int]) -> None:
        bar = self.bar(missing)
        label, unit, total = bar or ("", "", 0)
        units = {one["unit"]: one for one in self.plan.units}
        with (
            progress(label, total=total, unit=unit, quiet=self.config.quiet or bar is None) as more,
            self.watch() as look,
            closing(self._done(missing, self.together(more))) as all_done,
        ):
            start = time.monotonic()
            for number, done in all_done:
                dataset.commit(units[number], done.files, done.record)
                elapsed_s = round(time.monotonic() - start, 3)
                if done.event is not None:
                    dataset.log({"unit": number, "part": str(self.part), "compute_s": elapsed_s, **done.event()})
                look(done)
                start = time.monotonic()

    def _done(self, missing: Sequence[int], more: More) -> Generator[tuple[int, Done], None, None]:
        """Do units, here in their order or in processes of their own in any."""
        if (n_workers := self.n_workers(len(missing))) > 1:
            from actlab.ground.execute import done_by_processes

            yield from done_by_processes(self, missing, n_workers, more)
            return
        with self.open() as worker:
            for number in missing:
                yield number, worker(number, more)


class FileJob(Job[Result]):
    """One file, written whole."""

    @abstractmethod
    def is_there(self) -> bool:
        """Whether the file is there already, with the same settings and inputs.

        Raises:
            StorageError: Something else is.
        """

    @abstractmethod
    def write(self) -> None:
        """Make the file."""

    def refuse(self) -> None:
        """Refuse what is in the way."""
        self.is_there()

    def run(self) -> None:
        """Write the file, unless it is there."""
        if not self.is_there():
            self.write()


def run_jobs(groups: Jobs[Result]) -> list[Result]:
    """Run jobs one after another, and return what came of each.

    A dataset of which nothing is left costs no other: it is the error when all others are done.

    Raises:
        ActlabError: Something is wrong that the user can fix; what was finished before is the error's `done`.
    """
    done: list[Result] = []
    try:
        for outcome in _run_all(groups):
            done.append(outcome)
    except ActlabError as error:
        error.done = tuple(done)
        raise
    return done


def _run_all(groups: Jobs[Result]) -> Iterator[Result]:
    empty: list[EmptyDatasetError] = []
    for jobs in groups:
        for job in jobs:
            job.refuse()
        for job in jobs:
            try:
                job.run()
            except EmptyDatasetError as error:
                empty.append(error)
                continue
            yield job.outcome()
    for other in empty[1:]:
        log.warning("%s", other)
    if empty:
        raise empty[0]


def run_job(groups: Jobs[Result]) -> Result:
    """Run the one job of a command that makes one dataset."""
    (outcome,) = run_jobs(groups)
    return outcome


def costs_of(groups: Jobs[Outcome]) -> list[Cost]:
    """Return what jobs would take, writing nothing.

    Raises:
        ActlabError: One would be refused.
    """
    costs = []
    for jobs in groups:
        for job in jobs:
            job.refuse()
        costs += [job.cost() for job in jobs]
    return costs


@overload
def cost(command: CommonOptions, /) -> list[Cost]: ...


@overload
def cost(command: Callable[Settings, object], /, *given: Settings.args, **settings: Settings.kwargs) -> list[Cost]: ...


def cost(command: CommonOptions | Callable[..., object], /, *given: object, **settings: object) -> list[Cost]:
    """Return what each dataset that a command would make would take: `--dry-run` of the Python API.

    `cost(actlab.extract_activations, model="actlab/tiny", layers="0-3")` takes what the function takes; a command's
    config will do too.

    Raises:
        ActlabError: What the run would be refused for.
    """
    config = command if isinstance(command, CommonOptions) else config_of(command, *given, **settings)
    if not isinstance(config, CommonOptions):
        raise TypeError(f"{command!r} makes no dataset")
    return costs_of(jobs_of(replace(config, dry_run=True)))


def jobs_of(config: CommonOptions) -> Jobs[Outcome]:
    """Return a command's jobs for its settings, by the `jobs_of` in the room that the config names."""
    jobs: Jobs[Outcome] = importlib.import_module(config.job).jobs_of(config)
    return jobs
