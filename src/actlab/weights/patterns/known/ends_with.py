from actlab.weights.patterns.draws import uniform_but
from actlab.weights.patterns.pattern import Pattern, everywhere

ends_with = Pattern(
    name="ends_with",
    help="Ends with one token, dataset.patterns.ends_with_token",
    hint="raise model.vocab_size or sequence_length: all letters but one are free",
    description=lambda space: f"Ends with specific token {space.letters[space.last_token]}",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, -1:] == space.last_token),
    own_count=lambda space: space.vocab_size ** (space.length - 1),
    own_draw=uniform_but(-1, lambda tokens_np, space: space.last_token),
)
