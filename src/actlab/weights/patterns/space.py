"""The sequences that there are: so many letters, so many positions."""

# n sequences, p positions

import string
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Space:
    """All sequences of `length` letters out of `vocab_size`; A is 0.

    >>> Space(vocab_size=7, length=7).letters, Space(vocab_size=7, length=7).size
    ('ABCDEFG', 823543)
    """

    vocab_size: int
    length: int
    first_token: int = 0
    """The letter that `starts_with` asks for."""
    last_token: int = 0
    """The letter that `ends_with` asks for."""

    @property
    def size(self) -> int:
        """The number of sequences."""
        return int(self.vocab_size**self.length)

    @property
    def letters(self) -> str:
        """The vocabulary, in order."""
        return string.ascii_uppercase[: self.vocab_size]

    @property
    def vowels(self) -> tuple[int, ...]:
        """The vocabulary's vowels: those of A, E, I, O, U that it has."""
        return tuple(index for index, letter in enumerate(self.letters) if letter in "AEIOU")

    @property
    def consonants(self) -> tuple[int, ...]:
        """The other letters."""
        return tuple(index for index, letter in enumerate(self.letters) if letter not in "AEIOU")


def every_sequence(space: Space) -> UInt8[np.ndarray, "n p"]:
    """Return all sequences in alphabetical order: for small spaces only."""
    places = space.vocab_size ** np.arange(space.length)[::-1]
    return np.asarray(np.arange(space.size)[:, None] // places % space.vocab_size, dtype=np.uint8)
