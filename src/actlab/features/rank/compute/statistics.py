"""How features follow a label: the document's score, and the usual statistics beside it."""

# n row, s feature active in at least one row, l label

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from actlab.features.rank.compute.columns import Columns

PEARSON_WEIGHT, SEPARATION_WEIGHT, RATE_WEIGHT = 0.4, 0.3, 0.3
THRESHOLD_PERCENT = 95.0


class Scores(NamedTuple):
    """The document's score of each feature, and its parts."""

    score_s: Float[np.ndarray, " s"]
    pearson_s: Float[np.ndarray, " s"]
    separation_s: Float[np.ndarray, " s"]
    tpr_s: Float[np.ndarray, " s"]
    fpr_s: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class Statistics:
    """All that is known of each feature of one configuration that is active in at least one row."""

    feature_s: Int[np.ndarray, " s"]
    n_active_s: Int[np.ndarray, " s"]
    scores: Scores
    spearman_s: Float[np.ndarray, " s"]
    p_value_s: Float[np.ndarray, " s"]
    auroc_s: Float[np.ndarray, " s"]
    cohens_d_s: Float[np.ndarray, " s"]
    mean_sl: Float[np.ndarray, "s l"]
    """By label, ascending."""
    monotonic_s: Bool[np.ndarray, " s"]


def describe(columns: Columns, label_n: Float[np.ndarray, " n"]) -> Statistics:
    """Compare each feature with the labels of its rows, of which at least two differ."""
    spearman_s = spearman(columns, label_n)
    mean_sl = label_means(columns, label_n)
    return Statistics(
        feature_s=columns.feature_s,
        n_active_s=columns.n_active_s,
        scores=score(columns, label_n),
        spearman_s=spearman_s,
        p_value_s=p_values(spearman_s, columns.n_rows),
        auroc_s=auroc(columns, label_n > (label_n.min() + label_n.max()) / 2),
        cohens_d_s=cohens_d(columns, label_n == label_n.max(), label_n == label_n.min()),
        mean_sl=mean_sl,
        monotonic_s=np.all(np.diff(mean_sl, axis=1) >= 0, axis=1),
    )


def score(columns: Columns, label_n: Float[np.ndarray, " n"]) -> Scores:
    """Return 0.4·pearson + 0.3·(mean_high − mean_low)/std + 0.3·(tpr − fpr) of each feature.

    Low and high are the lowest and the highest label there is (0 and 3 in the document). std is the population
    standard deviation over all rows. The threshold is the 95th percentile of the low rows, and a row counts
    when it is strictly above: tpr is the share of the high rows that count, fpr that of the low rows. A
    feature that is the same in all rows has a correlation and a separation of 0.
    """
    is_low_n, is_high_n = label_n == label_n.min(), label_n == label_n.max()
    pearson_s = pearson(columns, label_n)
    mean_high_s = columns.sums(columns.value_k, is_high_n.astype(np.float64)) / is_high_n.sum()
    mean_low_s = columns.sums(columns.value_k, is_low_n.astype(np.float64)) / is_low_n.sum()
    separation_s = _ratio(mean_high_s - mean_low_s, columns.std_s)
    threshold_s = columns.percentile(THRESHOLD_PERCENT, is_low_n)
    tpr_s = share_above(columns, threshold_s, is_high_n)
    fpr_s = share_above(columns, threshold_s, is_low_n)
    score_s = PEARSON_WEIGHT * pearson_s + SEPARATION_WEIGHT * separation_s + RATE_WEIGHT * (tpr_s - fpr_s)
    return Scores(score_s, pearson_s, separation_s, tpr_s, fpr_s)


def pearson(columns: Columns, label_n: Float[np.ndarray, " n"]) -> Float[np.ndarray, " s"]:
    """Return each feature's Pearson correlation with the label; 0 where it is constant."""
    centred_n = label_n - label_n.mean()
    covariance_s = columns.sums(columns.value_k - columns.mean_s[columns.place_k], centred_n)
    covariance_s += columns.mean_s * columns.sums(np.ones(len(columns.value_k)), centred_n)  # the zeros' part
    return _ratio(covariance_s, columns.std_s * label_n.std() * columns.n_rows).clip(-1, 1)


def spearman(columns: Columns, label_n: Float[np.ndarray, " n"]) -> Float[np.ndarray, " s"]:
    """Return each feature's Spearman correlation with the label; 0 where it is constant."""
    n_rows = columns.n_rows
    label_rank_n = scipy.stats.rankdata(label_n) - (n_rows + 1) / 2
    from_zero_k = columns.rank_k - columns.zero_rank_s[columns.place_k]  # so that zeros add nothing
    covariance_s = columns.sums(from_zero_k, label_rank_n)
    squares_s = columns.sums(from_zero_k**2, np.ones(n_rows)) - n_rows * ((n_rows + 1) / 2 - columns.zero_rank_s) ** 2
    squares_s = np.where(columns.is_constant_s, 0.0, squares_s)
    return _ratio(covariance_s, np.sqrt(squares_s * (label_rank_n**2).sum())).clip(-1, 1)


def p_values(spearman_s: Float[np.ndarray, " s"], n_rows: int) -> Float[np.ndarray, " s"]:
    """Return the two-sided p of each rank correlation, by the t approximation.

    It takes the rows as independent, which tokens of one sentence are not.
    """
    if n_rows < 3:
        return np.ones_like(spearman_s)
    with np.errstate(divide="ignore"):
        t_s = np.abs(spearman_s) * np.sqrt((n_rows - 2) / ((1 + spearman_s) * (1 - spearman_s)))
    return np.asarray(2 * scipy.stats.t.sf(t_s, n_rows - 2))


def auroc(columns: Columns, is_positive_n: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " s"]:
    """Return the chance that a positive row is above another row, ties counted half.

    Positive are the rows whose label is above the midpoint of the lowest and the highest; the rest are not.
    """
    n_positive = int(is_positive_n.sum())
    from_zero_k = columns.rank_k - columns.zero_rank_s[columns.place_k]
    rank_sum_s = columns.sums(from_zero_k, is_positive_n.astype(np.float64)) + columns.zero_rank_s * n_positive
    return np.asarray((rank_sum_s - n_positive * (n_positive + 1) / 2) / (n_positive * (columns.n_rows - n_positive)))


def cohens_d(
    columns: Columns, is_high_n: Bool[np.ndarray, " n"], is_low_n: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " s"]:
    """Return the difference of the means of the high and the low rows over their pooled standard deviation.

    Without any spread it is 0 where the means are equal, else infinite.
    """
    means, squares_s = [], np.zeros(len(columns.feature_s))
    for is_in_n in (is_high_n, is_low_n):
        n_in = int(is_in_n.sum())
        mean_s = columns.sums(columns.value_k, is_in_n.astype(np.float64)) / n_in
        squares_s += columns.sums((columns.value_k - mean_s[columns.place_k]) ** 2, is_in_n.astype(np.float64))
        squares_s += (n_in - columns.counts(np.ones(len(columns.value_k), bool), is_in_n)) * mean_s**2
        means.append(mean_s)
    n_degrees = int(is_high_n.sum()) + int(is_low_n.sum()) - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        d_s = (means[0] - means[1]) / np.sqrt(squares_s / max(n_degrees, 1))
    return np.where(means[0] == means[1], 0.0, d_s)


def label_means(columns: Columns, label_n: Float[np.ndarray, " n"]) -> Float[np.ndarray, "s l"]:
    """Return each feature's mean by label, labels ascending."""
    labels_l, place_n, count_l = np.unique(label_n, return_inverse=True, return_counts=True)
    weight_nl = (place_n[:, None] == np.arange(len(labels_l))).astype(np.float64)
    return columns.sums(columns.value_k, weight_nl) / count_l


def share_above(
    columns: Columns, threshold_s: Float[np.ndarray, " s"], is_in_n: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " s"]:
    """Return the share of the rows that are in whose value is strictly above the feature's threshold."""
    n_in = int(is_in_n.sum())
    is_above_k = columns.value_k > threshold_s[columns.place_k]
    n_zeros_s = n_in - columns.counts(np.ones(len(is_above_k), bool), is_in_n)
    return np.asarray((columns.counts(is_above_k, is_in_n) + np.where(threshold_s < 0, n_zeros_s, 0)) / n_in)


def _ratio(above_s: Float[np.ndarray, " s"], below_s: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Divide; 0 where the divisor is 0."""
    return np.asarray(np.divide(above_s, below_s, out=np.zeros_like(above_s), where=below_s > 0))
