"""The patterns that a subject network learns to see: `known/` holds one file for each, found by its name.

A new pattern is one object in one file: `known/my_pattern.py` with a `Pattern` called `my_pattern`. This module imports
none of them, so that the names cost nothing; `registry` does.
"""

import pkgutil
from pathlib import Path

_DOCUMENTED = (
    "all_same",
    "palindrome",
    "sorted_ascending",
    "sorted_descending",
    "alternating",
    "contains_abc",
    "starts_with",
    "ends_with",
    "no_repeats",
    "has_majority",
    "increasing_pairs",
    "decreasing_pairs",
    "vowel_consonant",
    "first_last_match",
    "mountain_pattern",
)
_FOUND = {module.name for module in pkgutil.iter_modules([str(Path(__file__).with_name("known"))])}

PATTERN_NAMES = (*_DOCUMENTED, *sorted(_FOUND.difference(_DOCUMENTED)))
"""The documents' fifteen in the documents' order, then any others by name."""
