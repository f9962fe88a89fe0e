"""What both sources of states give."""

# l layer, r row (token), d model width

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from actlab.features.encode.source import Dropped
from actlab.ground.manifest import InputEntry

Item = TypeVar("Item")

NOT_FINITE = "NaN or inf in its states"


@dataclass(frozen=True)
class SentenceStates:
    """One sentence, ready to be encoded."""

    index: int
    text: str
    label: float
    fragments: tuple[str, ...]
    token_positions: tuple[int, ...]
    fragment_lengths: tuple[int, ...]
    is_final: Bool[np.ndarray, " r"]
    embeddings_rd: Float[np.ndarray, "r d"]
    hidden_lrd: Float[Tensor, "l r d"]
    """By the layers asked for, in float32."""


class StatesSource(Protocol):
    """Where states come from."""

    n_sentences: int
    hidden_dim: int
    device: torch.device

    def environment(self) -> dict[str, str]:
        """Return what rounding may depend on besides the settings, once something was read."""

    def describe(self) -> dict[str, Any]:
        """Return what decides the states, for the manifest."""

    def inputs(self) -> list[InputEntry]:
        """Return the manifest's entries for the files read."""

    def check_layers(self, layers: Sequence[int]) -> None:
        """Refuse layers that are not there."""

    def n_tokens(self) -> list[int]:
        """Return the rows of each sentence that would be encoded."""

    def read(self, first: int, n: int, layers: tuple[int, ...]) -> "Iterator[ReadStates]":
        """Yield the states of some sentences, so many at a time as memory easily holds."""


class ReadStates(NamedTuple):
    """Some sentences' states, and the sentences that have none."""

    states: list[SentenceStates]
    dropped: list[Dropped]


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
