"""From a grammar to texts: compiled once to closures, then document k from its seed alone."""

import random
from array import array
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from math import prod
from typing import NamedTuple, TypedDict

from actlab.ground.seeds import derive_seed
from actlab.text.templates.grammar import Alternative, Grammar, Slot, Template
from actlab.text.templates.modifiers import modified
from actlab.text.templates.prompt import biased


class Labels(TypedDict):
    """What a text was made from."""

    domain: str
    skeleton: str
    parameters: dict[str, str]
    """By name. One is listed though the text may not show it."""
    slots: dict[str, str | list[str]]
    """The variables that the text uses, each with its first form, and the lists of what was taken from pools."""


class Generated(NamedTuple):
    """A text and what it was made from."""

    text: str
    labels: Labels


class _State:
    """One document on its way: what has been drawn for it."""

    __slots__ = ("random", "rows", "taken")

    def __init__(self, rng: random.Random, rows: list[int], n_pools: int) -> None:
        self.random = rng.random
        self.rows = rows
        """The drawn row of each parameter and variable; -1 before a variable's first use."""
        self.taken: list[dict[int, None]] = [{} for _ in range(n_pools)]
        """Of each pool, in order: looked up at every draw."""


_Writer = Callable[[_State], str]


class Compiled(NamedTuple):
    """A grammar, ready to write."""

    grammar: Grammar
    writers: list[tuple[str, _Writer]]
    """By skeleton."""
    parameter_rows: list[list[int]]
    """The rows of each parameter, repeated by weight."""

    def generate(self, seed: int, k: int) -> Generated:
        """Write document k."""
        combination = combination_at(seed, k, (len(self.writers), *map(len, self.parameter_rows)))
        skeleton, writer = self.writers[combination[0]]
        chosen = [rows[i] for rows, i in zip(self.parameter_rows, combination[1:], strict=True)]
        grammar = self.grammar
        state = _State(
            random.Random(derive_seed(seed, k)), [*chosen, *([-1] * len(grammar.variables))], len(grammar.pools)
        )
        return Generated(writer(state), _labels(grammar, skeleton, state))


def _labels(grammar: Grammar, skeleton: str, state: _State) -> Labels:
    slots: dict[str, str | list[str]] = {
        name: values.rows[row][0]
        for (name, values), row in zip(grammar.variables.items(), state.rows[len(grammar.parameters) :], strict=True)
        if row >= 0
    }
    for (name, pool), taken in zip(grammar.pools.items(), state.taken, strict=True):
        if taken:
            slots[name] = [pool[i] for i in taken]
    parameters = {
        name: values.rows[row][0] for (name, values), row in zip(grammar.parameters.items(), state.rows, strict=False)
    }
    return {"domain": grammar.domain, "skeleton": skeleton, "parameters": parameters, "slots": slots}


@lru_cache(maxsize=16)
def compile_grammar(grammar: Grammar, prompt: str = "") -> Compiled:
    """Turn a grammar, as the prompt biases it, into functions that write."""
    grammar = biased(grammar, prompt)
    build = _Builder(grammar)
    for name, alternatives in grammar.symbols.items():
        build.symbols[name] = build.choice(alternatives)
    return Compiled(
        grammar,
        [(name, build.template(template)) for name, template in grammar.skeletons.items()],
        [
            [row for row, weight in enumerate(values.weights) for _ in range(round(weight))]
            for values in grammar.parameters.values()
        ],
    )


def generate(grammar: Grammar, seed: int, k: int, prompt: str = "") -> Generated:
    """Write document k: a function of the grammar, the seed, k and the prompt alone.

    The skeleton and the parameters are entry k of their full product, shuffled anew for each pass through it.
    """
    return compile_grammar(grammar, prompt).generate(seed, k)


def combination_at(seed: int, k: int, sizes: tuple[int, ...]) -> list[int]:
    """Return entry k of the shuffled full product of `range(size)` for each size, pass after pass.

    >>> sorted(combination_at(0, k, (2, 3)) for k in range(6))
    [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    """
    number, at = divmod(k, prod(sizes))
    index = _permutation(seed, number, prod(sizes))[at]
    combination = []
    for size in reversed(sizes):
        index, part = divmod(index, size)
        combination.append(part)
    return combination[::-1]


@lru_cache(maxsize=4)
def _permutation(seed: int, number: int, n: int) -> "array[int]":
    order = array("L", range(n))
    random.Random(derive_seed(seed, "pass", number)).shuffle(order)
    return order


class _Builder:
    """Closures for the parts of one grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.symbols: dict[str, _Writer] = {}
        self.places = {name: place for place, name in enumerate([*grammar.parameters, *grammar.variables])}
        self.pools = {name: place for place, name in enumerate(grammar.pools)}

    def choice(self, alternatives: tuple[Alternative, ...]) -> _Writer:
        writers = [self.template(alternative.template) for alternative in alternatives]
        if len(writers) == 1:
            return writers[0]
        draw = _draw([alternative.weight for alternative in alternatives])
        return lambda state: writers[draw(state)](state)

    def template(self, template: Template) -> _Writer:
        if len(template) == 1 and isinstance(template[0], Slot):
            return self.slot(template[0])
        if all(isinstance(piece, str) for piece in template):
            text = "".join(piece for piece in template if isinstance(piece, str))
            return lambda state: text
        pattern = "".join(piece.replace("%", "%%") if isinstance(piece, str) else "%s" for piece in template)
        writers = [self.slot(piece) for piece in template if isinstance(piece, Slot)]
        return lambda state: pattern % tuple([write(state) for write in writers])

    def slot(self, slot: Slot) -> _Writer:
        if slot.name in self.pools:
            return self._from_pool(slot)
        if slot.name in self.places:
            return self._from_values(slot)
        write = self.symbols[slot.name]
        return (lambda state: modified(write(state), slot.modifiers)) if slot.modifiers else write

    def _from_pool(self, slot: Slot) -> _Writer:
        texts = [modified(text, slot.modifiers) for text in self.grammar.pools[slot.name]]
        place = self.pools[slot.name]
        return lambda state: texts[_take(state, place, len(texts))]

    def _from_values(self, slot: Slot) -> _Writer:
        values = self.grammar.values(slot.name)
        assert values is not None
        form = values.forms.index(slot.form)
        texts = [modified(row[form], slot.modifiers) for row in values.rows]
        place = self.places[slot.name]
        if slot.name in self.grammar.parameters:
            return lambda state: texts[state.rows[place]]
        draw = _draw(values.weights)
        if values.pool is not None:
            draw = partial(_take, place=self.pools[values.pool], n=len(texts))

        def write(state: _State) -> str:
            row = state.rows[place]
            if row < 0:
                row = state.rows[place] = draw(state)
            return texts[row]

        return write


def _draw(weights: Sequence[float]) -> Callable[[_State], int]:
    """Return what draws the number of an alternative, by weight."""
    n = len(weights)
    if len(set(weights)) == 1:
        return lambda state: int(state.random() * n)
    *bounds, total = accumulate(weights)  # without the last end, so that a draw up to the total always finds one
    return lambda state: bisect(bounds, state.random() * total)


def _take(state: _State, place: int, n: int) -> int:
    """Draw a value that this document has not taken: each of the others equally likely."""
    taken = state.taken[place]
    while (row := int(state.random() * n)) in taken:
        pass
    taken[row] = None
    return row
