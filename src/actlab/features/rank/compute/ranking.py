"""The ranking over all configurations: corrected p-values, the filter, the order, the permutation control."""

# n row, i sentence, s feature active in at least one row, p permutation

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from actlab.features.rank.compute.columns import columns_of
from actlab.features.rank.compute.statistics import Statistics, describe, score
from actlab.features.rank.config import RankConfig
from actlab.features.rank.source import Activations, Configuration, Source, layer_and_l0
from actlab.features.split.compute.sides import shuffled_order
from actlab.formats.ranking import RankedFeature
from actlab.ground.progress import More
from actlab.ground.seeds import derive_seed


class Ranking(NamedTuple):
    """The features that pass, best first."""

    features: list[RankedFeature]
    n_passing: int
    """Before `top` cut the list."""
    n_tested: int
    """Features that are active in at least one row."""
    best: RankedFeature | None
    """The highest score of all features, whether it passes or not."""


def rank(
    config: RankConfig,
    source: Source,
    all_statistics: Sequence[Statistics],
    labels: Sequence[float],
    highest_p: Float[np.ndarray, " p"] | None = None,
) -> Ranking:
    """Rank the features of all configurations by score; ties by layer, average L0 and number.

    The q-values are Benjamini and Hochberg's over all features of all configurations that are active in at
    least one row, those that do not pass included. `highest_p` is the highest score under each permutation.
    """
    q_values = _corrected([one.p_value_s for one in all_statistics])
    passing: list[RankedFeature] = []
    best: list[RankedFeature] = []
    for configuration, one, q_value_s in zip(source.configurations, all_statistics, q_values, strict=True):
        make = partial(_feature, configuration, one, labels, q_value_s, highest_p, source.ranked_on)
        is_listed_s = (one.scores.pearson_s >= config.min_pearson) & (one.scores.tpr_s >= config.min_tpr)
        passing += map(make, np.flatnonzero(is_listed_s & (one.scores.fpr_s <= config.max_fpr)).tolist())
        best += [make(int(one.scores.score_s.argmax()))] if len(one.feature_s) else []
    ordered = [replace(one, rank=number) for number, one in enumerate(sorted(passing, key=_order), start=1)]
    n_tested = sum(len(one.feature_s) for one in all_statistics)
    return Ranking(ordered[: config.top], len(ordered), n_tested, min(best, key=_order, default=None))


def described(
    activations: Activations, n_permutations: int, seed: int, tick: More
) -> tuple[list[Statistics], Float[np.ndarray, " p"] | None]:
    """Return the statistics of each configuration, and the highest score of any under each permutation."""
    label_i, sentence_n = activations.label_i, activations.sentence_n
    highest_p = np.full(n_permutations, -np.inf)
    found = []
    for matrix in activations.matrices:
        columns = columns_of(matrix)
        found.append(describe(columns, label_i[sentence_n]))
        tick(1)
        for number, label_n in enumerate(permuted_labels(label_i, sentence_n, n_permutations, seed)):
            highest_p[number] = max(highest_p[number], score(columns, label_n).score_s.max(initial=-np.inf))
            tick(1)
    return found, highest_p if n_permutations else None


def permuted_labels(
    label_i: Float[np.ndarray, " i"], sentence_n: Int[np.ndarray, " n"], n_permutations: int, seed: int
) -> Iterator[Float[np.ndarray, " n"]]:
    """Yield the rows' labels when the labels are permuted among the sentences: a sentence's rows stay together."""
    for number in range(n_permutations):
        yield label_i[shuffled_order(len(label_i), derive_seed(seed, "permutation", number))][sentence_n]


def _corrected(p_values: Sequence[Float[np.ndarray, " s"]]) -> list[Float[np.ndarray, " s"]]:
    together = np.concatenate([*p_values, np.zeros(0)])
    q_values = scipy.stats.false_discovery_control(together) if len(together) else together
    return np.split(q_values, np.cumsum([len(one) for one in p_values]))[: len(p_values)]


def _feature(
    configuration: Configuration,
    statistics: Statistics,
    labels: Sequence[float],
    q_value_s: Float[np.ndarray, " s"],
    highest_p: Float[np.ndarray, " p"] | None,
    ranked_on: str,
    s: int,
) -> RankedFeature:
    """Return the row of the feature at a place, its rank still to be set."""
    scores, feature = statistics.scores, int(statistics.feature_s[s])
    n_above = 0 if highest_p is None else np.count_nonzero(highest_p >= scores.score_s[s])
    return RankedFeature(
        rank=0,
        layer=configuration.layer,
        average_l0=configuration.average_l0,
        feature_id=feature,
        neuronpedia_url=configuration.url(feature),
        interpretability_score=float(scores.score_s[s]),
        pearson_corr=float(scores.pearson_s[s]),
        spearman_corr=float(statistics.spearman_s[s]),
        separation_score=float(scores.separation_s[s]),
        tpr=float(scores.tpr_s[s]),
        fpr=float(scores.fpr_s[s]),
        means=dict(zip(labels, statistics.mean_sl[s].tolist(), strict=True)),
        monotonic=bool(statistics.monotonic_s[s]),
        auroc=float(statistics.auroc_s[s]),
        cohens_d=float(statistics.cohens_d_s[s]),
        p_value=float(statistics.p_value_s[s]),
        q_value=float(q_value_s[s]),
        n_active=int(statistics.n_active_s[s]),
        p_permutation=None if highest_p is None else float((1 + n_above) / (1 + len(highest_p))),
        ranked_on=ranked_on,
    )


def _order(feature: RankedFeature) -> tuple[float, int, int, int]:
    assert feature.interpretability_score is not None
    return -feature.interpretability_score, *layer_and_l0(feature), feature.feature_id
