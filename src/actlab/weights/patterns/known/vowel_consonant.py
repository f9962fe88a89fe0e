import numpy as np
from jaxtyping import UInt8

from actlab.weights.patterns.draws import choose
from actlab.weights.patterns.pattern import Pattern, everywhere
from actlab.weights.patterns.space import Space


def _description(space: Space) -> str:
    vowels, consonants = (
        ",".join(space.letters[token] for token in tokens) for tokens in (space.vowels, space.consonants)
    )
    return f"Alternates between vowels ({vowels}) and consonants ({consonants})"


def _counts(space: Space) -> tuple[int, int]:
    """Return how many sequences begin with a vowel, and with a consonant."""
    n_vowels, n_consonants = len(space.vowels), len(space.consonants)
    longer, shorter = (space.length + 1) // 2, space.length // 2
    return int(n_vowels**longer * n_consonants**shorter), int(n_consonants**longer * n_vowels**shorter)


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    shape = (n, space.length)
    vowels_np = rng.choice(np.array(space.vowels, dtype=np.uint8), size=shape)
    consonants_np = rng.choice(np.array(space.consonants, dtype=np.uint8), size=shape)
    begins_with_n1 = choose(rng, n, _counts(space))[:, None]
    return np.where((np.arange(space.length) + begins_with_n1) % 2, consonants_np, vowels_np)


vowel_consonant = Pattern(
    name="vowel_consonant",
    help="Alternates between vowels and consonants, either first",
    hint="raise model.vocab_size or sequence_length: few letters are vowels",
    description=_description,
    holds=lambda tokens_np, space: everywhere(
        np.diff(np.isin(np.arange(space.vocab_size), space.vowels)[tokens_np], axis=1)
    ),
    own_count=lambda space: sum(_counts(space)),
    own_draw=_draw,
)
