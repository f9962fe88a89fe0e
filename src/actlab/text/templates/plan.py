"""What a grammar can supply, calculated before anything is generated.

A derivation is everything drawn that the text shows: the skeleton, the alternative of each symbol, the values of the
pools in order, and of parameters and variables the forms that occur; case and white space do not tell values apart, as
they do not tell documents apart. Two derivations with one text are counted as two: they are rare in a grammar that says
different things with different words.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, expm1, log1p
from typing import NamedTuple

from actlab.ground.errors import ConfigError, DataError
from actlab.text.templates.grammar import Grammar
from actlab.text.templates.prompt import biased
from actlab.text.templates.sums import Sums

MAX_DUPLICATE_SHARE = 0.01
"""Of a target's documents, before it is refused."""

MAX_LANGUAGE_SIZE = 10**4000
"""Python does not write numbers of over 4,300 digits."""

FEW_PAIRS = 1e-3
"""Equal pairs a document, below which pairs and duplicates are the same: the formula for many would lose its digits."""


class _Term(NamedTuple):
    """Derivations whose texts show the same of a combination."""

    square: float
    """The sum of the squared probabilities of what is drawn, in the mean over skeletons."""
    same_combination: float
    """The probability that two combinations, drawn independently, agree where these texts show it."""


@dataclass(frozen=True)
class GrammarFacts:
    """What is known of a grammar before generation."""

    where: str
    n_skeletons: int
    n_combinations: int
    """Of skeletons and parameters: the length of the full product."""
    language_size: int
    """The number of derivations."""
    expected_words: float
    """In a document; words are what white space separates."""
    terms: tuple[_Term, ...]

    @cached_property
    def collision_probability(self) -> float:
        """Of two documents drawn independently, combinations included, being the same derivation."""
        return sum(term.square * term.same_combination for term in self.terms)


@lru_cache(maxsize=16)
def describe_grammar(grammar: Grammar, prompt: str = "") -> GrammarFacts:
    """Count a grammar's derivations, their words and their collisions exactly, by dynamic programming.

    Raises:
        DataError: There are too many to count, or to write the number down.
    """
    grammar = biased(grammar, prompt)
    sums = Sums(grammar)
    n_skeletons = len(grammar.skeletons)
    language_size = 0
    squares: dict[float, float] = {}
    for template in grammar.skeletons.values():
        for uses, (count, square) in sums.of_template(template).items():
            factor = sums.factor(uses)
            language_size += count * factor.n_choices
            same = factor.same_combination / n_skeletons
            squares[same] = squares.get(same, 0.0) + square * factor.square / n_skeletons
    if language_size > MAX_LANGUAGE_SIZE:
        raise DataError(
            f"{grammar.where} holds over 10^4000 texts: too many to write down", hint="make documents shorter"
        )
    return GrammarFacts(
        where=grammar.where,
        n_skeletons=n_skeletons,
        n_combinations=grammar.n_combinations,
        language_size=language_size,
        expected_words=1 + sum(map(sums.spaces_of, grammar.skeletons.values())) / n_skeletons,
        terms=tuple(_Term(square, same) for same, square in squares.items()),
    )


def expected_equal_pairs(facts: GrammarFacts, n: int) -> float:
    """Return how many pairs among documents 0 to n - 1 are expected to be the same derivation.

    Exact for the shuffled full product, whose passes hold each combination once: within one pass there are fewer
    pairs than among independent draws.
    """
    n_passes, rest = divmod(n, size := facts.n_combinations)
    pairs = 0.0
    for term in facts.terms:
        # Combinations fall into groups that look alike in the text; `squares` sums their squared sizes. A group of
        # g occurs g times a pass, and hypergeometrically often in the last, unfinished one.
        squares = term.same_combination * size * size
        full = n_passes * n_passes * squares - n_passes * size
        part = 2 * n_passes * rest * squares / size
        last = rest * (rest - 1) * (squares - size) / (size * (size - 1)) if size > 1 else 0.0
        pairs += term.square * (full + part + last) / 2
    return max(pairs, 0.0)


def expected_duplicates(facts: GrammarFacts, n: int) -> float:
    """Return how many of n documents are expected to repeat an earlier one.

    While repeats are few this is the exact number of equal pairs; beyond that, what a language of equally likely
    texts with as many equal pairs would repeat.
    """
    pairs = expected_equal_pairs(facts, n)
    if n < 2 or pairs <= 0:
        return 0.0
    n_texts = n * (n - 1) / 2 / pairs
    if n_texts <= 1:
        return float(n - 1)
    if pairs < FEW_PAIRS * n:
        return pairs
    # n less the expected number of different texts, each of which is missed with (1 - 1 / n_texts)^n
    return n + n_texts * expm1(n * log1p(-1 / n_texts))


def documents_needed(facts: GrammarFacts, n_tokens: int, tokens_per_word: float) -> int:
    """Return how many documents are expected to hold so many tokens."""
    return ceil(n_tokens / (facts.expected_words * tokens_per_word))


def refuse_target(facts: GrammarFacts, n_tokens: int, tokens_per_word: float) -> None:
    """Refuse a target of which the grammar would repeat more than `MAX_DUPLICATE_SHARE`.

    Raises:
        ConfigError: With the numbers; the hint names the largest target that it can supply.
    """
    n = documents_needed(facts, n_tokens, tokens_per_word)
    if not _repeats_itself(facts, n):
        return
    duplicates = expected_duplicates(facts, n)
    most = bisect_left(range(n), True, key=lambda fewer: _repeats_itself(facts, fewer)) - 1
    possible = int(most * facts.expected_words * tokens_per_word)
    raise ConfigError(
        f"{n_tokens:,} tokens are about {n:,} documents of {facts.where}, which would repeat {duplicates:,.0f} of them "
        f"({duplicates / n:.1%}); it holds {facts.language_size:,} texts",
        hint=f"ask for at most {possible:,} tokens, or give the grammar more skeletons and values",
    )


def _repeats_itself(facts: GrammarFacts, n: int) -> bool:
    return expected_duplicates(facts, n) > MAX_DUPLICATE_SHARE * n
