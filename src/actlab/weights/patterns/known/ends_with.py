import numpy as np
from jaxtyping import UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    tokens_np = uniform(rng, n, space)
    tokens_np[:, -1] = space.last_token
    return tokens_np


ends_with = Pattern(
    name="ends_with",
    help="Ends with one token, dataset.patterns.ends_with_token",
    hint="raise model.vocab_size or sequence_length: all letters but one are free",
    description=lambda space: f"Ends with specific token {space.letters[space.last_token]}",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, -1:] == space.last_token),
    own_count=lambda space: space.vocab_size ** (space.length - 1),
    own_draw=_draw,
)
