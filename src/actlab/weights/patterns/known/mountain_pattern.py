import math

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import ascending, choose
from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _holds(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold for non-decreasing to the first maximum, then non-increasing: one way only will do, and so will a plain."""
    before_np = np.arange(tokens_np.shape[1] - 1) < tokens_np.argmax(axis=1)[:, None]
    left_np, right_np = tokens_np[:, :-1], tokens_np[:, 1:]
    return everywhere(np.where(before_np, left_np <= right_np, left_np >= right_np))


def _counts(space: Space) -> list[int]:
    """Return how many mountains peak at each letter."""
    return [math.comb(space.length - 1 + 2 * m, 2 * m) for m in range(space.vocab_size)]


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    # A mountain with its peak at the letter m is an ascending sequence of the numbers 0 to 2m, m among them, folded
    # at m: the numbers below are the way up, and those above, 2m - h for the height h, are the way down.
    peak_n = choose(rng, n, _counts(space))
    unfolded_np = ascending(rng, 2 * peak_n + 1, space.length - 1)
    unfolded_np = np.sort(np.column_stack([unfolded_np, peak_n]), axis=1)
    peak_n1 = peak_n[:, None]
    return np.asarray(peak_n1 - abs(peak_n1 - unfolded_np), dtype=np.uint8)


mountain_pattern = Pattern(
    name="mountain_pattern",
    help="Increases then decreases",
    hint="raise model.vocab_size or sequence_length: few letters make few mountains",
    holds=_holds,
    own_count=lambda space: sum(_counts(space)),
    own_draw=_draw,
)
