"""The sentences on which a feature is most active."""

# n row, i sentence

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from actlab.formats.ranking import RankedFeature


@dataclass(frozen=True)
class Example:
    """A sentence, and what a feature does on it."""

    sentence_index: int
    label: float
    activation: float
    """By which it was chosen: the highest of the rows that were ranked."""
    sentence: str
    tokens: Sequence[str]
    """What each row's token adds to the sentence; empty where the file does not say."""
    activations: Sequence[float | None]
    """On each row; None where the file has no finite value."""


@dataclass(frozen=True)
class FeatureExamples:
    """A feature with its sentences, the most active first."""

    feature: RankedFeature
    examples: Sequence[Example]


def most_active(
    value_n: Float[np.ndarray, " n"], sentence_n: Int[np.ndarray, " n"], most: int
) -> list[tuple[int, float]]:
    """Return the sentences with the highest activation and that activation, equal ones in their order.

    Sentences on which the feature is not above zero are left away.
    """
    highest_i = np.zeros(int(sentence_n.max()) + 1)
    np.maximum.at(highest_i, sentence_n, value_n)
    places = np.argsort(-highest_i, kind="stable")[:most]
    return [(i, float(highest_i[i])) for i in places.tolist() if highest_i[i] > 0]
