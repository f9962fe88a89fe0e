import math

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import choose, some_positions
from actlab.weights.patterns.pattern import Pattern
from actlab.weights.patterns.space import Space


def _holds(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    half = tokens_np.shape[1] // 2
    middle_n1 = np.sort(tokens_np, axis=1)[:, [half]]  # a letter in the majority is the median
    return np.asarray(np.count_nonzero(tokens_np == middle_n1, axis=1) > half)


def _counts(space: Space) -> list[int]:
    """Return how many sequences have one letter exactly k times, for each k that is a majority."""
    v, p = space.vocab_size, space.length
    return [v * math.comb(p, k) * (v - 1) ** (p - k) for k in range(p // 2 + 1, p + 1)]


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    n_times_n = space.length // 2 + 1 + choose(rng, n, _counts(space))
    letter_n1 = rng.integers(space.vocab_size, size=(n, 1))
    others_np = (letter_n1 + rng.integers(1, space.vocab_size, size=(n, space.length))) % space.vocab_size
    return np.where(some_positions(rng, n_times_n, space.length), letter_n1, others_np).astype(np.uint8)


has_majority = Pattern(
    name="has_majority",
    help="One token appears more than 50% of the time",
    hint="raise model.vocab_size or sequence_length: one letter has more than half of the positions",
    holds=_holds,
    own_count=lambda space: sum(_counts(space)),
    own_draw=_draw,
)
