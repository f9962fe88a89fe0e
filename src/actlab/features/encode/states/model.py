"""States by a model's forward pass, one for all layers."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from actlab.backends.hub import find_model
from actlab.backends.models import Loading, OpenModel, environment
from actlab.backends.reader import Reader, TokenSpan, read_tokens
from actlab.backends.selftest import load_reader
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.source import NOT_FINITE, Dropped, ReadStates, Row, read_sentences
from actlab.formats.sentences.write import SentenceRows
from actlab.ground.errors import ConfigError, DataError, foreign_errors
from actlab.ground.limits import batches_within
from actlab.ground.manifest import Environment, InputEntry, file_entry

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

    def __init__(self, config: EncodeConfig, layers: tuple[int, ...]) -> None:
        assert config.input is not None
        self._config = config
        self._input = config.input
        self._layers = layers
        folder = find_model(config.model, config.revision, code=config.trust_remote_code)
        self._model = OpenModel(folder, device=config.device, max_length=config.max_length)
        self._rows = read_sentences(
            self._input,
            text_column=config.text_column,
            label_column=config.label_column,
            labels=config.labels,
            limit=config.limit,
        )
        self.device = self._model.device
        self.hidden_dim = self._model.facts.hidden_dim
        self.n_sentences = len(self._rows)
        if max(layers) >= self._model.facts.n_layers:
            raise ConfigError(
                f"an SAE is for layer {max(layers)}, but {folder.name} has {self._model.facts.n_layers} layers",
                hint="is it this model's SAE? --layers chooses some",
            )

    def environment(self) -> Environment:
        """Return versions, kernels and machine, and how the model attends once it has read something."""
        return environment(self.device, self._reader.backbone.module if "_reader" in vars(self) else None)

    def describe(self) -> dict[str, object]:
        """Return model, hook, BOS and scale."""
        made = self._model.tokenizer("a", return_special_tokens_mask=True)
        return {
            "model_name": self._model.folder.name,
            "revision": self._model.folder.revision,
            "num_layers": self._model.facts.n_layers,
            "hook": HOOK,
            "leading_special_tokens": made["special_tokens_mask"].index(0),
            "embedding_scale": 1.0,
            "max_length": self._model.max_tokens,
        }

    def inputs(self) -> list[InputEntry]:
        """Return the CSV and the model's files, hashed."""
        return [file_entry("sentences", self._input), *self._model.input_files]

    def n_tokens(self) -> list[int]:
        """Return how many rows each good sentence has."""
        return [text.stop - self._first_row(text) for text in self._tokenise(self._rows)[0]]

    def read(self, first: int, n: int) -> Iterator[ReadStates]:
        """Run the model on some rows; a sentence that fails is tried once more, alone."""
        texts, dropped = self._tokenise(self._rows[first : first + n])
        yield ReadStates([], dropped)
        for group in batches_within(texts, len(texts), lambda text: len(text.ids), self._config.batch_tokens):
            yield self._read_group(group)

    def _read_group(self, texts: Sequence[_Text]) -> ReadStates:
        wanted = [TokenSpan(text.ids, self._first_row(text), text.stop) for text in texts]
        read = ReadStates([], [])
        for text, one, hidden_lrd in zip(texts, wanted, read_tokens(self._reader, wanted), strict=True):
            if not bool(hidden_lrd.isfinite().all()):
                (hidden_lrd,) = read_tokens(self._reader, [one])
            if bool(hidden_lrd.isfinite().all()):
                read.sentences.append(self._rows_of(text, hidden_lrd))
            else:
                read.dropped.append(Dropped(text.row.sentence, NOT_FINITE))
        return read

    def _first_row(self, text: _Text) -> int:
        return text.stop - 1 if self._config.final_only else text.start

    def _rows_of(self, text: _Text, hidden_lrd: Tensor) -> SentenceRows:
        places = range(self._first_row(text), text.stop)
        embedding: nn.Embedding = self._reader.backbone.module.get_input_embeddings()  # type: ignore[operator]
        ids = torch.tensor(text.ids[places.start : text.stop], device=embedding.weight.device)
        return SentenceRows(
            index=text.row.sentence,
            text=text.row.text,
            label=text.row.label,
            fragments=[text.row.text[: text.ends[place - text.start]] for place in places],
            token_positions=places,
            fragment_lengths=[place - text.start + 1 for place in places],
            is_final=np.array([place == text.stop - 1 for place in places]),
            embeddings_rd=embedding.weight[ids].detach().float().cpu().numpy(),
            hidden_crd=hidden_lrd.numpy(),
        )

    def _tokenise(self, rows: Sequence[Row | Dropped]) -> tuple[list[_Text], list[Dropped]]:
        made = [self._text(row) for row in rows if isinstance(row, Row)]
        dropped = [one for one in (*rows, *made) if isinstance(one, Dropped)]
        return [one for one in made if isinstance(one, _Text)], dropped

    def _text(self, row: Row) -> _Text | Dropped:
        with foreign_errors(f"cannot tokenise sentence {row.sentence}", hint="is it text?", kind=DataError):
            made = self._model.tokenizer(
                row.text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
            )
        own = [place for place, is_special in enumerate(made["special_tokens_mask"]) if not is_special]
        if not own or len(made["input_ids"]) > self._model.max_tokens:
            return Dropped(row.sentence, TOO_LONG if own else NO_TOKEN)
        return _Text(
            row=row,
            ids=tuple(made["input_ids"]),
            start=own[0],
            stop=own[-1] + 1,
            ends=tuple(made["offset_mapping"][place][1] for place in own),
        )

    @cached_property
    def _reader(self) -> Reader:
        """The model, loaded, and tested on sentences from all over the file."""
        config, rows = self._config, self._rows
        evenly = rows[:: -(-len(rows) // _SENTENCES_TESTED)]
        loading = Loading(
            model=self._model.folder,
            facts=self._model.facts,
            deepest=max(self._layers),
            dtype=config.model_dtype,
            device=self.device,
            load_in_4bit=config.load_in_4bit,
        )
        return load_reader(
            loading,
            self._layers,
            self._tokenise(evenly)[0] or self._tokenise(rows)[0],
            batch_size=config.batch_size,
            batch_tokens=config.batch_tokens,
            dtype=torch.float32,
        )
