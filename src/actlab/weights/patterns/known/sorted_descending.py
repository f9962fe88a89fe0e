import math

import numpy as np

from actlab.weights.patterns.draws import ascending
from actlab.weights.patterns.pattern import Pattern, everywhere

sorted_descending = Pattern(
    name="sorted_descending",
    help="Tokens in reverse alphabetical order",
    hint="raise model.vocab_size or sequence_length: few letters have few orders",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, 1:] <= tokens_np[:, :-1]),
    own_count=lambda space: math.comb(space.vocab_size + space.length - 1, space.length),
    own_draw=lambda rng, n, space: ascending(rng, np.full(n, space.vocab_size), space.length)[:, ::-1].astype(
        np.uint8, order="C"
    ),
)
