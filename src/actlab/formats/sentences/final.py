"""The final rows of all sentences, as the document's Python example reads them."""

# n sentence, c configuration, d model width

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from actlab.formats.sentences.file import Sentence
from actlab.ground.errors import DataError

_FINAL_KEYS = ("embeddings", "hidden_states", "activations", "labels", "sentence_indices", "layers", "average_l0s")


class FinalTokenData(Mapping[str, Any]):
    """The final rows of all sentences; each array is read when it is first asked for, and handed out as a copy."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self._sentences = sentences
        self._read: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in _FINAL_KEYS:
            raise KeyError(key)
        if key not in self._read:
            self._read[key] = self._gather(key)
        return self._read[key].copy()

    def __iter__(self) -> Iterator[str]:
        return iter(_FINAL_KEYS)

    def __len__(self) -> int:
        return len(_FINAL_KEYS)

    def _gather(self, key: str) -> Shaped[np.ndarray, "n ..."]:
        facts = [sentence.facts for sentence in self._sentences]
        if key == "labels":
            return as_labels([one.label for one in facts])
        if key == "sentence_indices":
            return np.array([one.index for one in facts])
        if key in ("layers", "average_l0s"):
            return np.array(getattr(facts[0], key))
        configs = range(len(facts[0].layers))
        rows = []
        for sentence in self._sentences:
            final = np.array([sentence.facts.final_row])
            with sentence:
                if key == "embeddings":
                    rows.append(sentence.embeddings(final)[0])
                elif key == "hidden_states":
                    rows.append(sentence.hidden(configs, final)[:, 0])
                else:
                    rows.append(np.stack([sentence.latents(config, final)[0] for config in configs]))
        return np.stack(rows)


def get_final_token_data(sentences: Sequence[Sentence]) -> FinalTokenData:
    """Return the final rows of sentences: `embeddings` [n, d], `hidden_states` [n, c, d], `labels` [n] and more.

    Raises:
        DataError: There is no sentence.
    """
    if not len(sentences):
        raise DataError("there is no sentence", hint="load some: load_all_sentences(folder)")
    return FinalTokenData(sentences)


def as_labels(labels: Sequence[float]) -> Shaped[np.ndarray, " n"]:
    """Return labels as int64 where all are whole, else as float64."""
    values = np.asarray(labels, dtype=np.float64)
    return values.astype(np.int64) if (values == np.round(values)).all() else values
