"""What a prompt changes in a grammar: values that it names come up more often."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from actlab.ground.scripts import is_surely_latin
from actlab.text.templates.check import MAX_COMBINATIONS
from actlab.text.templates.grammar import Alternative, Grammar, Template, Values
from actlab.text.templates.stems import latin_parts_of, stem, stems_of
from actlab.text.words import is_unspaced, normal_form

NAMED_SHARE = 0.5
"""Of the draws of a variable, together, for the values that the prompt names."""


def biased(grammar: Grammar, prompt: str) -> Grammar:
    """Return the grammar with more weight on what the prompt names.

    A value is named when the stems of all the words of one of its forms are in the prompt, if no other value has the
    same text there (a pronoun names nobody); an alternative of a symbol when it is such a text without slots. Named
    values of a variable, symbol or parameter together get at least half of its draws, but a parameter for which the
    full product would grow beyond its limit stays as it is. Values of pools stay equally likely, and skeletons too.
    """
    stems = stems_of(prompt)
    if not stems:
        return grammar
    return replace(
        grammar,
        parameters=_biased_parameters(grammar, stems),
        variables={name: _biased_values(values, stems, whole=False) for name, values in grammar.variables.items()},
        symbols={name: _biased_symbol(alternatives, stems) for name, alternatives in grammar.symbols.items()},
    )


def names_by_script(grammar: Grammar, prompt: str) -> bool:
    """Return whether a prompt names other values than in version 1, where all text went by Latin's rules."""
    stems, before = stems_of(prompt), frozenset(map(stem, latin_parts_of(prompt)))
    texts = (text for text in _texts(grammar) if not (is_surely_latin(prompt) and is_surely_latin(text)))
    return any(_names(text, stems) != _named_before(text, before) for text in texts)


def _named_before(text: str, stems: frozenset[str]) -> bool:
    found = frozenset(map(stem, latin_parts_of(text)))
    return any(len(one) > 2 for one in found) and found <= stems


def _texts(grammar: Grammar) -> Iterator[str]:
    """Yield what a prompt can name."""
    for values in (*grammar.parameters.values(), *grammar.variables.values()):
        if values.pool is None:
            yield from (text for row in values.rows for text in row)
    for alternatives in grammar.symbols.values():
        yield from (str(one.template[0]) for one in alternatives if _is_text(one.template))


def _biased_parameters(grammar: Grammar, stems: frozenset[str]) -> dict[str, Values]:
    n_combinations, parameters = grammar.n_combinations, dict(grammar.parameters)
    for name, values in grammar.parameters.items():
        changed = _biased_values(values, stems, whole=True)
        grown = n_combinations // values.n_in_product * changed.n_in_product
        if grown <= MAX_COMBINATIONS:
            n_combinations, parameters[name] = grown, changed
    return parameters


def _biased_values(values: Values, stems: frozenset[str], *, whole: bool) -> Values:
    if values.pool is not None:
        return values
    times = [Counter(map(normal_form, column)) for column in zip(*values.rows, strict=True)]
    named = [
        any(shared[normal_form(text)] == 1 and _names(text, stems) for shared, text in zip(times, row, strict=True))
        for row in values.rows
    ]
    return replace(values, weights=_biased_weights(values.weights, named, whole=whole))


def _biased_symbol(alternatives: tuple[Alternative, ...], stems: frozenset[str]) -> tuple[Alternative, ...]:
    named = [_is_text(one.template) and _names(str(one.template[0]), stems) for one in alternatives]
    weights = _biased_weights(tuple(alternative.weight for alternative in alternatives), named, whole=False)
    return tuple(Alternative(one.template, weight) for one, weight in zip(alternatives, weights, strict=True))


def _is_text(template: Template) -> bool:
    return len(template) == 1 and isinstance(template[0], str)


def _names(text: str, stems: frozenset[str]) -> bool:
    found = stems_of(text)
    return any(len(one) > 2 or (len(one) > 1 and is_unspaced(one)) for one in found) and found <= stems


def _biased_weights(weights: tuple[float, ...], named: list[bool], *, whole: bool) -> tuple[float, ...]:
    on = sum(weight for weight, is_named in zip(weights, named, strict=True) if is_named)
    off = sum(weights) - on
    if not on or not off:
        return weights
    factor = max(1.0, NAMED_SHARE / (1 - NAMED_SHARE) * off / on)
    factor = ceil(factor) if whole else factor
    return tuple(weight * factor if is_named else weight for weight, is_named in zip(weights, named, strict=True))
