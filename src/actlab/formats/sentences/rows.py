"""The rows of sentences that count: the final token's, all, or one that stands for all; and the final rows of many."""

# n sentence, c configuration, d model width, r row of one sentence, k number of a row

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.formats.sentences.file import Sentence
from actlab.ground.errors import DataError

_OF_A_ROW: dict[str, Callable[[Sentence, Int[np.ndarray, " r"]], Shaped[np.ndarray, "..."]]] = {
    "embeddings": lambda one, row: one.embeddings(row)[0],
    "hidden_states": lambda one, row: one.hidden(range(len(one.facts.layers)), row)[:, 0],
    "activations": lambda one, row: np.stack([one.latents(config, row)[0] for config in range(len(one.facts.layers))]),
}
"""What is read of a sentence inside `with sentence:`, by its key."""


class FinalTokenData(Mapping[str, Shaped[np.ndarray, "..."]]):
    """The final rows of all sentences; each array is read when it is first asked for, and handed out as a copy."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self._sentences = sentences
        facts = [sentence.facts for sentence in sentences]
        self._known = {
            "labels": as_labels([one.label for one in facts]),
            "sentence_indices": np.array([one.index for one in facts]),
            "layers": np.array(facts[0].layers),
            "average_l0s": np.array(facts[0].average_l0s),
        }

    def __getitem__(self, key: str) -> Shaped[np.ndarray, "..."]:
        if key not in self._known:
            read, rows = _OF_A_ROW[key], []
            for sentence in self._sentences:
                with sentence:
                    rows.append(read(sentence, np.array([sentence.facts.final_row])))
            self._known[key] = np.stack(rows)
        return self._known[key].copy()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*_OF_A_ROW, *self._known)))

    def __len__(self) -> int:
        return len(list(self))


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


def rows_read(sentence: Sentence, rows: str) -> Int[np.ndarray, " r"]:
    """Return which rows are read for "final", or for "all", "mean" and "max"."""
    return np.array([sentence.facts.final_row]) if rows == "final" else np.arange(sentence.facts.n_rows)


def rows_kept(sentence: Sentence, values_rk: Float[np.ndarray, "r k"], rows: str) -> Float[np.ndarray, "n k"]:
    """Return the rows that were read, or their mean or maximum, as float32.

    Raises:
        DataError: A number is not finite, or too large for it.
    """
    if rows == "mean":
        values_rk = values_rk.mean(axis=0, dtype=np.float64, keepdims=True)
    elif rows == "max":
        values_rk = values_rk.max(axis=0, keepdims=True)
    with np.errstate(over="ignore"):
        values_rk = values_rk.astype(np.float32, copy=False)
    if not np.isfinite(values_rk).all():
        what = "holds NaN, inf or a number too large for float32"
        raise DataError(f"{sentence.path} {what}", hint="make it again, or take it away")
    return values_rk
