"""A network's rows: positives drawn for its patterns, negatives of all of them, no sequence twice."""

# n rows, p positions

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int16, UInt8

from actlab.ground.errors import DataError
from actlab.weights.patterns.pattern import Pattern, members, none_of
from actlab.weights.patterns.space import Space

TOO_SMALL = 40
"""Ten sequences cannot be held out as a quarter of fewer."""

FEWEST_TO_JUDGE = 10
"""Rows of a pattern by which a network may be said to recognise it."""

_RAREST_NEGATIVES = 1000
"""Negatives are looked for where at least one sequence in so many is one."""

_NEGATIVE = -1


@dataclass(frozen=True, kw_only=True)
class RowSizes:
    """How many rows a network gets."""

    target_total_examples: int
    """Rows to train and validate on, negatives included."""
    max_total_examples: int
    """Never more of those, whatever `min_per_pattern` asks."""
    min_per_pattern: int
    """Positives of each pattern to train and validate on, at least, if it has them."""
    negative_ratio: float
    """Share of negatives among the rows to train and validate on: above 0, under 1."""
    validation_split: float
    """Share of the rows that are validated on, in each pattern and in the negatives."""
    test_set_size: int
    """Rows of each pattern's test set: half are its own, half are negatives, which all patterns share."""


class Rows(NamedTuple):
    """Sequences and what they are."""

    tokens: UInt8[np.ndarray, "n p"]
    """Letters' indices: A is 0."""
    labels: Bool[np.ndarray, " n"]
    """Whether a row is a positive."""
    patterns: Int16[np.ndarray, " n"]
    """Which of the network's patterns a positive was drawn for (it may satisfy others too); -1 for a negative. What
    `draw_others` draws are negatives by the place of the pattern, not the network's, for which each was drawn."""


class DrawnRows(NamedTuple):
    """Rows for each purpose."""

    train: Rows
    validation: Rows
    test: Rows
    """A pattern's test set is the positives drawn for it and as many of the negatives."""


_Stratum: TypeAlias = tuple[UInt8[np.ndarray, "n p"], UInt8[np.ndarray, "n p"], UInt8[np.ndarray, "n p"]]
"""What one pattern, or the negatives, give to training, validation and test."""


def too_small(pattern: Pattern, space: Space) -> bool:
    """Tell whether a pattern has too few sequences to hold out ten for a test and train on the rest."""
    return pattern.count(space) < TOO_SMALL


def draw_rows(rng: np.random.Generator, patterns: Sequence[Pattern], *, space: Space, sizes: RowSizes) -> DrawnRows:
    """Draw a network's rows, each pattern's uniformly from its own sequences, in shuffled order.

    No sequence comes twice, whatever the split. A small pattern holds out at most a quarter of its sequences and
    gives what it has; negatives keep their share of the rows that there are.

    Raises:
        DataError: A split would lack a pattern or negatives, or negatives are too rare to find.
    """
    negatives = _negatives(patterns, space)
    taken: set[bytes] = set()
    wanted = _positives_wanted(sizes, len(patterns))
    strata = {
        index: _draw_stratum(rng, patterns[index], space, taken, wanted[index], sizes)
        for index in _smallest_first(patterns, space)
    }
    n_positives = sum(len(train_np) + len(validation_np) for train_np, validation_np, _ in strata.values())
    n_of_share = round(n_positives * sizes.negative_ratio / (1 - sizes.negative_ratio))
    n_negatives = min(n_of_share, sizes.max_total_examples - n_positives)
    strata[_NEGATIVE] = _draw_stratum(rng, negatives, space, taken, n_negatives, sizes)
    return DrawnRows(
        *(_shuffled(rng, dict(zip(strata, part, strict=True))) for part in zip(*strata.values(), strict=True))
    )


def draw_others(
    rng: np.random.Generator,
    others: Mapping[int, Pattern],
    *,
    own: tuple[Pattern, ...],
    drawn: DrawnRows,
    space: Space,
    n: int,
) -> Rows:
    """Draw n rows of each of other patterns that satisfy none of a network's own, and that it has nowhere.

    All are negatives, in the order of `others`, whose keys are their `patterns`. One with fewer than ten gives none:
    of its rows, or of those of the test's negatives that it does not have, so that either answer can be counted.
    """
    none_of_own = none_of(own)
    taken = {sequence for part in drawn for sequence in _as_bytes(part.tokens)}
    refused_np = drawn.test.tokens[~drawn.test.labels]
    found: dict[int, np.ndarray] = {}
    for place in sorted(others, key=lambda place: others[place].count(space)):
        parts = [np.empty((0, space.length), np.uint8)]
        while (n_missing := n - sum(map(len, parts))) > 0:
            tokens_np = others[place].draw(rng, 2 * n + 64, space)
            parts.append(_new_ones(tokens_np[none_of_own.holds(tokens_np, space)], taken, n_missing))
            if not len(parts[-1]):
                break  # none left, or fewer than one in some hundred
        n_refused = int((~others[place].holds(refused_np, space)).sum())
        if min(sum(map(len, parts)), n_refused) >= FEWEST_TO_JUDGE:
            found[place] = np.concatenate(parts)
    places = sorted(found)
    tokens_np = np.concatenate([found[place] for place in places] or [np.empty((0, space.length), np.uint8)])
    pattern_n = np.repeat(np.array(places, dtype=np.int16), [len(found[place]) for place in places])
    return Rows(tokens_np, np.zeros(len(tokens_np), dtype=bool), pattern_n)


def draw_labelled(
    rng: np.random.Generator, patterns: Sequence[Pattern], *, space: Space, n_positives: int, n_negatives: int
) -> Rows:
    """Draw distinct rows balanced over patterns, in shuffled order.

    A pattern that has fewer sequences gives what it has, and the others make up for it evenly.

    Raises:
        DataError: There are not as many distinct sequences, or negatives are too rare to find.
    """
    negatives = _negatives(patterns, space)
    taken: set[bytes] = set()
    drawn: dict[int, np.ndarray] = {}
    n_missing = n_positives
    if n_positives > sum(pattern.count(space) for pattern in patterns) or n_negatives > space.size:
        raise _too_many(n_positives, n_negatives, space)
    for n_before, index in enumerate(_smallest_first(patterns, space)):
        drawn[index] = _take(rng, patterns[index], space, taken, n_missing // (len(patterns) - n_before))
        n_missing -= len(drawn[index])
    drawn[_NEGATIVE] = _take(rng, negatives, space, taken, n_negatives)
    if n_missing or len(drawn[_NEGATIVE]) < n_negatives:
        raise _too_many(n_positives, n_negatives, space)
    return _shuffled(rng, drawn)


def _too_many(n_positives: int, n_negatives: int, space: Space) -> DataError:
    return DataError(
        f"{n_positives} positives and {n_negatives} negatives are more than there are "
        f"of {space.length} letters from {space.letters}",
        hint="ask for fewer rows, or for a larger vocab_size or sequence_length",
    )


def _negatives(patterns: Sequence[Pattern], space: Space) -> Pattern:
    negatives = none_of(tuple(patterns))
    if negatives.count(space) * _RAREST_NEGATIVES < space.size:
        raise DataError(
            f"hardly any sequence of {space.length} letters from {space.letters} is {negatives.name}",
            hint="negatives have to satisfy no pattern: leave out one that nearly every sequence satisfies",
        )
    return negatives


def _smallest_first(patterns: Sequence[Pattern], space: Space) -> list[int]:
    """Return the patterns' indices in the order in which they choose: a large one spares what a small one took."""
    return sorted(range(len(patterns)), key=lambda index: patterns[index].count(space))


def _positives_wanted(sizes: RowSizes, n_patterns: int) -> list[int]:
    """Share the positives to train and validate on among the patterns, as evenly as whole numbers allow."""
    n_total = min(sizes.target_total_examples, sizes.max_total_examples)
    n_wanted = max(n_total - round(n_total * sizes.negative_ratio), sizes.min_per_pattern * n_patterns)
    n_wanted = min(n_wanted, int(sizes.max_total_examples * (1 - sizes.negative_ratio)))
    return [n_wanted * (index + 1) // n_patterns - n_wanted * index // n_patterns for index in range(n_patterns)]


def _draw_stratum(
    rng: np.random.Generator, pattern: Pattern, space: Space, taken: set[bytes], n_wanted: int, sizes: RowSizes
) -> _Stratum:
    """Take rows for all splits: so many to train and validate on, and half a test set but at most a quarter."""
    n_available = pattern.count(space) - _n_taken_of(pattern, space, taken)
    n_test = min(sizes.test_set_size // 2, n_available // 4)
    drawn_np = _take(rng, pattern, space, taken, n_test + n_wanted)
    n_kept = len(drawn_np) - n_test
    if n_test < 1 or n_kept < 2:
        raise DataError(
            f"{pattern.name}: {n_available} sequences of {space.length} letters from {space.letters} are left for it "
            f"and {n_wanted} wanted, too few for train, validation and test",
            hint="leave the pattern out, or raise vocab_size, sequence_length or target_total_examples",
        )
    n_validation = min(max(round(n_kept * sizes.validation_split), 1), n_kept - 1)
    test_np, validation_np, train_np = np.split(drawn_np, [n_test, n_test + n_validation])
    return train_np, validation_np, test_np


def _take(
    rng: np.random.Generator, pattern: Pattern, space: Space, taken: set[bytes], n: int
) -> UInt8[np.ndarray, "n p"]:
    """Take n sequences of a pattern at random from those not taken yet, or all of them if they are fewer."""
    n_of_all = pattern.count(space)
    if n_of_all == 0:
        return np.empty((0, space.length), np.uint8)
    if 2 * (n + _n_taken_of(pattern, space, taken)) > n_of_all:
        return _new_ones(rng.permutation(members(pattern, space)), taken, n)
    # Half of the set stays free to the end: 64 draws in a row without a new one only happen where the count was
    # estimated, and far too high.
    parts = [_new_ones(pattern.draw(rng, n + n // 8 + 64, space), taken, n)]
    while len(parts[-1]) and (n_missing := n - sum(map(len, parts))):
        parts.append(_new_ones(pattern.draw(rng, 2 * n_missing + 64, space), taken, n_missing))
    return np.concatenate(parts)


def _new_ones(tokens_np: UInt8[np.ndarray, "n p"], taken: set[bytes], n: int) -> UInt8[np.ndarray, "new p"]:
    """Return the first n sequences that are not taken, and take them."""
    new = [sequence for sequence in dict.fromkeys(_as_bytes(tokens_np)) if sequence not in taken][:n]
    taken.update(new)
    return _as_tokens(new, tokens_np.shape[1])


def _as_bytes(tokens_np: UInt8[np.ndarray, "n p"]) -> list[bytes]:
    sequences: list[bytes] = np.ascontiguousarray(tokens_np).view(f"V{tokens_np.shape[1]}")[:, 0].tolist()
    return sequences


def _as_tokens(sequences: Collection[bytes], length: int) -> UInt8[np.ndarray, "n p"]:
    return np.frombuffer(b"".join(sequences), dtype=np.uint8).reshape(-1, length)


def _n_taken_of(pattern: Pattern, space: Space, taken: set[bytes]) -> int:
    return int(pattern.holds(_as_tokens(taken, space.length), space).sum())


def _shuffled(rng: np.random.Generator, drawn: dict[int, np.ndarray]) -> Rows:
    """Put a split's rows together, by the index of their pattern."""
    pattern_n = np.concatenate([np.full(len(tokens_np), index, dtype=np.int16) for index, tokens_np in drawn.items()])
    order_n = rng.permutation(len(pattern_n))
    pattern_n = pattern_n[order_n]
    return Rows(np.concatenate(list(drawn.values()))[order_n], pattern_n != _NEGATIVE, pattern_n)
