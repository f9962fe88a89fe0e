import numpy as np
from jaxtyping import UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    half = space.length // 2
    tokens_np = uniform(rng, n, space)
    tokens_np[:, space.length - half :] = tokens_np[:, :half][:, ::-1]
    return tokens_np


palindrome = Pattern(
    name="palindrome",
    help="Sequence reads same forwards and backwards",
    hint="raise model.vocab_size or sequence_length: half of the letters are free",
    holds=lambda tokens_np, space: everywhere(tokens_np == tokens_np[:, ::-1]),
    own_count=lambda space: space.vocab_size ** ((space.length + 1) // 2),
    own_draw=_draw,
)
