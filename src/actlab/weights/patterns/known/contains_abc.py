import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import uniform, until_enough
from actlab.weights.patterns.pattern import Pattern, anywhere
from actlab.weights.patterns.space import Space


def _count(space: Space) -> int:
    without = [1, space.vocab_size, space.vocab_size**2]  # sequences of 0, 1, 2, … letters in which ABC does not occur
    for _ in range(3, space.length + 1):
        without.append(space.vocab_size * without[-1] - without[-3])
    return int(space.size - without[space.length])


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    def attempt(n_attempts: int) -> UInt8[np.ndarray, "kept p"]:
        tokens_np = uniform(rng, n_attempts, space)
        start_n = rng.integers(space.length - 2, size=n_attempts)
        tokens_np[np.arange(n_attempts)[:, None], start_n[:, None] + np.arange(3)] = (0, 1, 2)
        # A sequence in which ABC occurs k times comes up k times as often as one in which it occurs once.
        n_occurrences_n = np.count_nonzero(_occurrences(tokens_np), axis=1)
        return np.compress(rng.random(n_attempts) * n_occurrences_n < 1, tokens_np, axis=0)

    return until_enough(n, attempt, like=space)


def _occurrences(tokens_np: Integer[np.ndarray, "n p"]) -> Bool[np.ndarray, "n starts"]:
    return np.asarray((tokens_np[:, :-2] == 0) & (tokens_np[:, 1:-1] == 1) & (tokens_np[:, 2:] == 2))


contains_abc = Pattern(
    name="contains_abc",
    help="Contains subsequence ABC",
    hint="raise model.sequence_length: the three letters stand side by side",
    holds=lambda tokens_np, space: anywhere(_occurrences(tokens_np)),
    own_count=_count,
    own_draw=_draw,
)
