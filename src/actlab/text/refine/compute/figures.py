"""What a collection of documents is like as a whole: how much of it repeats, and what its labels cover."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np

from actlab.formats.documents import Document
from actlab.text.near_duplicates import near_duplicate_clusters
from actlab.text.refine.compute.runs import Runs, runs_up_to
from actlab.text.words import written_words

_OPENING_WORDS = 3
_MOST_OPENINGS = 10
_MOST_VALUES = 1000
"""A label of more values is a text of its own rather than a label."""
_DIGITS = 6


class Figures(TypedDict):
    """What is said of a collection; None where there is nothing to take a figure over."""

    n_documents: int
    n_tokens: int
    sources: dict[str, int]
    distinct_1: float | None
    """The share of the runs of so many words that are said for the first time."""
    distinct_2: float | None
    distinct_3: float | None
    distinct_4: float | None
    n_distinct_4: int
    self_repetition: float | None
    near_duplicate_rate: float | None


class Opening(TypedDict):
    """How many documents begin so."""

    opening: str
    n: int
    share: float | None
    share_before: float | None


class Coverage(TypedDict):
    """How many values a label has, and those that are lost."""

    before: int
    after: int
    lost: list[str]


def figures(documents: Sequence[Document], near_duplicate_threshold: float) -> Figures:
    """Return the figures of a collection."""
    texts = [document.text for document in documents]
    *shorter, longest = runs_up_to(texts, 4)
    one, two, three, four = (_ratio(runs.n_distinct, runs.n_occurrences) for runs in (*shorter, longest))
    return {
        "n_documents": len(documents),
        "n_tokens": sum(document.n_tokens for document in documents),
        "sources": dict(sorted(Counter(document.source for document in documents).items())),
        "distinct_1": one,
        "distinct_2": two,
        "distinct_3": three,
        "distinct_4": four,
        "n_distinct_4": longest.n_distinct,
        "self_repetition": self_repetition(longest),
        "near_duplicate_rate": _near_duplicate_rate(texts, near_duplicate_threshold),
    }


def self_repetition(runs: Runs) -> float | None:
    """Return the mean over documents of ln(1 + the other documents that have its runs, summed over its runs).

    With runs of four words this is the score of Salkar et al. (2022).
    """
    n_documents = len(runs.start_i) - 1
    if not n_documents:
        return None
    others_r = np.bincount(runs.number_r, minlength=runs.n_distinct)[runs.number_r] - 1
    total_i = np.diff(np.concatenate([[0], np.cumsum(others_r)])[runs.start_i])
    return round(math.fsum(map(math.log1p, total_i.tolist())) / n_documents, _DIGITS)


def openings(documents: Sequence[Document], before: Sequence[Document]) -> list[Opening]:
    """Return the most frequent first three words, the share of the documents that have them, and of those before."""
    counts, had = _openings(documents), _openings(before)
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_OPENINGS]
    return [
        {
            "opening": opening,
            "n": n,
            "share": _ratio(n, len(documents)),
            "share_before": _ratio(had[opening], len(before)),
        }
        for opening, n in most
    ]


def _openings(documents: Iterable[Document]) -> Counter[str]:
    every = (written_words(one.text.lower()) for one in documents)
    return Counter(one.separator.join(one.words[: _OPENING_WORDS * one.per_word]) for one in every)


def label_coverage(before: Sequence[Document], after: Sequence[Document]) -> dict[str, Coverage]:
    """Return for each label how many values it has before and after, and which are lost.

    Nested labels are called `outer.inner`. A label of more than a thousand values is left out.
    """
    had, kept = _values_by_label(before), _values_by_label(after)
    return {
        label: {"before": len(values), "after": len(kept[label]), "lost": sorted(values - kept[label])}
        for label, values in sorted(had.items())
        if len(values) <= _MOST_VALUES
    }


def _values_by_label(documents: Iterable[Document]) -> defaultdict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for document in documents:
        for label, value in _flat(document.labels):
            found[label].add(value)
    return found


def _flat(labels: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in labels.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from ((prefix + name, str(one)) for one in value)
        else:
            yield prefix + name, str(value)


def _near_duplicate_rate(texts: Sequence[str], threshold: float) -> float | None:
    """Return the share of the texts that are superfluous: all but one of each cluster."""
    if not 0 < threshold <= 1:
        return None
    return _ratio(len(texts) - len(set(near_duplicate_clusters(texts, threshold))), len(texts))


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, _DIGITS) if whole else None
