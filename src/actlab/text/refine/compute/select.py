"""Choose documents up to a number of tokens."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from actlab.text.refine.compute.runs import runs_of
from actlab.text.refine.table import NEW_RUN_WORDS

Order = Callable[[Sequence[str], Sequence[float]], Iterator[int]]
"""Yields the documents' indices in the order in which they are to be taken, from their texts and scores."""


def greedy(texts: Sequence[str], scores: Sequence[float]) -> Iterator[int]:
    """Yield at each step the document with the most score × the share of its runs of four words that are new.

    Of equal ones that with the higher score, then the first. What a document gains only falls while others are taken,
    so the gain that was computed last is a bound, and one whose gain is still the highest when computed anew is the
    right one: the order is that of comparing all documents at each step.
    """
    runs = runs_of(texts, NEW_RUN_WORDS)
    is_new = np.ones(runs.n_distinct, dtype=bool)

    def gain(i: int) -> float:
        own = runs.of(i)
        return scores[i] * (int(np.count_nonzero(is_new[own])) / len(own) if len(own) else 0.0)

    heap = [(-gain(i), -scores[i], i) for i in range(len(texts))]
    heapq.heapify(heap)
    while heap:
        _, _, i = heap[0]
        now = (-gain(i), -scores[i], i)
        heapq.heapreplace(heap, now)
        if heap[0] != now:
            continue
        heapq.heappop(heap)
        is_new[runs.of(i)] = False
        yield i


def top(texts: Sequence[str], scores: Sequence[float]) -> Iterator[int]:
    """Yield the documents from the highest score down, of equal ones the first."""
    yield from sorted(range(len(texts)), key=lambda i: (-scores[i], i))


ORDERS: Mapping[str, Order] = {"greedy": greedy, "top": top}


def shortest_prefix(order: Iterator[int], n_tokens: Sequence[int], target: int | None) -> list[int]:
    """Return the documents in order up to the first with which they have the target's tokens; all without one."""
    chosen = []
    total = 0
    for i in order:
        chosen.append(i)
        total += n_tokens[i]
        if target is not None and total >= target:
            break
    return chosen
