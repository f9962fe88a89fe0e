import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import uniform
from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    return int(space.vocab_size ** (space.length - 1))


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    tokens_np = uniform(rng, n, space)
    tokens_np[:, 0] = space.first_token
    return tokens_np


def _description(space: Space) -> str:
    return f"Begins with specific token {space.letters[space.first_token]}"


@pattern(_description, count=_count, draw=_draw)
def starts_with(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold where the space's `first_token` is in front."""
    return everywhere(tokens_np[:, :1] == space.first_token)
