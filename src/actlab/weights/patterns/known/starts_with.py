from actlab.weights.patterns.draws import uniform_but
from actlab.weights.patterns.pattern import Pattern, everywhere

starts_with = Pattern(
    name="starts_with",
    help="Begins with one token, dataset.patterns.starts_with_token",
    hint="raise model.vocab_size or sequence_length: all letters but one are free",
    description=lambda space: f"Begins with specific token {space.letters[space.first_token]}",
    holds=lambda tokens_np, space: everywhere(tokens_np[:, :1] == space.first_token),
    own_count=lambda space: space.vocab_size ** (space.length - 1),
    own_draw=uniform_but(0, lambda tokens_np, space: space.first_token),
)
