import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    return int(space.vocab_size ** ((space.length + 1) // 2))


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    half = space.length // 2
    tokens_np = uniform(rng, n, space)
    tokens_np[:, space.length - half :] = tokens_np[:, :half][:, ::-1]
    return tokens_np


@pattern("Sequence reads same forwards and backwards", count=_count, draw=_draw)
def palindrome(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold for what is the same from either end."""
    return everywhere(tokens_np == tokens_np[:, ::-1])
