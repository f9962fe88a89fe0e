"""All patterns by name."""

from importlib import import_module

from actlab.ground.variants import Table
from actlab.weights.patterns import PATTERN_NAMES
from actlab.weights.patterns.pattern import Pattern

PATTERNS: Table[Pattern] = Table(
    "pattern", *(getattr(import_module(f"actlab.weights.patterns.known.{name}"), name) for name in PATTERN_NAMES)
)
"""In the order of `PATTERN_NAMES`."""


def equivalents(name: str) -> tuple[str, ...]:
    """Return the other names of a pattern's set of sequences.

    >>> equivalents("increasing_pairs"), equivalents("palindrome")
    (('sorted_ascending',), ())
    """
    holds = PATTERNS[name].holds
    return tuple(other.name for other in PATTERNS if other.holds is holds and other.name != name)
