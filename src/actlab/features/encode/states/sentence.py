"""What both sources of states give."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch

from actlab.features.encode.source import Dropped
from actlab.formats.sentences.write import SentenceRows
from actlab.ground.manifest import Environment, InputEntry

Item = TypeVar("Item")

NOT_FINITE = "NaN or inf in its states"


class ReadStates(NamedTuple):
    """Some sentences' states, by the layers asked for and in float32, and the sentences that have none."""

    sentences: list[SentenceRows]
    dropped: list[Dropped]


class StatesSource(Protocol):
    """Where the states of some layers come from."""

    n_sentences: int
    hidden_dim: int
    device: torch.device

    def environment(self) -> Environment:
        """Return what rounding may depend on besides the settings, once something was read."""

    def describe(self) -> dict[str, object]:
        """Return what decides the states, for the manifest."""

    def inputs(self) -> list[InputEntry]:
        """Return the manifest's entries for the files read."""

    def n_tokens(self) -> list[int]:
        """Return the rows of each sentence that would be encoded."""

    def read(self, first: int, n: int) -> Iterator[ReadStates]:
        """Yield the states of some sentences, so many at a time as memory easily holds."""


def in_groups(items: Sequence[Item], n_rows: Sequence[int], most_rows: int) -> Iterator[Sequence[Item]]:
    """Cut items into groups of at most so many rows together, one item at least.

    >>> list(in_groups("abcd", [3, 3, 9, 1], most_rows=6))
    ['ab', 'c', 'd']
    """
    start = total = 0
    for place, more in enumerate(n_rows):
        if place > start and total + more > most_rows:
            yield items[start:place]
            start, total = place, 0
        total += more
    if start < len(items):
        yield items[start:]
