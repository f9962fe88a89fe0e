"""What a pattern is: a predicate over sequences, how many sequences satisfy it, and draws from those."""

# n sequences, p positions

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.ground.errors import DataError
from actlab.ground.variants import Variant
from actlab.weights.patterns.draws import uniform, until_enough
from actlab.weights.patterns.space import Space, every_sequence

Holds = Callable[[Integer[np.ndarray, "n p"], Space], Bool[np.ndarray, " n"]]
Count = Callable[[Space], int]
Draw = Callable[[np.random.Generator, int, Space], UInt8[np.ndarray, "n p"]]

_ENUMERABLE = 2**16
"""Spaces of at most so many sequences are listed where a pattern has no count of its own."""

_SAMPLE = 2**13
"""Sequences from which the count is estimated elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Pattern(Variant):
    """A set of sequences; its `hint` says how more sequences come to belong."""

    holds: Holds
    """Whether each sequence belongs."""
    description: Callable[[Space], str] | None = None
    """What a prompt says, where that hangs on the space; its help by default."""
    own_count: Count | None = None
    """How many sequences belong, exactly."""
    own_draw: Draw | None = None
    """Draws that are exactly uniform over the sequences that belong, without listing them."""

    def describe(self, space: Space) -> str:
        """Say in a prompt's words what the pattern is, with the space's letters where it names some."""
        return self.help if self.description is None else self.description(space)

    def count(self, space: Space) -> int:
        """Return how many sequences belong: exactly, but for a large space and a pattern that gives no count."""
        return _count(self, space)

    def draw(self, rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
        """Draw n sequences independently, each of the pattern's alike: by rejection if it gives no draw of its own.

        Raises:
            DataError: No sequence belongs, or so few that rejection would not find one.
        """
        if self.count(space) == 0:
            raise DataError(
                f"no sequence of {space.length} letters from {space.letters} satisfies {self.name}, or hardly any",
                hint=f"leave the pattern out, or {self.hint or 'change vocab_size or sequence_length'}",
            )
        if self.own_draw is not None:
            return self.own_draw(rng, n, space)

        def attempt(n_attempts: int) -> UInt8[np.ndarray, "kept p"]:
            tokens_np = uniform(rng, n_attempts, space)
            return tokens_np[self.holds(tokens_np, space)]

        return until_enough(n, attempt, like=space)


def pattern(
    help: str,
    *,
    hint: str = "",
    description: Callable[[Space], str] | None = None,
    count: Count | None = None,
    draw: Draw | None = None,
) -> Callable[[Holds], Pattern]:
    """Make a predicate the pattern of its name.

    A pattern that holds for more than about one sequence in a hundred needs no more than this. For a rarer one give
    `draw`, exactly uniform over its sequences and without listing them, and `count`, exact, as a Python int.
    """
    return lambda holds: Pattern(
        name=holds.__name__,
        help=help,
        hint=hint,
        holds=holds,
        description=description,
        own_count=count,
        own_draw=draw,
    )


def everywhere(true_np: Bool[np.ndarray, "n p"]) -> Bool[np.ndarray, " n"]:
    """Return which rows are true in every column."""
    return np.asarray(np.logical_and.reduce(true_np, axis=1))


def anywhere(true_np: Bool[np.ndarray, "n p"]) -> Bool[np.ndarray, " n"]:
    """Return which rows are true in some column."""
    return np.asarray(np.logical_or.reduce(true_np, axis=1))


@lru_cache(maxsize=2**13)
def none_of(patterns: tuple[Pattern, ...]) -> Pattern:
    """Return the pattern of the sequences that satisfy none of these."""

    def satisfies_none(tokens_np: Integer[np.ndarray, "n p"], space: Space) -> Bool[np.ndarray, " n"]:
        return np.asarray(~np.logical_or.reduce([one.holds(tokens_np, space) for one in patterns]))

    names = ", ".join(one.name for one in patterns)
    return Pattern(name=f"none of {names}", help=f"None of {names}", holds=satisfies_none)


@lru_cache(maxsize=2**13)
def _count(pattern: Pattern, space: Space) -> int:
    if pattern.own_count is not None:
        return pattern.own_count(space)
    tokens_np = _all_or_some(space)
    return int(pattern.holds(tokens_np, space).sum()) * space.size // len(tokens_np)


@lru_cache(maxsize=4)
def _all_or_some(space: Space) -> UInt8[np.ndarray, "n p"]:
    if space.size <= _ENUMERABLE:
        return _read_only(every_sequence(space))
    return _read_only(uniform(np.random.default_rng(0), _SAMPLE, space))  # always the same, so that a count is a fact


@lru_cache(maxsize=2**8)
def members(pattern: Pattern, space: Space) -> UInt8[np.ndarray, "n p"]:
    """Return all sequences of a pattern that has few, in alphabetical order, not to be written into."""
    if space.size <= _ENUMERABLE:
        tokens_np = every_sequence(space)
        return _read_only(tokens_np[pattern.holds(tokens_np, space)])
    rng = np.random.default_rng(0)
    found_np = np.unique(pattern.draw(rng, 2**10, space), axis=0)
    while True:
        # At 30 draws for each sequence a missing one would go unseen once in e^30.
        more_np = pattern.draw(rng, 30 * len(found_np), space)
        n_before, found_np = len(found_np), np.unique(np.concatenate([found_np, more_np]), axis=0)
        if len(found_np) == n_before:
            return _read_only(found_np)


def _read_only(tokens_np: UInt8[np.ndarray, "n p"]) -> UInt8[np.ndarray, "n p"]:
    """Close an array that is remembered to whoever is handed it."""
    tokens_np.setflags(write=False)
    return tokens_np
