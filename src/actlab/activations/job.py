"""`actlab extract-activations`: from prompts and responses to a dump of residual streams."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from actlab.activations import kind  # noqa: F401  registers the kind
from actlab.activations.compute import Model, UnitStates, states_of
from actlab.activations.config import ExtractConfig
from actlab.activations.sink import unit_files, unit_record
from actlab.activations.source import Dropped, Row, Source, UnitLines, find_datasets, read_unit, refuse, scan
from actlab.activations.tokenise import OVER_LIMIT, Example, Tokens
from actlab.backends.hub import find_model
from actlab.backends.memory import freed_memory_kept
from actlab.backends.models import environment
from actlab.backends.reader import Reader
from actlab.formats.activations import KIND, read_metadata
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, Worker, run_jobs
from actlab.ground.log import log
from actlab.ground.manifest import n_dropped
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More, progress
from actlab.ground.storage import Plan, partial_of, plan_of_manifest, read_plan, safe_name

_UNITS_TESTED = 16
"""Units, evenly spaced, whose examples the self-test chooses from."""


@dataclass(frozen=True, kw_only=True)
class Extracted(Outcome):
    """What became of one model on one dataset; `path` is the dump's folder, {root}/{model}/{dataset}."""

    n_examples: int
    n_truncated: int
    """Examples that were cut to the limit."""

    def tell(self) -> None:
        """Log what was cut or dropped."""
        if self.is_sealed and not self.n_examples:  # an earlier version sealed it
            log.warning("%s: it is empty, every record was dropped", self.path)
        if self.n_truncated:
            log.info("%s: %d of %d examples were cut to the limit", self.path, self.n_truncated, self.n_examples)
        if self.n_dropped:
            log.warning("%s: %d records dropped, listed in its dropped.jsonl", self.path, self.n_dropped)


@takes(ExtractConfig)
def extract_activations(config: ExtractConfig) -> list[Extracted]:
    """Save the residual stream of every model on every dataset; `ExtractConfig` has the settings.

    A finished dump with the same settings is left as it is, a half-made one is continued.

    Raises:
        ActlabError: Something is wrong that the user can fix; its hint says how. A dataset of which nothing is left
            costs no other: all others are done first, and are the error's `done`.
    """
    return run_jobs(jobs_of(config))


@takes(ExtractConfig)
def preview_texts(config: ExtractConfig) -> Iterator[str]:
    """Yield the first joined texts as the first model sees them, the saved token between ⟦ and ⟧."""
    job = next(iter(jobs_of(config)))[0]
    examples = (example for unit in job.source.units for example in job.read_examples(unit)[0])
    for example in itertools.islice(examples, config.preview or 1):
        cut = f", {example.n_truncated} cut" if example.n_truncated else ""
        yield (
            f"--- {job.source.name} line {example.row.line}, {example.split}: {len(example.ids)} tokens{cut}\n"
            + job.tokens.mark(example)
        )


def jobs_of(config: ExtractConfig) -> Iterator[Sequence["ExtractJob"]]:
    """Yield, for each model, a job for each dataset; a model is forgotten when its jobs are done."""
    sources = [
        scan(path, splits=config.split_names, shard_size=config.shard_size, limit=config.limit)
        for path in find_datasets(config.dataset)
    ]
    is_to_run = config.preview is None and not config.dry_run
    found = [
        find_model(name, config.revision, weights=is_to_run, code=config.trust_remote_code) for name in config.model
    ]
    names = [safe_name(folder.folder_name, "model") for folder in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two models would be named {name}",
                hint="run them one by one into two --output roots",
            )
    for folder in found:
        model = Model(folder, config)
        yield [ExtractJob(model, source) for source in sources]


class ExtractJob(DatasetJob[Extracted]):
    """One model on one dataset."""

    config: ExtractConfig

    def __init__(self, model: Model, source: Source) -> None:
        super().__init__(model.config, model.config.output / model.folder.folder_name / source.name)
        self.model = model
        self.source = source

    def refuse(self) -> None:
        """Refuse a dump that was made or begun otherwise; without its weights a model is not known well enough."""
        if not self.config.dry_run:
            super().refuse()

    @cached_property
    def plan(self) -> Plan:
        """All that decides the dump's bytes: the settings, and what they came to for this model and file."""
        return self._plan(self.tokens.today)

    def _plan(self, today: str | None) -> Plan:
        model, source = self.model, self.source
        identity = identity_of(self.config) | {
            "splits": list(source.splits),
            "layers": list(model.layers),
            "max_length": model.max_tokens,
            "model_name": model.folder.name,
            "revision": model.folder.revision,
            "dataset_name": source.name,
            "num_layers": model.facts.n_layers,
            "hidden_dim": model.facts.hidden_dim,
        }
        identity.pop("template_date", None)
        if today is not None:
            identity["template_date"] = today  # in the same place whether or not it was given
        units = [unit._asdict() for unit in source.units]
        return Plan(KIND, identity, [source.as_input(), *model.input_files], units)

    @cached_property
    def tokens(self) -> Tokens:
        """What makes examples of the dataset's rows."""
        return self.model.tokens(self._today() if self.model.writes_date else None)

    def _today(self) -> str:
        """Return the day that the chat template writes: the one given, or on which the dump was begun, or today."""
        if self.config.template_date is not None:
            return self.config.template_date
        for there in (read_plan(partial_of(self.output)), plan_of_manifest(self.output)):
            day = there.identity.get("template_date") if there is not None else None
            if there is not None and day and there.fingerprint == self._plan(day).fingerprint:
                return str(day)
        return date.today().isoformat()

    def read_examples(self, unit: UnitLines) -> tuple[list[Example], list[Dropped]]:
        """Read and tokenise one unit's lines."""
        lines = list(read_unit(self.source, unit))
        made = list(self.tokens.examples(one for one in lines if isinstance(one, Row)))
        examples = [one for one in made if isinstance(one, Example)]
        return examples, [one for one in (*lines, *made) if isinstance(one, Dropped)]

    @cached_property
    def reader(self) -> Reader:
        """The model, loaded, and tested on examples from all over the dataset.

        The examples are the same whichever units are done here, so that every part and every resumed run makes
        the same batches. Where some units, evenly spaced, have none, they are of the first unit that has.
        """
        units = self.source.units
        evenly = units[:: -(-len(units) // _UNITS_TESTED)]
        sampled = [one for unit in evenly for one in self.read_examples(unit)[0]]
        return self.model.reader(sampled or next(filter(None, (self.read_examples(unit)[0] for unit in units)), []))

    def bar(self, units: Sequence[int]) -> Bar:
        """Count examples."""
        total = sum(self.source.units[unit].n_lines for unit in units) * len(self.source.splits)
        return Bar(f"{self.model.folder.name} on {self.source.name}", "example", total)

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """Lend a worker, which loads the model when a unit has an example."""
        with freed_memory_kept():
            yield self.do_unit

    def do_unit(self, number: int, more: More) -> Done:
        """Return what one unit writes; `more` is told how many further examples are done."""
        unit = self.source.units[number]
        result = self._compute(unit, more)
        machine = environment(self.model.device, self.model.backbone.module if result.examples else None)
        return Done(
            unit_files(
                *(unit, result),
                splits=self.source.splits,
                layers=self.model.layers,
                shard_size=self.config.shard_size,
            ),
            unit_record(result, self.tokens.token_text, machine),
            lambda: {
                "n_examples": len(result.examples),
                "n_tokens": sum(len(example.ids) for example in result.examples),
                "n_dropped": len(result.dropped),
                **machine,
            },
        )

    def _compute(self, unit: UnitLines, more: More) -> UnitStates:
        """Return the states of one unit's examples."""
        examples, dropped = self.read_examples(unit)
        self._refuse_bad(dropped)
        more(unit.n_lines * len(self.source.splits) - len(examples))
        if not examples:
            return self.model.no_states(dropped)
        result = states_of(self.reader, examples, dropped, more)
        self._refuse_bad(result.dropped)
        return result

    def _refuse_bad(self, dropped: Sequence[Dropped]) -> None:
        for one in dropped:
            if one.reason == OVER_LIMIT:
                raise DataError(
                    f"{self.source.path}, line {one.line}, {one.split}: more than {self.model.max_tokens} tokens",
                    hint="raise --max-length (the model's own limit stays), or choose another --truncate",
                )
            if self.config.on_bad == "error":
                raise refuse(one, self.source)

    def outcome(self) -> Extracted:
        """Return what is in the dump, by its metadata."""
        manifest = sealed_manifest(self.output) if self.is_sealed else None
        if manifest is None:
            return Extracted(path=self.output, is_sealed=False, n_examples=0, n_truncated=0)
        splits = [read_metadata(self.output / split) for split in self.source.splits]
        return Extracted(
            path=self.output,
            n_examples=sum(split["total_examples"] for split in splits),
            n_truncated=sum(split.get("truncated_examples") or 0 for split in splits),
            n_dropped=n_dropped(manifest),
        )

    def cost(self) -> Cost:
        """Tokenise everything, without loading the model's weights."""
        n_examples = n_tokens = n_truncated = n_dropped = 0
        units = self.source.units
        with progress("tokenising", total=self.source.n_lines, unit="line", quiet=self.config.quiet) as more:
            for unit in units:
                examples, dropped = self.read_examples(unit)
                n_examples += len(examples)
                n_dropped += len(dropped)
                n_tokens += sum(len(example.ids) for example in examples)
                n_truncated += sum(example.n_truncated > 0 for example in examples)
                more(unit.n_lines)
        details = {
            "n_lines": self.source.n_lines,
            "n_examples": n_examples,
            "n_truncated": n_truncated,
            "n_dropped": n_dropped,
        }
        most_examples = max(unit.n_lines for unit in units) * len(self.source.splits)
        return Cost(
            path=self.output,
            n_units=len(units),
            n_records=n_examples,
            records="examples",
            n_tokens=n_tokens,
            bytes_to_write=n_examples * self.model.bytes_per_example,
            bytes_of_memory=self.model.bytes_of_memory(most_examples),
            notes=(f"of {self.source.n_lines} lines; {n_truncated} would be cut short, {n_dropped} dropped",),
            details=details,
        )
