import numpy as np
from jaxtyping import UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    tokens_np = uniform(rng, n, space)
    tokens_np[:, 0] = space.first_token
    return tokens_np


starts_with = Pattern(
    name="starts_with",
    help="Begins with one token, dataset.patterns.starts_with_token",
    hint="raise model.vocab_size or sequence_length: all letters but one are free",
    description=lambda space: f"Begins with specific token {space.letters[space.first_token]}",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, :1] == space.first_token),
    own_count=lambda space: space.vocab_size ** (space.length - 1),
    own_draw=_draw,
)
