import numpy as np

from actlab.weights.patterns.draws import uniform_but
from actlab.weights.patterns.pattern import Pattern, everywhere

palindrome = Pattern(
    name="palindrome",
    help="Sequence reads same forwards and backwards",
    hint="raise model.vocab_size or sequence_length: half of the letters are free",
    holds=lambda tokens_np, space: everywhere(tokens_np == tokens_np[:, ::-1]),
    own_count=lambda space: space.vocab_size ** ((space.length + 1) // 2),
    own_draw=uniform_but(
        slice(None),
        lambda tokens_np, space: np.where(
            np.arange(space.length) < (space.length + 1) // 2, tokens_np, tokens_np[:, ::-1]
        ),
    ),
)
