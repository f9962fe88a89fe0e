import numpy as np

from actlab.weights.patterns.pattern import Pattern, everywhere

all_same = Pattern(
    name="all_same",
    help="All tokens identical",
    hint="raise model.vocab_size: it has one sequence for each letter",
    holds=lambda tokens_np, space: everywhere(tokens_np == tokens_np[:, :1]),
    own_count=lambda space: space.vocab_size,
    own_draw=lambda rng, n, space: np.repeat(
        rng.integers(space.vocab_size, size=(n, 1), dtype=np.uint8), space.length, axis=1
    ),
)
