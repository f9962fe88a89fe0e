"""Runs of n words as numbers: the same number for the same run, over all texts."""

# r run, w word

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from actlab.text.words import written_words


class Runs(NamedTuple):
    """The distinct runs of n words of each text, one text after the other."""

    number_r: Int[np.ndarray, " r"]
    """Ascending within a text."""
    start_i: Int[np.ndarray, " i_and_1"]
    n_distinct: int
    """Over all texts: numbers are below it."""
    n_occurrences: int
    """Over all texts, repeats counted."""

    def of(self, i: int) -> Int[np.ndarray, " r"]:
        """Return the runs of a text."""
        return self.number_r[self.start_i[i] : self.start_i[i + 1]]


def runs_of(texts: Sequence[str], n: int) -> Runs:
    """Return the runs of n lower-case words as they are written; none reaches from one text into the next."""
    *_, longest = runs_up_to(texts, n)
    return longest


def runs_up_to(texts: Sequence[str], most: int) -> Iterator[Runs]:
    """Yield the runs of one word, of two, …, of `most`."""
    numbers: dict[str, int] = {}
    split = [[numbers.setdefault(word, len(numbers)) for word in written_words(text.lower()).words] for text in texts]
    word_w = np.array([number for words in split for number in words], dtype=np.int64)
    text_w = np.repeat(np.arange(len(texts)), np.array([len(words) for words in split], dtype=np.int64))
    run_w = word_w
    for n in range(1, most + 1):
        if n > 1:  # pairs of numbers below 2^31 fit an int64: exact, no hash
            run_w = np.unique(run_w[:-1] * len(numbers) + word_w[n - 1 :], return_inverse=True)[1]
        is_inside = text_w[: len(run_w)] == text_w[n - 1 :]
        yield _runs(run_w[is_inside], text_w[: len(run_w)][is_inside], len(texts))


def _runs(run_w: Int[np.ndarray, " w"], text_w: Int[np.ndarray, " w"], n_texts: int) -> Runs:
    distinct, run_w = np.unique(run_w, return_inverse=True)
    n_distinct = len(distinct)
    text_r, number_r = np.divmod(np.unique(text_w * n_distinct + run_w), max(n_distinct, 1))
    return Runs(number_r, np.searchsorted(text_r, np.arange(n_texts + 1)), n_distinct, len(run_w))
