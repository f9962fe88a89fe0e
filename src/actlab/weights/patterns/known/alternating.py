import numpy as np
from jaxtyping import UInt8

from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    first_n = rng.integers(space.vocab_size, size=n)
    second_n = (first_n + rng.integers(1, space.vocab_size, size=n)) % space.vocab_size
    return np.where(np.arange(space.length) % 2, second_n[:, None], first_n[:, None]).astype(np.uint8)


alternating = Pattern(
    name="alternating",
    help="Alternates between exactly two tokens",
    hint="raise model.vocab_size: it has one sequence for each pair of letters",
    holds=lambda tokens_np, space: (
        everywhere(tokens_np[:, 2:] == tokens_np[:, :-2]) & (tokens_np[:, 0] != tokens_np[:, 1])
    ),
    own_count=lambda space: space.vocab_size * (space.vocab_size - 1),
    own_draw=_draw,
)
