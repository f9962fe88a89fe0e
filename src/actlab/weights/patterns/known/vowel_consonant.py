import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.draws import choose
from actlab.weights.patterns.pattern import everywhere, pattern
from actlab.weights.patterns.space import Space


def _counts(space: Space) -> tuple[int, int]:
    """Return how many sequences begin with a vowel, and with a consonant."""
    n_vowels, n_consonants = len(space.vowels), len(space.consonants)
    longer, shorter = (space.length + 1) // 2, space.length // 2
    return int(n_vowels**longer * n_consonants**shorter), int(n_consonants**longer * n_vowels**shorter)


def _count(space: Space) -> int:
    return sum(_counts(space))


def _draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    shape = (n, space.length)
    vowels_np = rng.choice(np.array(space.vowels, dtype=np.uint8), size=shape)
    consonants_np = rng.choice(np.array(space.consonants, dtype=np.uint8), size=shape)
    begins_with_n1 = choose(rng, n, _counts(space))[:, None]
    return np.where((np.arange(space.length) + begins_with_n1) % 2, consonants_np, vowels_np)


def _description(space: Space) -> str:
    vowels = ",".join(space.letters[token] for token in space.vowels)
    consonants = ",".join(space.letters[token] for token in space.consonants)
    return f"Alternates between vowels ({vowels}) and consonants ({consonants})"


@pattern(_description, count=_count, draw=_draw)
def vowel_consonant(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
    """Hold where vowels and consonants strictly take turns, either first."""
    vowel_np = np.isin(np.arange(space.vocab_size), space.vowels)[tokens_np]
    return everywhere(vowel_np[:, 1:] != vowel_np[:, :-1])
