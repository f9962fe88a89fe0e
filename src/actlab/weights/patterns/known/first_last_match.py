import numpy as np
from jaxtyping import UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    tokens_np = uniform(rng, n, space)
    tokens_np[:, -1] = tokens_np[:, 0]
    return tokens_np


first_last_match = Pattern(
    name="first_last_match",
    help="First and last tokens are identical",
    hint="raise model.vocab_size or sequence_length: all letters but one are free",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, :1] == tokens_np[:, -1:]),
    own_count=lambda space: space.vocab_size ** (space.length - 1),
    own_draw=_draw,
)
