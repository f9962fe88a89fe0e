"""One model at work on its datasets: tokenizer, layers, plan, and the model itself once it is needed."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from actlab.activations.compute import NOT_FINITE, OVER_LIMIT, Example, Tokens, asks_the_clock
from actlab.activations.config import ExtractConfig
from actlab.activations.sink import UnitStates, unit_files, unit_record
from actlab.activations.source import Dropped, Row, Source, UnitLines, read_unit, refuse
from actlab.backends.hub import ModelFolder, model_files, weights_bytes
from actlab.backends.models import (
    Backbone,
    Loading,
    ModelFacts,
    environment,
    load_backbone,
    load_tokenizer,
    pick_device,
    read_facts,
    token_limit,
)
from actlab.backends.proof import BLOCKS_IN_FLOAT32
from actlab.backends.reader import Reader, read_states
from actlab.backends.selftest import load_reader
from actlab.formats.activations import DTYPES, KIND
from actlab.ground.errors import ConfigError, DataError, ModelError
from actlab.ground.layers import parse_layers
from actlab.ground.manifest import InputEntry
from actlab.ground.options import identity_of
from actlab.ground.storage import NewFile, Plan, partial_of, plan_of_manifest, read_plan
from actlab.ground.units import Part

log = logging.getLogger("actlab")

_UNITS_TESTED = 16
"""Units, evenly spaced, whose examples the self-test chooses from."""


class UnitDone(NamedTuple):
    """What a unit writes, says of itself, and logs."""

    files: Iterator[NewFile]
    record: dict[str, Any]
    event: dict[str, Any]


class Extraction:
    """One model and one set of settings. The weights are loaded when the first unit needs them."""

    def __init__(self, model: ModelFolder, config: ExtractConfig) -> None:
        self.model = model
        self.config = config
        self.part = Part.parse(config.part or "1/1")
        self.device = pick_device(config.device)
        self.facts: ModelFacts = read_facts(model, trust_remote_code=config.trust_remote_code)
        self.layers = parse_layers(config.layers, self.facts.n_layers)
        self._tokenizer = load_tokenizer(model, trust_remote_code=config.trust_remote_code)
        self._max_tokens = token_limit(self.facts, self._tokenizer, config.max_length)
        self.writes_date: bool = config.chat_template and asks_the_clock(self._tokenizer)
        if config.template_date is not None and not self.writes_date:
            raise ConfigError(f"the chat template of {model.name} writes no date", hint="omit --template-date")
        self._tokens: dict[Path, Tokens] = {}
        self._readers: dict[Path, Reader] = {}

    @cached_property
    def input_files(self) -> list[InputEntry]:
        """The model's files, hashed."""
        return [{"role": "model", **file} for file in model_files(self.model)]

    @property
    def saved_dtype(self) -> torch.dtype:
        """The dtype to save, as far as the settings and the model's config tell."""
        names = (self.config.dtype, self.config.model_dtype, str(self.facts.config.dtype or "float32"))
        name = next(name for name in names if name not in ("model", "auto"))
        return self._checked_dtype(name.removeprefix("torch."))

    def _checked_dtype(self, name: str) -> torch.dtype:
        for dtype in DTYPES:
            if str(dtype) == f"torch.{name}":
                return dtype
        raise ModelError(f"{self.model.name} computes in {name}, which shards cannot hold", hint="give --dtype float32")

    @property
    def bytes_per_example(self) -> int:
        """Bytes that one example adds to the dump, over all layers."""
        return len(self.layers) * self.facts.hidden_dim * self.saved_dtype.itemsize

    def bytes_of_memory(self, source: Source) -> int:
        """Return about what memory a run takes: the weights, the self-test or one unit's states, and one batch."""
        unit = max(unit.n_lines for unit in source.units) * len(source.splits) * self.bytes_per_example
        batch = self.config.batch_tokens * self.facts.hidden_dim * 4 * 16
        weights = weights_bytes(self.model)
        return weights + max(unit, self._bytes_of_self_test(weights)) + batch

    def _bytes_of_self_test(self, weights: int) -> int:
        """Return the size of the float32 copy of the first blocks that a model in half precision is tested on."""
        dtype = str(self.facts.config.dtype if self.config.model_dtype == "auto" else self.config.model_dtype)
        if self.config.load_in_4bit or not dtype.endswith("float16"):
            return 0
        return int(2 * weights * min(1.0, BLOCKS_IN_FLOAT32 / self.facts.n_layers))

    def output(self, source: Source) -> Path:
        """Return the folder of this model's dump of a dataset."""
        return Path(os.path.expanduser(self.config.output)) / self.model.folder_name / source.name

    def tokens(self, source: Source) -> Tokens:
        """Return what makes examples of a dataset's rows."""
        if source.path not in self._tokens:
            today = self._today(source) if self.writes_date else None
            self._tokens[source.path] = Tokens(self._tokenizer, self.config, self._max_tokens, today)
        return self._tokens[source.path]

    def _today(self, source: Source) -> str:
        """Return the day that the chat template writes: the one given, or on which the dump was begun, or today."""
        if self.config.template_date is not None:
            return self.config.template_date
        output = self.output(source)
        for there in (read_plan(partial_of(output)), plan_of_manifest(output)):
            day = there.identity.get("template_date") if there is not None else None
            if there is not None and day and there.fingerprint == self._plan(source, day).fingerprint:
                return str(day)
        return date.today().isoformat()

    def plan(self, source: Source) -> Plan:
        """Return all that decides the dump's bytes: the settings, and what they came to for this model and file."""
        return self._plan(source, self.tokens(source).today)

    def _plan(self, source: Source, today: str | None) -> Plan:
        identity = identity_of(self.config) | {
            "splits": list(source.splits),
            "layers": list(self.layers),
            "max_length": self._max_tokens,
            "model_name": self.model.name,
            "revision": self.model.revision,
            "dataset_name": source.name,
            "num_layers": self.facts.n_layers,
            "hidden_dim": self.facts.hidden_dim,
        }
        identity.pop("template_date", None)
        if today is not None:
            identity["template_date"] = today  # in the same place whether or not it was given
        units = [unit._asdict() for unit in source.units]
        return Plan(KIND, identity, [source.as_input(), *self.input_files], units)

    def do_unit(self, source: Source, unit: UnitLines, more: Callable[[int], None]) -> UnitDone:
        """Return what one unit writes; `more` is told how many further examples are done."""
        start = time.monotonic()
        result = self._compute(source, unit, more)
        machine = environment(self.device, self.backbone.module if result.examples else None)
        event = {
            "unit": unit.unit,
            "part": str(self.part),
            "n_examples": len(result.examples),
            "n_tokens": sum(len(example.ids) for example in result.examples),
            "n_dropped": len(result.dropped),
            "compute_s": round(time.monotonic() - start, 3),
            **machine,
        }
        return UnitDone(
            unit_files(unit, result, splits=source.splits, layers=self.layers, shard_size=self.config.shard_size),
            unit_record(result, self.tokens(source).token_text, machine),
            event,
        )

    def read_examples(self, source: Source, unit: UnitLines) -> tuple[list[Example], list[Dropped]]:
        """Read and tokenise one unit's lines."""
        dropped: list[Dropped] = []
        rows: list[Row] = []
        for one in read_unit(source, unit):
            if isinstance(one, Row):
                rows.append(one)
            else:
                dropped.append(one)
        examples: list[Example] = []
        for made in self.tokens(source).examples(rows):
            if isinstance(made, Example):
                examples.append(made)
            else:
                dropped.append(made)
        return examples, dropped

    @cached_property
    def loading(self) -> Loading:
        """How the model is loaded."""
        return Loading(
            model=self.model,
            facts=self.facts,
            deepest=max(self.layers),
            dtype=self.config.model_dtype,
            device=self.device,
            load_in_4bit=self.config.load_in_4bit,
            trust_remote_code=self.config.trust_remote_code,
        )

    @cached_property
    def backbone(self) -> Backbone:
        """The model, loaded once for all datasets."""
        return load_backbone(self.loading)

    def reader(self, source: Source) -> Reader:
        """Return the model, loaded, and tested on examples from all over the dataset.

        The examples are the same whichever units are done here, so that every part and every resumed run makes
        the same batches.
        """
        if source.path not in self._readers:
            reader = load_reader(
                self.loading,
                self.layers,
                self._sample(source),
                batch_size=self.config.batch_size,
                batch_tokens=self.config.batch_tokens,
                load=lambda _: self.backbone,
                ask_cpu=not self._readers,
            )
            of_model = str(reader.backbone.dtype).removeprefix("torch.")
            saved = self._checked_dtype(of_model) if self.config.dtype == "model" else self.saved_dtype
            self._readers[source.path] = dataclasses.replace(reader, dtype=saved)
        return self._readers[source.path]

    def _sample(self, source: Source) -> list[Example]:
        """Return the examples of some units, evenly spaced; where they have none, of the first unit that has."""
        evenly = source.units[:: -(-len(source.units) // _UNITS_TESTED)]
        sampled = [one for unit in evenly for one in self.read_examples(source, unit)[0]]
        of_units = (self.read_examples(source, unit)[0] for unit in source.units)
        return sampled or next(filter(None, of_units), [])

    def _compute(self, source: Source, unit: UnitLines, more: Callable[[int], None]) -> UnitStates:
        """Return the states of one unit's examples."""
        examples, dropped = self.read_examples(source, unit)
        self._refuse_bad(dropped, source)
        more(unit.n_lines * len(source.splits) - len(examples))
        if not examples:
            empty = torch.empty(0, len(self.layers), self.facts.hidden_dim, dtype=self.saved_dtype)
            return UnitStates([], empty, dropped)
        states_nld = read_states(self.reader(source), examples, lambda batch: more(len(batch)))
        finite_n = states_nld.isfinite().flatten(1).all(1)
        lost = [
            Dropped(example.row.line, example.split, NOT_FINITE)
            for example, is_finite in zip(examples, finite_n.tolist(), strict=True)
            if not is_finite
        ]
        if not lost:
            return UnitStates(examples, states_nld, dropped)
        self._refuse_bad(lost, source)
        kept = [example for example, is_finite in zip(examples, finite_n.tolist(), strict=True) if is_finite]
        return UnitStates(kept, states_nld[finite_n], dropped + lost)

    def _refuse_bad(self, dropped: Sequence[Dropped], source: Source) -> None:
        for one in dropped:
            if one.reason == OVER_LIMIT:
                raise DataError(
                    f"{source.path}, line {one.line}, {one.split}: more than {self._max_tokens} tokens",
                    hint="raise --max-length (the model's own limit stays), or choose another --truncate",
                )
            if self.config.on_bad == "error":
                raise refuse(one, source)
