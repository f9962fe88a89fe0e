import math

import numpy as np

from actlab.weights.patterns.pattern import Pattern, everywhere

no_repeats = Pattern(
    name="no_repeats",
    help="All tokens are unique",
    hint="raise model.vocab_size: there have to be as many letters as positions",
    holds=lambda tokens_np, space: everywhere(np.diff(np.sort(tokens_np, axis=1), axis=1) != 0),
    own_count=lambda space: math.perm(space.vocab_size, space.length),
    own_draw=lambda rng, n, space: (
        rng.random((n, space.vocab_size)).argsort(axis=1)[:, : space.length].astype(np.uint8)
    ),
)
