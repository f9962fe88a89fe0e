import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    return int(space.vocab_size ** (space.length - 1))


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    tokens_np = uniform(rng, n, space)
    tokens_np[:, -1] = tokens_np[:, 0]
    return tokens_np


@pattern("First and last tokens are identical", count=_count, draw=_draw)
def first_last_match(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold where the same letter is at both ends."""
    return everywhere(tokens_np[:, :1] == tokens_np[:, -1:])
