"""The rows of a sentence that count: its final token's, all, or one that stands for all."""

# r row, k number of a row, n row kept

import numpy as np
from jaxtyping import Float, Int

from actlab.formats.sentences.file import Sentence
from actlab.ground.errors import DataError


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
