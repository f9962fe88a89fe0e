"""Sums over the derivations of a grammar's parts, by dynamic programming."""

from collections.abc import Iterable
from functools import cache
from math import perm, prod
from typing import NamedTuple

from actlab.ground.errors import DataError
from actlab.text.templates.grammar import Grammar, Slot, Template, Values, slots
from actlab.text.words import normal_form

Uses = tuple[int, int]
"""What a part of a derivation has used: a bit for each form of each variable and parameter; 16 bits a pool for the
number of draws. Uses of parts join by `or` and by sum."""

Polynomial = dict[Uses, tuple[int, float]]
"""Of the derivations with the same uses: their number and the sum of their squared probabilities, before what the
uses themselves multiply by."""

ONE: Polynomial = {(0, 0): (1, 1.0)}
"""Of nothing."""

_NOTHING = (0, 0.0)

MAX_TERMS = 300_000
"""In a polynomial: some hundred megabytes and seconds."""


class Factor(NamedTuple):
    """What uses multiply by."""

    n_choices: int
    square: float
    same_combination: float
    """The probability that two combinations of parameters agree where the text shows them."""


class Sums:
    """Sums over the derivations of one grammar's parts."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.bits: dict[tuple[str, str], int] = {}
        self.masks: dict[str, int] = {}
        n_bits = 0
        for name, values in [*grammar.parameters.items(), *grammar.variables.items()]:
            self.masks[name] = ((1 << len(values.forms)) - 1) << n_bits
            for column, form in enumerate(values.forms):
                tells_all = len({normal_form(row[column]) for row in values.rows}) == len(values.rows)
                self.bits[name, form] = self.masks[name] if tells_all else 1 << (n_bits + column)
            n_bits += len(values.forms)
        self.first_bits = {name: (mask & -mask).bit_length() - 1 for name, mask in self.masks.items()}
        self.pooled = sum(self.masks[name] for name, values in grammar.variables.items() if values.pool is not None)
        self.pools = {name: 16 * place for place, name in enumerate(grammar.pools)}
        self.taken = cache(self._of_taken)
        self.mask_factor = cache(self._of_mask)
        self.pool_factor = cache(self._of_draws)
        self.symbols: dict[str, Polynomial] = {}
        self.products: dict[tuple[int, str], tuple[int, Polynomial]] = {}
        """The number and the value of a numbered product (0 is `ONE`) times a symbol."""
        self.spaces = {name: sum(map(_n_spaces, pool)) / len(pool) for name, pool in grammar.pools.items()}
        for name, alternatives in grammar.symbols.items():
            total = sum(alternative.weight for alternative in alternatives)
            found: Polynomial = {}
            for template, weight in alternatives:
                for uses, (count, square) in self.of_template(template).items():
                    had = found.get(uses, _NOTHING)
                    found[uses] = (had[0] + count, had[1] + square * (weight / total) ** 2)
            self.symbols[name] = found
            self.spaces[name] = sum(self.spaces_of(template) * weight for template, weight in alternatives) / total

    def of_template(self, template: Template) -> Polynomial:
        """Sum over what a template can become; the order of its parts does not matter."""
        named = slots(template)
        mask = draws = 0
        for slot in named:
            if slot.name in self.pools:
                draws += 1 << self.pools[slot.name]
            elif slot.name not in self.symbols:
                mask |= self.bits[slot.name, slot.form]
        product = self._product(sorted(slot.name for slot in named if slot.name in self.symbols))
        return self._times(product, {(mask, draws): (1, 1.0)}, "")

    def _product(self, names: list[str]) -> Polynomial:
        """Multiply symbols; a product of the same first symbols is needed by many skeletons."""
        number, product = 0, ONE
        for name in names:
            if (number, name) not in self.products:
                self.products[number, name] = (len(self.products) + 1, self._times(product, self.symbols[name], name))
            number, product = self.products[number, name]
        return product

    def _times(self, known: Polynomial, factor: Polynomial, name: str) -> Polynomial:
        """Multiply by a factor, that of a symbol of a name."""
        product: Polynomial = {}
        for (mask, draws), (count, square) in factor.items():
            for (other_mask, other_draws), (other_count, other_square) in known.items():
                uses = (mask | other_mask, draws + other_draws)
                had = product.get(uses, _NOTHING)
                product[uses] = (had[0] + count * other_count, had[1] + square * other_square)
            if len(product) > MAX_TERMS:
                raise DataError(
                    f"{self.grammar.where}: #{name}# and the symbols beside it use their variables and pools in over "
                    f"{MAX_TERMS:,} combinations: too many to count",
                    hint="let fewer alternatives use pools and variables that others do not",
                )
        return product

    def factor(self, uses: Uses) -> Factor:
        """Return what the used variables, parameters and pools multiply by."""
        mask, draws = uses
        in_mask = self.mask_factor(mask)
        in_pools = self.pool_factor(draws, mask & self.pooled)
        return Factor(
            in_mask.n_choices * in_pools.n_choices, in_mask.square * in_pools.square, in_mask.same_combination
        )

    def _of_mask(self, mask: int) -> Factor:
        drawn = {name: values for name, values in self.grammar.variables.items() if values.pool is None}
        parameters, variables = (
            [self._classes(values, mask, name) for name, values in some.items()]
            for some in (self.grammar.parameters, drawn)
        )
        n_choices = prod(n_classes for n_classes, _ in (*parameters, *variables))
        return Factor(n_choices, prod(same for _, same in variables), prod(same for _, same in parameters))

    def _of_draws(self, draws: int, pooled: int) -> Factor:
        n_orders = prod(perm(n, (draws >> shift & 0xFFFF) + taken) for n, shift, taken in self.taken(pooled))
        return Factor(n_orders, 1 / n_orders, 1.0)

    def _of_taken(self, pooled: int) -> list[tuple[int, int, int]]:
        """Return, of the variables in use, each pool's length, its place among the draws, and how many it gives."""
        takers = [values.pool for name, values in self.grammar.variables.items() if pooled & self.masks[name]]
        return [(len(self.grammar.pools[pool]), shift, takers.count(pool)) for pool, shift in self.pools.items()]

    def _classes(self, values: Values, mask: int, name: str) -> tuple[int, float]:
        """Return how many values can be told apart by the forms in use, and how likely two draws cannot be."""
        columns = [column for column in range(len(values.forms)) if mask >> (self.first_bits[name] + column) & 1]
        classes: dict[tuple[str, ...], float] = {}
        for row, weight in zip(values.rows, values.weights, strict=True):
            shown = tuple(normal_form(row[column]) for column in columns)
            classes[shown] = classes.get(shown, 0.0) + weight
        return len(classes), sum(weight**2 for weight in classes.values()) / sum(values.weights) ** 2

    def spaces_of(self, template: Template) -> float:
        """Return how many runs of white space a template's texts have in the mean: one less than its words."""
        return sum(_n_spaces(piece) if isinstance(piece, str) else self._spaces_of_slot(piece) for piece in template)

    def _spaces_of_slot(self, slot: Slot) -> float:
        article = slot.modifiers.count("a")
        if slot.name in self.spaces:
            return self.spaces[slot.name] + article
        values = self.grammar.values(slot.name)
        assert values is not None
        texts: Iterable[str] = (row[values.forms.index(slot.form)] for row in values.rows)
        weighted = (weight * _n_spaces(text) for text, weight in zip(texts, values.weights, strict=True))
        return sum(weighted) / sum(values.weights) + article


def _n_spaces(text: str) -> int:
    """Count runs of white space.

    >>> [_n_spaces(text) for text in (" and ", "one two", "a,\\nb", "-")]
    [2, 1, 1, 0]
    """
    return sum(now.isspace() and not before.isspace() for before, now in zip("x" + text, text, strict=False))
