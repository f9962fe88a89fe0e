import math

import numpy as np
from jaxtyping import Bool, Integer

from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _holds(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    sorted_np = np.sort(tokens_np, axis=1)
    return everywhere(sorted_np[:, 1:] != sorted_np[:, :-1])


no_repeats = Pattern(
    name="no_repeats",
    help="All tokens are unique",
    hint="raise model.vocab_size: there have to be as many letters as positions",
    holds=_holds,
    own_count=lambda space: math.perm(space.vocab_size, space.length),
    own_draw=lambda rng, n, space: (
        rng.random((n, space.vocab_size)).argsort(axis=1)[:, : space.length].astype(np.uint8)
    ),
)
