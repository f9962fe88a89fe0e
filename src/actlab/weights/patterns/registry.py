"""All patterns by name."""

from importlib import import_module

from actlab.weights.patterns import PATTERN_NAMES
from actlab.weights.patterns.pattern import Pattern


def _load(name: str) -> Pattern:
    found = getattr(import_module(f"actlab.weights.patterns.known.{name}"), name)
    assert isinstance(found, Pattern), f"known/{name}.py has a function {name} under @pattern"
    return found


PATTERNS: dict[str, Pattern] = {name: _load(name) for name in PATTERN_NAMES}
"""In the order of `PATTERN_NAMES`."""


def equivalents(name: str) -> tuple[str, ...]:
    """Return the other names of a pattern's set of sequences.

    >>> equivalents("increasing_pairs"), equivalents("palindrome")
    (('sorted_ascending',), ())
    """
    holds = PATTERNS[name].holds
    return tuple(other.name for other in PATTERNS.values() if other.holds is holds and other.name != name)
