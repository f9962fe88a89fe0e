"""States out of sentence files, to be encoded again with other SAEs."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from actlab.backends.models import environment, pick_device
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.source import Dropped
from actlab.features.encode.states.sentence import NOT_FINITE, ReadStates, SentenceStates, in_groups
from actlab.formats.sentences.file import Sentence
from actlab.formats.sentences.folder import Lost, SentenceFolder, load_all_sentences
from actlab.ground.errors import DataError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.manifest import InputEntry

log = logging.getLogger("actlab")


class StoredStates:
    """States out of sentence files."""

    def __init__(self, config: EncodeConfig) -> None:
        assert config.from_hidden is not None
        self._folder: SentenceFolder = load_all_sentences(config.from_hidden, check=config.check)
        if self._folder.lost and config.on_bad == "error":
            raise DataError(self._folder.lost[0].reason, hint="mend it, or leave --on-bad drop")
        self._final_only = config.final_only
        self._most_rows = config.batch_tokens
        self._sentences: Sequence[Sentence] = self._folder.sentences[: config.limit]
        self.device = pick_device(config.device)
        self.hidden_dim = self._folder.facts.hidden_dim
        self.n_sentences = len(self._sentences)

    def environment(self) -> dict[str, str]:
        """Return versions and machine: the encoding's, not the states'."""
        return environment(self.device)

    def describe(self) -> dict[str, Any]:
        """Return what the folder's own manifest says of its states."""
        manifest = sealed_manifest(self._folder.path)
        identity = manifest["identity"] if manifest else {}
        keys = ("model_name", "revision", "num_layers", "hook", "leading_special_tokens", "embedding_scale")
        return {key: identity.get(key) for key in keys} | {"from_hidden": self._folder.path.resolve().name}

    def inputs(self) -> list[InputEntry]:
        """Return the folder's entry."""
        return [self._folder.as_input()]

    def check_layers(self, layers: Sequence[int]) -> None:
        """Refuse layers whose hidden states are not stored."""
        for layer in layers:
            self._folder.hidden_config(layer)

    def n_tokens(self) -> list[int]:
        """Return how many rows each sentence has."""
        return [1 if self._final_only else one.facts.n_rows for one in self._sentences]

    def read(self, first: int, n: int, layers: tuple[int, ...]) -> Iterator[ReadStates]:
        """Read some sentences' hidden states; one that fails is tried once more."""
        if first == 0:
            yield ReadStates([], [Dropped(_number(one), one.reason) for one in self._folder.lost])
        sentences = self._sentences[first : first + n]
        for group in in_groups(sentences, [one.facts.n_rows for one in sentences], self._most_rows):
            read = ReadStates([], [])
            for sentence in group:
                try:
                    read.states.append(self._twice(sentence, layers))
                except DataError as error:
                    log.warning("%s", error)
                    reason = str(error).replace(str(sentence.path), "its file")
                    read.dropped.append(Dropped(sentence.facts.index, reason))
            yield read

    def _twice(self, sentence: Sentence, layers: tuple[int, ...]) -> SentenceStates:
        try:
            return self._states(sentence, layers)
        except DataError:
            return self._states(sentence, layers)

    def _states(self, sentence: Sentence, layers: tuple[int, ...]) -> SentenceStates:
        facts = sentence.facts
        rows = np.array([facts.final_row]) if self._final_only else np.arange(facts.n_rows)
        configs = [self._folder.hidden_config(layer) for layer in layers]
        with sentence:
            embeddings_rd = sentence.embeddings(rows).astype(np.float32)
            hidden_lrd = torch.from_numpy(sentence.hidden(configs, rows).astype(np.float32))
        if not bool(hidden_lrd.isfinite().all()) or not np.isfinite(embeddings_rd).all():
            raise DataError(f"{sentence.path}: {NOT_FINITE}", hint="make it again")
        return SentenceStates(
            index=facts.index,
            text=sentence.text,
            label=facts.label,
            fragments=tuple(str(one) for one in _of_rows(sentence, "fragments", rows, "")),
            token_positions=tuple(int(one) for one in _of_rows(sentence, "token_positions", rows, 0)),
            fragment_lengths=tuple(int(one) for one in _of_rows(sentence, "fragment_lengths", rows, 0)),
            is_final=rows == facts.final_row,
            embeddings_rd=embeddings_rd,
            hidden_lrd=hidden_lrd,
        )


def _of_rows(sentence: Sentence, key: str, rows: Any, otherwise: Any) -> Any:
    """Return a per-row key's values, or a stand-in where an older file lacks it."""
    return np.asarray(sentence[key])[rows] if key in sentence else [otherwise] * len(rows)


def _number(lost: Lost) -> int:
    """Return the index that a lost file's name stands for."""
    return int("".join(char for char in lost.name if char.isdigit())) - 1
