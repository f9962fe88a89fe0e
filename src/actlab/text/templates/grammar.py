"""What a grammar is made of, once read."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple


class Slot(NamedTuple):
    """A place in a template: `#name.form.modifier#`."""

    name: str
    form: str
    """Which form of a value; "" where values are plain."""
    modifiers: tuple[str, ...]


Template = tuple[str | Slot, ...]
"""Literal text and slots in turn. Neither end of it is white space, so words are counted by adding."""


class Alternative(NamedTuple):
    """One way to write a symbol."""

    template: Template
    weight: float


@dataclass(frozen=True)
class Values:
    """What a variable or a parameter can be."""

    forms: tuple[str, ...]
    """`("",)` for plain values."""
    rows: tuple[tuple[str, ...], ...]
    """A value's text in each form."""
    weights: tuple[float, ...]
    """For a parameter whole numbers: how often the value stands in the product."""
    pool: str | None = None
    """Where a variable's value is taken from, if so: no other use of that pool in the document repeats it."""

    @property
    def n_in_product(self) -> int:
        """How many places a parameter's values take in the product."""
        return round(sum(self.weights))


@dataclass(frozen=True, eq=False)
class Grammar:
    """A checked grammar: every slot names something, nothing contains itself, no pool can run dry."""

    where: str
    """The file, for messages."""
    domain: str
    keywords: Mapping[str, float]
    parameters: Mapping[str, Values]
    """Combined with each other and with the skeletons by a shuffled full product."""
    variables: Mapping[str, Values]
    """Drawn once a document, when first used."""
    pools: Mapping[str, tuple[str, ...]]
    """Drawn at every use, never the same value twice in a document; all values equally likely."""
    symbols: Mapping[str, tuple[Alternative, ...]]
    """Drawn at every use, in dependency order: a symbol's slots name symbols before it."""
    skeletons: Mapping[str, Template]

    @property
    def n_combinations(self) -> int:
        """The length of the full product of skeletons and parameters."""
        return prod([len(self.skeletons), *(values.n_in_product for values in self.parameters.values())])

    def values(self, name: str) -> Values | None:
        """Return what a variable or a parameter can be; None for a pool or a symbol."""
        return self.variables.get(name) or self.parameters.get(name)


def slots(template: Template) -> list[Slot]:
    """Return a template's slots in the order of the text."""
    return [piece for piece in template if isinstance(piece, Slot)]
