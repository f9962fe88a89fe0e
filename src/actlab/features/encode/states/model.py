"""States by a model's forward pass, one for all layers."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from actlab.backends.hub import ModelFolder, find_model, model_files
from actlab.backends.models import (
    Loading,
    ModelFacts,
    environment,
    load_tokenizer,
    pick_device,
    read_facts,
    token_limit,
)
from actlab.backends.reader import Reader, TokenSpan, read_tokens
from actlab.backends.selftest import load_reader
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.source import Dropped, Row, Sentences, read_sentences
from actlab.features.encode.states.sentence import NOT_FINITE, ReadStates, SentenceStates, in_groups
from actlab.ground.errors import ConfigError, DataError, foreign_errors
from actlab.ground.manifest import InputEntry, file_entry

TOO_LONG = "longer than the limit"
NO_TOKEN = "empty after tokenisation"
_SENTENCES_TESTED = 8192
"""Sentences, evenly spaced, that the self-test chooses from."""
HOOK = "output of block k (hidden_states[k + 1]); the last block's is before the final norm"


class _Text(NamedTuple):
    """A sentence as tokens; those of its own are `start` to `stop` - 1."""

    row: Row
    ids: tuple[int, ...]
    start: int
    stop: int
    ends: tuple[int, ...]
    """Where each of its own tokens ends in the text."""


class ModelStates:
    """States by a model's forward pass, one for all layers."""

    def __init__(self, config: EncodeConfig) -> None:
        assert config.input is not None
        self._config = config
        self._model: ModelFolder = find_model(config.model, config.revision, code=config.trust_remote_code)
        self._facts: ModelFacts = read_facts(self._model, trust_remote_code=config.trust_remote_code)
        self._tokenizer = load_tokenizer(self._model, trust_remote_code=config.trust_remote_code)
        self._sentences: Sentences = read_sentences(
            config.input,
            text_column=config.text_column,
            label_column=config.label_column,
            labels=config.labels,
            limit=config.limit,
        )
        self._max_tokens = token_limit(self._facts, self._tokenizer, config.max_length)
        self._reader: Reader | None = None
        self.device = pick_device(config.device)
        self.hidden_dim = self._facts.hidden_dim
        self.n_sentences = len(self._sentences.rows)

    def environment(self) -> dict[str, str]:
        """Return versions, kernels and machine, and how the model attends once it has read something."""
        return environment(self.device, None if self._reader is None else self._reader.backbone.module)

    def describe(self) -> dict[str, Any]:
        """Return model, hook, BOS and scale."""
        special = self._tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        return {
            "model_name": self._model.name,
            "revision": self._model.revision,
            "num_layers": self._facts.n_layers,
            "hook": HOOK,
            "leading_special_tokens": special.index(0),
            "embedding_scale": 1.0,
            "max_length": self._max_tokens,
        }

    def inputs(self) -> list[InputEntry]:
        """Return the CSV and the model's files, hashed."""
        return [
            file_entry("sentences", self._sentences.path),
            *({"role": "model", **file} for file in model_files(self._model)),
        ]

    def check_layers(self, layers: Sequence[int]) -> None:
        """Refuse layers that the model lacks."""
        if layers and max(layers) >= self._facts.n_layers:
            raise ConfigError(
                f"an SAE is for layer {max(layers)}, but {self._model.name} has {self._facts.n_layers} layers",
                hint="is it this model's SAE? --layers chooses some",
            )

    def n_tokens(self) -> list[int]:
        """Return how many rows each good sentence has."""
        texts, _ = self._tokenise(self._sentences.rows)
        return [1 if self._config.final_only else text.stop - text.start for text in texts]

    def read(self, first: int, n: int, layers: tuple[int, ...]) -> Iterator[ReadStates]:
        """Run the model on some rows; a sentence that fails is tried once more, alone."""
        texts, dropped = self._tokenise(self._sentences.rows[first : first + n])
        yield ReadStates([], dropped)
        lengths = [len(text.ids) for text in texts]
        for group in in_groups(texts, lengths, self._config.batch_tokens):
            yield self._read_group(group, layers)

    def _read_group(self, texts: Sequence[_Text], layers: tuple[int, ...]) -> ReadStates:
        wanted = [TokenSpan(text.ids, self._first_row(text), text.stop) for text in texts]
        reader = self._open(layers)
        read = ReadStates([], [])
        for text, one, hidden_lrd in zip(texts, wanted, read_tokens(reader, wanted), strict=True):
            if not bool(hidden_lrd.isfinite().all()):
                (hidden_lrd,) = read_tokens(reader, [one])
            if bool(hidden_lrd.isfinite().all()):
                read.states.append(self._states(text, hidden_lrd))
            else:
                read.dropped.append(Dropped(text.row.sentence, NOT_FINITE))
        return read

    def _first_row(self, text: _Text) -> int:
        return text.stop - 1 if self._config.final_only else text.start

    def _states(self, text: _Text, hidden_lrd: Tensor) -> SentenceStates:
        first = self._first_row(text)
        places = range(first, text.stop)
        assert self._reader is not None
        table = self._reader.backbone.module.get_input_embeddings().weight  # type: ignore[operator]
        embeddings_rd = table[torch.tensor(text.ids[first : text.stop], device=table.device)]
        return SentenceStates(
            index=text.row.sentence,
            text=text.row.text,
            label=text.row.label,
            fragments=tuple(text.row.text[: text.ends[place - text.start]] for place in places),
            token_positions=tuple(places),
            fragment_lengths=tuple(place - text.start + 1 for place in places),
            is_final=np.array([place == text.stop - 1 for place in places]),
            embeddings_rd=embeddings_rd.detach().float().cpu().numpy(),
            hidden_lrd=hidden_lrd,
        )

    def _tokenise(self, rows: Sequence[Row | Dropped]) -> tuple[list[_Text], list[Dropped]]:
        texts: list[_Text] = []
        dropped = [row for row in rows if isinstance(row, Dropped)]
        for row in rows:
            if isinstance(row, Row):
                text = self._text(row)
                if isinstance(text, _Text):
                    texts.append(text)
                else:
                    dropped.append(text)
        return texts, dropped

    def _text(self, row: Row) -> _Text | Dropped:
        with foreign_errors(f"cannot tokenise sentence {row.sentence}", hint="is it text?", kind=DataError):
            made = self._tokenizer(
                row.text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
            )
        own = [place for place, is_special in enumerate(made["special_tokens_mask"]) if not is_special]
        if not own:
            return Dropped(row.sentence, NO_TOKEN)
        if len(made["input_ids"]) > self._max_tokens:
            return Dropped(row.sentence, TOO_LONG)
        ends = tuple(made["offset_mapping"][place][1] for place in own)
        return _Text(row, tuple(made["input_ids"]), own[0], own[-1] + 1, ends)

    def _open(self, layers: tuple[int, ...]) -> Reader:
        if self._reader is None:
            config, rows = self._config, self._sentences.rows
            evenly = rows[:: -(-len(rows) // _SENTENCES_TESTED)]
            texts = self._tokenise(evenly)[0] or self._tokenise(rows)[0]
            loading = Loading(
                model=self._model,
                facts=self._facts,
                deepest=max(layers),
                dtype=config.model_dtype,
                device=self.device,
                load_in_4bit=config.load_in_4bit,
                trust_remote_code=config.trust_remote_code,
            )
            reader = load_reader(
                loading,
                layers,
                [TokenSpan(text.ids, text.start, text.stop) for text in texts],
                batch_size=config.batch_size,
                batch_tokens=config.batch_tokens,
            )
            self._reader = dataclasses.replace(reader, dtype=torch.float32)
        return self._reader
