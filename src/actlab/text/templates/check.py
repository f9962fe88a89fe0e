"""Check that a grammar means something: names, forms, modifiers, no recursion, no pool that runs dry."""

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from actlab.ground.errors import DataError, did_you_mean
from actlab.text.templates.grammar import Alternative, Grammar, Slot, Template, slots
from actlab.text.templates.modifiers import MODIFIERS

MAX_COMBINATIONS = 1_000_000
"""Of skeletons and parameters: their shuffled product is held in memory."""

MAX_SLOTS = 10_000
"""A document fills at most: symbols that name each other twice, forty deep, would fill memory."""

MAX_DEPTH = 100
"""Of symbols inside symbols: each is a call inside a call."""


def checked(grammar: Grammar) -> Grammar:
    """Return the grammar with forms told from modifiers and its symbols in dependency order.

    Raises:
        DataError: A name is used twice or is nowhere, a form or modifier is not there, a symbol contains itself, a
            pool has fewer values than a document may ask for, or there are too many combinations of parameters.
    """
    _refuse_shared_names(grammar)
    symbols = {
        name: tuple(
            Alternative(_resolved(grammar, template, f"symbol {name!r}"), weight) for template, weight in alternatives
        )
        for name, alternatives in grammar.symbols.items()
    }
    skeletons = {
        name: _resolved(grammar, template, f"skeleton {name!r}") for name, template in grammar.skeletons.items()
    }
    ordered = {name: symbols[name] for name in _dependency_order(grammar)}
    complete = replace(grammar, symbols=ordered, skeletons=skeletons)
    for name, n in _most_slots(complete).items():
        if n > MAX_SLOTS:
            raise DataError(
                f"{grammar.where}: skeleton {name!r} may fill {n:,} slots", hint=f"keep it below {MAX_SLOTS:,}"
            )
    _refuse_small_pools(complete)
    for name, values in grammar.parameters.items():
        if any(weight != round(weight) for weight in values.weights):
            raise DataError(
                f"{grammar.where}: parameter {name!r} has a weight that is no whole number",
                hint="a parameter's weight says how often the value stands in the product",
            )
    if grammar.n_combinations > MAX_COMBINATIONS:
        raise DataError(
            f"{grammar.where}: skeletons and parameters have {grammar.n_combinations:,} combinations",
            hint=f"make variables of some parameters, until there are at most {MAX_COMBINATIONS:,}",
        )
    return complete


def _refuse_shared_names(grammar: Grammar) -> None:
    seen: dict[str, str] = {"skeleton": "word for the skeletons' own parameter"}
    for kind in ("parameters", "variables", "pools", "symbols"):
        for name in getattr(grammar, kind):
            if name in seen:
                raise DataError(
                    f"{grammar.where}: {name!r} is one of the {kind} and a {seen[name]}", hint="rename one of them"
                )
            seen[name] = f"{kind[:-1]} too"


def _resolved(grammar: Grammar, template: Template, place: str) -> Template:
    return tuple(piece if isinstance(piece, str) else _resolved_slot(grammar, piece, place) for piece in template)


def _resolved_slot(grammar: Grammar, slot: Slot, place: str) -> Slot:
    name, _, rest = slot
    known = [*grammar.parameters, *grammar.variables, *grammar.pools, *grammar.symbols]
    if name not in known:
        hint = did_you_mean(name, known, otherwise="define it under symbols, variables, pools or parameters")
        raise DataError(f"{grammar.where}: {place} uses #{name}#, which is not defined", hint=hint)
    values = grammar.values(name)
    form = ""
    if values is not None and values.forms != ("",):
        form, *after = rest or ("",)
        rest = tuple(after)
        if form not in values.forms:
            hint = did_you_mean(form, values.forms, otherwise=f"use one of {', '.join(values.forms)}")
            raise DataError(f"{grammar.where}: {place} uses #{name}# in a form {form!r} that it lacks", hint=hint)
    for modifier in rest:
        if modifier not in MODIFIERS:
            hint = did_you_mean(modifier, MODIFIERS, otherwise=f"the modifiers are {', '.join(MODIFIERS)}")
            raise DataError(f"{grammar.where}: {place} has an unknown modifier {modifier!r} on #{name}#", hint=hint)
    return Slot(name, form, rest)


def _dependency_order(grammar: Grammar) -> list[str]:
    """Return the symbols, each after those that it contains."""
    inside = {
        name: [slot.name for one in alternatives for slot in slots(one.template) if slot.name in grammar.symbols]
        for name, alternatives in grammar.symbols.items()
    }
    try:
        order = list(TopologicalSorter(inside).static_order())
    except CycleError as error:
        *around, _ = reversed(error.args[1])
        first = around.index(next(name for name in inside if name in around))
        around = [*around[first:], *around[:first]]
        raise DataError(
            f"{grammar.where}: symbol {around[0]!r} contains itself without end: {' > '.join([*around, around[0]])}",
            hint=f"take #{around[0]}# out of {around[-1]!r}",
        ) from None
    depths: dict[str, int] = {}
    for name in order:
        depths[name] = 1 + max((depths[one] for one in inside[name]), default=0)
        if depths[name] > MAX_DEPTH:
            raise DataError(f"{grammar.where}: symbol {name!r} is over {MAX_DEPTH} deep", hint="put some into one")
    return order


def _refuse_small_pools(grammar: Grammar) -> None:
    uses = {name: _most_slots(grammar, name) for name in [*grammar.pools, *grammar.variables]}
    for pool, values in grammar.pools.items():
        takers = [name for name, variable in grammar.variables.items() if variable.pool == pool]
        for skeleton in grammar.skeletons:
            n_draws = uses[pool][skeleton] + sum(uses[taker][skeleton] > 0 for taker in takers)
            if n_draws > len(values):
                raise DataError(
                    f"{grammar.where}: skeleton {skeleton!r} may ask {n_draws} different values of pool {pool!r}, "
                    f"which has {len(values)}",
                    hint="add values to the pool, or use it less often",
                )


def _most_slots(grammar: Grammar, name: str | None = None) -> dict[str, int]:
    """Return for each skeleton how many slots (of one name) a document may fill, those inside symbols included."""
    most: dict[str, int] = {}

    def of(template: Template) -> int:
        return sum(most.get(slot.name, 0) + (name in (None, slot.name)) for slot in slots(template))

    for symbol, alternatives in grammar.symbols.items():
        most[symbol] = max(of(alternative.template) for alternative in alternatives)
    return {skeleton: of(template) for skeleton, template in grammar.skeletons.items()}
