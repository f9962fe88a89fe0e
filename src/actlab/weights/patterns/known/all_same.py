import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    return space.vocab_size


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    return np.repeat(rng.integers(space.vocab_size, size=(n, 1), dtype=np.uint8), space.length, axis=1)


@pattern("All tokens identical", count=_count, draw=_draw)
def all_same(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold for one letter, repeated."""
    return everywhere(tokens_np == tokens_np[:, :1])
