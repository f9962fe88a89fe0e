"""A dataset's examples, back from its tables: ready to be measured and written again."""

from collections.abc import Sequence

from actlab.formats.weights import Spec, StoredRows
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.networks import Architecture
from actlab.weights.number_format import NumberFormat, number_format
from actlab.weights.rows import Rows


def architecture_of(spec: Spec) -> Architecture:
    """Return the architecture in a row of specs."""
    return Architecture(
        spec["vocab_size"],
        spec["sequence_length"],
        spec["num_layers"],
        spec["neurons_per_layer"],
        spec["activation_type"],
        spec["dropout_rate"],
    )


def as_rows(stored: StoredRows, names: Sequence[str]) -> Rows:
    """Return stored rows as those of a network that has these patterns."""
    return Rows(stored.tokens, stored.labels, stored.indices(names))


def digits_of(settings: WeightsSettings) -> NumberFormat:
    """Return how the dataset writes numbers."""
    digits = settings.signature.prompt_format.digits
    return number_format("round-trip" if digits == "round-trip" else int(digits), settings.model.precision)
