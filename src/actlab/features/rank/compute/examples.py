"""The sentences on which a feature is most active."""

# n row, i sentence

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from actlab.features.rank.source import Activations, Configuration, read_tokens
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


def examples_of(
    features: Sequence[RankedFeature], configurations: Sequence[Configuration], activations: Activations, most: int
) -> list[FeatureExamples]:
    """Return the sentences of some features, token by token."""
    pairs = zip(configurations, activations.matrices, strict=True)
    by_sae = {(one.layer, one.average_l0): (one.place, matrix) for one, matrix in pairs}
    best: list[list[tuple[int, float, tuple[int, int, int]]]] = []
    wanted: dict[tuple[int, int], list[int]] = {}
    for feature in features:
        place, matrix = by_sae[feature.layer, feature.average_l0]
        value_n = matrix[:, [feature.feature_id]].toarray()[:, 0]
        chosen = most_active(value_n, activations.sentence_n, most)
        best.append([(i, value, (i, place, feature.feature_id)) for i, value in chosen])
        for i, _ in chosen:
            wanted.setdefault((i, place), []).append(feature.feature_id)
    tokens = read_tokens(activations, wanted)
    return [
        FeatureExamples(one, [_example(activations, i, value, tokens[key]) for i, value, key in some if key in tokens])
        for one, some in zip(features, best, strict=True)
    ]


def _example(activations: Activations, i: int, activation: float, values: Sequence[float | None]) -> Example:
    sentence = activations.sentences[i]
    tokens = sentence.token_texts if "fragments" in sentence else ()
    return Example(
        sentence_index=sentence.facts.index,
        label=sentence.facts.label,
        activation=activation,
        sentence=sentence.text,
        tokens=tokens if len(tokens) == len(values) else [],
        activations=values,
    )
