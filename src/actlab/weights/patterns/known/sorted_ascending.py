import math

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import ascending
from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    return math.comb(space.vocab_size + space.length - 1, space.length)


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    return ascending(rng, np.full(n, space.vocab_size), space.length).astype(np.uint8)


@pattern("Tokens in alphabetical order", count=_count, draw=_draw)
def sorted_ascending(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold where no letter comes before an earlier one; repeats are allowed."""
    return everywhere(tokens_np[:, 1:] >= tokens_np[:, :-1])
