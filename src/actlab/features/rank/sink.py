"""What a ranking's folder holds."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np

from actlab.features.rank.compute.examples import FeatureExamples
from actlab.features.rank.compute.ranking import Ranking
from actlab.features.rank.source import Activations, Source
from actlab.formats.ranking import (
    CSV_NAME,
    EXAMPLES_NAME,
    FALSE_DISCOVERY_RATE,
    KIND,
    discoveries,
    ranking_bytes,
)
from actlab.formats.sentences.folder import INPUTS_CHECKED
from actlab.ground.manifest import to_json
from actlab.ground.storage import FORMAT_VERSION, NewFile, Plan


class Best(TypedDict):
    """The feature of the highest score, listed or not."""

    layer: int
    average_l0: int | None
    feature_id: int
    interpretability_score: float
    pearson_corr: float
    tpr: float
    fpr: float


class RankingMetadata(TypedDict):
    """What is read of a ranking's `metadata.json`."""

    best: NotRequired[Best | None]
    dropped: list[object]


def files_of(
    ranking: Ranking, labels: Sequence[float], examples: Sequence[FeatureExamples], *, permuted: bool
) -> list[NewFile]:
    """Return the ranking, and the sentences of its best features."""
    return [
        NewFile(CSV_NAME, ranking_bytes(ranking.features, labels, permuted=permuted), len(ranking.features)),
        NewFile(EXAMPLES_NAME, to_json([_feature_json(one) for one in examples]), len(examples)),
    ]


def metadata_of(
    plan: Plan, source: Source, activations: Activations, ranking: Ranking, plots: Sequence[NewFile]
) -> dict[str, object]:
    """Return what `metadata.json` says."""
    found = discoveries(ranking.features)
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
        "ranked_on": source.ranked_on,
        INPUTS_CHECKED: source.folder.is_checked,
        "n_sentences": len(activations.sentences),
        "n_rows": len(activations.sentence_n),
        "n_features_tested": ranking.n_tested,
        "n_passing": ranking.n_passing,
        "n_listed": len(ranking.features),
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
        "n_below_false_discovery_rate": found.n_passing,
        "smallest_q": found.smallest_q,
        "labels": _label_counts(activations),
        "low_label": _number(activations.labels[0]),
        "high_label": _number(activations.labels[-1]),
        "best": None if ranking.best is None else {name: getattr(ranking.best, name) for name in Best.__annotations__},
        "plots": [file.path for file in plots],
        "dropped": [one._asdict() for one in (*source.folder.lost, *activations.lost)],
    }


def _feature_json(one: FeatureExamples) -> dict[str, object]:
    return {
        "rank": one.feature.rank,
        "layer": one.feature.layer,
        "average_l0": one.feature.average_l0,
        "feature_id": one.feature.feature_id,
        "interpretability_score": one.feature.interpretability_score,
        "examples": [{**vars(example), "label": _number(example.label)} for example in one.examples],
    }


def _label_counts(activations: Activations) -> dict[str, int]:
    """Return the sentences of each label."""
    labels, counts = np.unique(activations.label_i, return_counts=True)
    return {str(_number(label)): count for label, count in zip(labels.tolist(), counts.tolist(), strict=True)}


def _number(label: float) -> int | float:
    return int(label) if float(label).is_integer() else float(label)
