"""A dataset's examples, back from its tables: ready to be measured and written again."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from actlab.formats.weights import LayerArrays, StoredRows
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.networks import Architecture, Layer, Weights
from actlab.weights.number_format import NumberFormat, number_format
from actlab.weights.rows import Rows


def architecture_of(spec: dict[str, Any]) -> Architecture:
    """Return the architecture in a row of specs."""
    return Architecture(**{field.name: spec[field.name] for field in fields(Architecture)})


def as_weights(layers: Iterable[LayerArrays]) -> Weights:
    """Return stored layers as a network's weights."""
    return tuple(Layer(*layer) for layer in layers)


def as_rows(stored: StoredRows, names: Sequence[str]) -> Rows:
    """Return stored rows as those of a network that has these patterns."""
    return Rows(stored.tokens, stored.labels, stored.indices(names))


def digits_of(settings: WeightsSettings) -> NumberFormat:
    """Return how the dataset writes numbers."""
    digits = settings.signature.prompt_format.digits
    return number_format("round-trip" if digits == "round-trip" else int(digits), settings.model.precision)
