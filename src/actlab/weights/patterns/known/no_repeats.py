import math

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    return math.perm(space.vocab_size, space.length)


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    shuffled_nv = rng.random((n, space.vocab_size)).argsort(axis=1)
    return shuffled_nv[:, : space.length].astype(np.uint8)


@pattern("All tokens are unique", count=_count, draw=_draw)
def no_repeats(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold where no letter comes twice: nowhere, if there are more positions than letters."""
    sorted_np = np.sort(tokens_np, axis=1)
    return everywhere(sorted_np[:, 1:] != sorted_np[:, :-1])
