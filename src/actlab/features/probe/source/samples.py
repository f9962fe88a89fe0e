"""The rows of a probe, wherever they come from."""

# n sample, f feature

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.ground.manifest import InputEntry

RAW = "raw activations"
"""The space of weights that need no scaling before them."""


class Affine(NamedTuple):
    """How scaled features come from raw ones: scaled = (raw - offset) / scale."""

    offset: Float[np.ndarray, " f"]
    scale: Float[np.ndarray, " f"]


@dataclass(frozen=True)
class Samples:
    """Labels and groups of all rows; their features are read a layer at a time."""

    name: str
    """What its weights' files are called."""
    y: Shaped[np.ndarray, " n"]
    """Whole numbers are classes, decimal ones a target to predict."""
    groups: Int[np.ndarray, " n"]
    """Rows of one group (one sentence, one prompt) stay on one side of every split."""
    layers: tuple[int, ...]
    """The layers of dumps; empty for a dataset, which has one set of features."""
    n_features: int
    read: Callable[[int | None], Float[np.ndarray, "n f"]]
    """Return a layer's features as float64; a dataset's under None."""
    about: Mapping[str, object]
    """The `metadata` of results.json."""
    inputs: list[InputEntry]
    """Role, name, bytes and sha256 of what was read."""
    sides: Shaped[np.ndarray, " n"] | None = None
    """Each row's "train", "validation" or "test", where that was settled before."""
    split_fingerprint: str | None = None
    """Which split settled it."""
    held_out: bool | None = True
    """Whether the test rows had no say in how the input was made; None where that is not known."""
    notes: tuple[str, ...] = ()
    """What a reader of the results has to know about the input."""
    scaled: Affine | None = None
    """The scaling that the input's features went through, to be undone in the weights."""
    space: str = RAW
    """What the weights apply to."""
    confounds: Mapping[str, Int[np.ndarray, " n"]] = field(default_factory=dict)
    """What may tell the classes apart without the model: `n_tokens`, and `last_token_id` or `last_token` as numbers."""
    input_layers: tuple[int, ...] = ()
    """The layers whose states are in a dataset's X, as far as it says."""


def group_numbers(names: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return each row's group as a number.

    >>> group_numbers(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    """
    return np.unique(names, return_inverse=True)[1]
