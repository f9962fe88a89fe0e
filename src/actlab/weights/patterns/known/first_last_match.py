from actlab.weights.patterns.draws import uniform_but
from actlab.weights.patterns.pattern import Pattern, everywhere

first_last_match = Pattern(
    name="first_last_match",
    help="First and last tokens are identical",
    hint="raise model.vocab_size or sequence_length: all letters but one are free",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, :1] == tokens_np[:, -1:]),
    own_count=lambda space: space.vocab_size ** (space.length - 1),
    own_draw=uniform_but(-1, lambda tokens_np, space: tokens_np[:, 0]),
)
