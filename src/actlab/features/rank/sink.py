"""What a ranking's folder holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from actlab.features.rank.compute.examples import FeatureExamples
from actlab.features.rank.compute.ranking import Ranking
from actlab.features.rank.source import Activations, Inputs
from actlab.formats.ranking import (
    CSV_NAME,
    EXAMPLES_NAME,
    FALSE_DISCOVERY_RATE,
    KIND,
    RankedFeature,
    discoveries,
    ranking_bytes,
)
from actlab.formats.sentences.folder import INPUTS_CHECKED
from actlab.ground.manifest import to_json
from actlab.ground.storage import FORMAT_VERSION, Made, NewFile, Plan


def make_files(
    plan: Plan,
    inputs: Inputs,
    activations: Activations,
    ranking: Ranking,
    examples: Sequence[FeatureExamples],
    plots: Sequence[NewFile],
    *,
    permuted: bool,
) -> Made:
    """Return the ranking, the sentences of its best features, the plots as drawn, and the metadata."""
    files = [
        NewFile(
            CSV_NAME, ranking_bytes(ranking.features, activations.labels, permuted=permuted), len(ranking.features)
        ),
        NewFile(EXAMPLES_NAME, to_json([_feature_json(one) for one in examples]), len(examples)),
    ]
    found = discoveries(ranking.features)
    metadata = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
        "ranked_on": inputs.ranked_on,
        INPUTS_CHECKED: inputs.folder.is_checked,
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
        "best": None if ranking.best is None else _best_json(ranking.best),
        "plots": [file.path for file in plots],
        "dropped": [one._asdict() for one in (*inputs.folder.lost, *activations.lost)],
    }
    return Made([*files, *plots], metadata)


def _feature_json(one: FeatureExamples) -> dict[str, Any]:
    return {
        "rank": one.feature.rank,
        "layer": one.feature.layer,
        "average_l0": one.feature.average_l0,
        "feature_id": one.feature.feature_id,
        "interpretability_score": one.feature.interpretability_score,
        "examples": [{**vars(example), "label": _number(example.label)} for example in one.examples],
    }


def _best_json(feature: RankedFeature) -> dict[str, Any]:
    names = ("layer", "average_l0", "feature_id", "interpretability_score", "pearson_corr", "tpr", "fpr")
    return {name: getattr(feature, name) for name in names}


def _label_counts(activations: Activations) -> dict[str, int]:
    """Return the sentences of each label."""
    labels, counts = np.unique(activations.label_i, return_counts=True)
    return {str(_number(label)): count for label, count in zip(labels.tolist(), counts.tolist(), strict=True)}


def _number(label: float) -> int | float:
    return int(label) if float(label).is_integer() else float(label)
