"""States out of sentence files, to be encoded again with other SAEs."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from actlab.backends.models import environment, pick_device
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.source import NOT_FINITE, Dropped, ReadStates
from actlab.formats.sentences.file import Sentence
from actlab.formats.sentences.folder import load_all_sentences
from actlab.formats.sentences.write import SentenceRows
from actlab.ground.errors import DataError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.limits import batches_within
from actlab.ground.log import log
from actlab.ground.manifest import Environment, InputEntry

_OF_STATES = ("model_name", "revision", "num_layers", "hook", "leading_special_tokens", "embedding_scale")
"""What an identity says of states."""

_OF_ROWS = {"fragments": "", "token_positions": 0, "fragment_lengths": 0}
"""Keys that have a value for each row, with the stand-in where an older file lacks them."""


class StoredStates:
    """States out of sentence files."""

    def __init__(self, config: EncodeConfig, layers: tuple[int, ...]) -> None:
        assert config.from_hidden is not None
        self._folder = load_all_sentences(config.from_hidden, check=config.check)
        if self._folder.lost and config.on_bad == "error":
            raise DataError(self._folder.lost[0].reason, hint="mend it, or leave --on-bad drop")
        self._config = config
        self._configs = [self._folder.hidden_config(layer) for layer in layers]
        self._sentences = self._folder.sentences[: config.limit]
        self.device = pick_device(config.device)
        self.hidden_dim = self._folder.facts.hidden_dim
        self.n_sentences = len(self._sentences)

    def environment(self) -> Environment:
        """Return versions and machine: the encoding's, not the states'."""
        return environment(self.device)

    def describe(self) -> dict[str, object]:
        """Return what the folder's own manifest says of its states."""
        manifest = sealed_manifest(self._folder.path)
        identity = manifest["identity"] if manifest else {}
        return {key: identity.get(key) for key in _OF_STATES} | {"from_hidden": self._folder.path.resolve().name}

    def inputs(self) -> list[InputEntry]:
        """Return the folder's entry."""
        return [self._folder.as_input()]

    def n_tokens(self) -> list[int]:
        """Return how many rows each sentence has."""
        return [len(self._wanted(one)) for one in self._sentences]

    def _wanted(self, sentence: Sentence) -> Int[np.ndarray, " r"]:
        facts = sentence.facts
        return np.array([facts.final_row]) if self._config.final_only else np.arange(facts.n_rows)

    def read(self, first: int, n: int) -> Iterator[ReadStates]:
        """Read some sentences' hidden states; one that fails is tried once more."""
        if first == 0:
            yield ReadStates([], [Dropped(one.number - 1, one.reason) for one in self._folder.lost])
        for group in batches_within(
            self._sentences[first : first + n], n, lambda one: one.facts.n_rows, self._config.batch_tokens
        ):
            read = ReadStates([], [])
            for sentence in group:
                try:
                    read.sentences.append(self._twice(sentence))
                except DataError as error:
                    log.warning("%s", error)
                    reason = str(error).replace(str(sentence.path), "its file")
                    read.dropped.append(Dropped(sentence.facts.index, reason))
            yield read

    def _twice(self, sentence: Sentence) -> SentenceRows:
        try:
            return self._rows_of(sentence)
        except DataError:
            return self._rows_of(sentence)

    def _rows_of(self, sentence: Sentence) -> SentenceRows:
        facts, rows = sentence.facts, self._wanted(sentence)
        with sentence:
            embeddings_rd = sentence.embeddings(rows).astype(np.float32)
            hidden_lrd = sentence.hidden(self._configs, rows).astype(np.float32)
        if not np.isfinite(hidden_lrd).all() or not np.isfinite(embeddings_rd).all():
            raise DataError(f"{sentence.path}: {NOT_FINITE}", hint="make it again")
        of_rows = {key: np.asarray(sentence.get(key, [one] * facts.n_rows))[rows] for key, one in _OF_ROWS.items()}
        return SentenceRows(
            index=facts.index,
            text=sentence.text,
            label=facts.label,
            **of_rows,
            is_final=rows == facts.final_row,
            embeddings_rd=embeddings_rd,
            hidden_crd=hidden_lrd,
        )
