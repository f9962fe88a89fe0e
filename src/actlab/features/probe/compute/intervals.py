"""95 % intervals of a probe's scores that hold at the edges, with few rows, and with rows that belong together.

A score's interval is the set of values θ with |estimate - θ| ≤ z·√V(θ): Wilson's idea (1927), which does not
shrink to a point where the estimate is 1. V is taken at θ and not at the estimate: for an AUROC it is Hanley and
McNeil's (1982) as Newcombe uses it in his method 5 (Statistics in Medicine 25, 559-573, 2006), for a share the
binomial's. Rows of one group are not independent: each class counts as n / (1 + (k - 1)·ICC) rows, k the mean
size of a row's group. Where the variance between the groups (Obuchowski, Biometrics 53, 567-578, 1997) is larger
than all that says, it widens the interval; where groups have rows of both classes, as a prompt with two
responses has, their covariance is taken from the data too. `scripts/bench/coverage.py` shows the coverage.
"""

# n sample, k class, g group

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import norm, rankdata
from scipy.stats import t as student_t

LEVEL = 0.95
LEAST_GROUPS = 5
"""In either class: with fewer, how much groups differ is not known well enough for any interval."""
_Z = float(norm.ppf((1 + LEVEL) / 2))
_ROUNDING = 1e-12
_LEAST_SHARE, _MOST_SHARE = 0.05, 2.0
"""Bounds of what the covariance inside groups can make of a variance."""
_STEPS = 40

Bounds = list[float]


class Intervals(NamedTuple):
    """The intervals by their names in results.json; `missing_because` says why one is None."""

    by_name: dict[str, Bounds | None]
    missing_because: str | None


def classification_intervals(
    y: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, "n k"],
    classes: Int[np.ndarray, " k"],
    groups: Int[np.ndarray, " n"],
) -> Intervals:
    """Return the intervals of a classifier's AUROC, balanced accuracy and accuracy."""
    names = ("test_roc_auc_interval", "test_balanced_accuracy_interval", "test_accuracy_interval")
    for one in classes.tolist():
        if too_few := _too_few(len(np.unique(groups[y == one])), f"class {one} has {{}} of test rows"):
            return Intervals(dict.fromkeys(names), too_few)
    own_scores = scores[np.arange(len(y)), np.searchsorted(classes, y)]
    found = (
        roc_auc_interval(y, scores, classes, groups),
        recall_interval([y == one for one in classes], labels == y, own_scores, groups),
        recall_interval([np.ones(len(y), dtype=bool)], labels == y, own_scores, groups),
    )
    return Intervals(dict(zip(names, found, strict=True)), None)


def roc_auc_interval(
    y: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, "n k"],
    classes: Int[np.ndarray, " k"],
    groups: Int[np.ndarray, " n"],
) -> Bounds:
    """Return the interval of the AUROC of the second class of two, or of the mean over classes against the rest."""
    group_n = np.unique(groups, return_inverse=True)[1]
    parts = [_auroc_part(y == classes[k], scores[:, k], group_n) for k in ranked(classes)]
    estimate = float(np.mean([part.estimate for part in parts]))

    def variance_at(theta: float) -> float:  # of the mean, were its parts to move together
        return sum(newcombe_variance(theta, part.n_positive, part.n_negative) for part in parts) / len(parts)

    modelled = variance_at(estimate)
    if modelled < _ROUNDING:
        return _solved(estimate, variance_at, 1.0)
    if len(parts) == 1:
        return _solved(estimate, variance_at, max(1.0, parts[0].apart / modelled) * parts[0].share_together)
    measured = _over_groups(np.mean([part.influence_g for part in parts], axis=0))
    return _solved(estimate, variance_at, max(1 / len(parts), measured / modelled))


def ranked(classes: Int[np.ndarray, " k"]) -> range:
    """Return the columns whose AUROC counts: of two classes the second, of more all."""
    return range(1, 2) if len(classes) == 2 else range(len(classes))


def recall_interval(
    members: list[Bool[np.ndarray, " n"]],
    right: Bool[np.ndarray, " n"],
    own_scores: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
) -> Bounds:
    """Return the interval of the mean over sets of rows of the share of each that is right."""
    group_n = np.unique(groups, return_inverse=True)[1]
    shares = [float(right[of].mean()) for of in members]
    n_rows = [_effective(own_scores[of], right[of].astype(float), group_n[of]) for of in members]
    influence_n = np.zeros(len(right))
    for of, share in zip(members, shares, strict=True):
        influence_n[of] += (right[of] - share) / of.sum() / len(members)
    estimate = float(np.mean(shares))

    def variance_at(theta: float) -> float:
        return theta * (1 - theta) * sum(1 / n for n in n_rows) / len(members) ** 2

    modelled, measured = variance_at(estimate), _over_groups(np.bincount(group_n, weights=influence_n))
    return _solved(estimate, variance_at, max(1.0, measured / modelled) if modelled > _ROUNDING else 1.0)


def regression_intervals(
    y: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> Intervals:
    """Return the intervals of a regression's R² and mean absolute error.

    They leave out one group at a time (the jackknife), on the logarithm of the error, by Student's t.
    """
    group_n = np.unique(groups, return_inverse=True)[1]
    n_groups = int(group_n.max()) + 1
    names = ("test_r2_interval", "test_mae_interval")
    if too_few := _too_few(n_groups, "the test rows are {}"):
        return Intervals(dict.fromkeys(names), too_few)
    centred = y - y.mean()
    parts = (np.ones(len(y)), centred, centred**2, (y - said) ** 2, np.abs(y - said))
    sums = np.array([np.bincount(group_n, weights=part, minlength=n_groups) for part in parts])
    left = np.concatenate([sums.sum(axis=1, keepdims=True), sums.sum(axis=1, keepdims=True) - sums], axis=1)
    n, total, squares, errors, distances = left
    spread = squares - total**2 / n
    unexplained = errors / np.where(spread > _ROUNDING * centred.var(), spread, np.nan)
    r2, mae = _jackknifed(unexplained), _jackknifed(distances / n)
    missing: str | None = None
    if mae is None:
        missing = "the prediction is exact on the test rows, or on all but one group of them: no interval"
    elif r2 is None:
        missing = "the target does not vary on the test rows, or on all but one group of them: no interval of R²"
    return Intervals(dict(zip(names, (None if r2 is None else [1 - r2[1], 1 - r2[0]], mae), strict=True)), missing)


def _too_few(n_groups: int, what: str) -> str | None:
    counted = what.format("1 group" if n_groups == 1 else f"{n_groups} groups")
    return f"{counted}: no interval below {LEAST_GROUPS}" if n_groups < LEAST_GROUPS else None


def newcombe_variance(theta: float, n_positive: float, n_negative: float) -> float:
    """Return the variance of an AUROC whose true value is `theta`, by Newcombe's method 5."""
    beside = max((n_positive + n_negative) / 2 - 1, 0.0)
    around = 1 + beside * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return theta * (1 - theta) / (n_positive * n_negative) * around


def intraclass_correlation(values: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"]) -> float | None:
    """Return how alike values of one group are, from 0 to 1, by the analysis of variance; None where none differ.

    Groups are numbers from 0.
    """
    n_g = np.bincount(groups)
    group_n = (np.cumsum(n_g > 0) - 1)[groups]  # without the numbers that no row has
    size_g = n_g[n_g > 0]
    n, n_groups = len(values), len(size_g)
    if n_groups == n or n_groups == 1:
        return 0.0 if n_groups == n else 1.0
    mean_g = np.bincount(group_n, weights=values) / size_g
    between = float((size_g * (mean_g - values.mean()) ** 2).sum() / (n_groups - 1))
    within = float(((values - mean_g[group_n]) ** 2).sum() / (n - n_groups))
    size = (n - (size_g**2).sum() / n) / (n_groups - 1)
    below = between + (size - 1) * within
    return None if below < _ROUNDING else min(max((between - within) / below, 0.0), 1.0)


class _AurocPart(NamedTuple):
    """One class against the rest."""

    estimate: float
    n_positive: float
    """As many independent rows they are worth."""
    n_negative: float
    influence_g: Float[np.ndarray, " g"]
    """What each group moves the estimate by."""
    apart: float
    """The variance between groups, the two classes' summed."""
    share_together: float
    """By what factor rows of both classes in one group change it."""


def _auroc_part(
    is_positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], group_n: Int[np.ndarray, " n"]
) -> _AurocPart:
    rank_n = rankdata(scores)
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    wins = np.empty(len(scores))  # the share of the other class that a row is on the right side of
    wins[is_positive] = (rank_n[is_positive] - rankdata(scores[is_positive])) / n_negative
    wins[~is_positive] = 1 - (rank_n[~is_positive] - rankdata(scores[~is_positive])) / n_positive
    estimate = float(wins[is_positive].mean())
    n_groups = int(group_n.max()) + 1
    sides, worth, counts = [], [], []
    for of in (is_positive, ~is_positive):
        moved = (wins[of] - estimate) / of.sum()
        sides.append(np.bincount(group_n[of], weights=moved, minlength=n_groups))
        worth.append(_effective(scores[of], wins[of], group_n[of]))
        counts.append(np.bincount(group_n[of], minlength=n_groups) > 0)
    apart = sum(_over_groups(side, int(has.sum())) for side, has in zip(sides, counts, strict=True))
    share = 1.0
    if (counts[0] & counts[1]).any() and apart > _ROUNDING:
        covariance = 2 * float(sides[0] @ sides[1]) * n_groups / (n_groups - 1) / apart
        unsure = 0.25 / math.sqrt(n_groups)  # it is estimated, and too small a variance is worse than too large a one
        share = min(max(1 + covariance + unsure, _LEAST_SHARE), _MOST_SHARE)
    return _AurocPart(estimate, worth[0], worth[1], sides[0] + sides[1], apart, share)


def _effective(
    scores: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"], group_n: Int[np.ndarray, " n"]
) -> float:
    """Return how many independent rows these are worth.

    What counts is how alike the outcomes of a group are. Near the edges few of them differ, and where none does
    nothing is known of it, so the scores' ranks have a say too: they are at least as alike.
    """
    size_g = np.bincount(group_n)
    if size_g.max() == 1:
        return float(len(scores))
    of_scores = intraclass_correlation(rankdata(scores), group_n)
    of_outcomes = intraclass_correlation(outcomes, group_n)
    known = [1.0 if of_scores is None else of_scores, *([] if of_outcomes is None else [of_outcomes])]
    alike = sum(known) / len(known)
    return len(scores) / (1 + (float((size_g**2).sum() / size_g.sum()) - 1) * alike)


def _over_groups(influence_g: Float[np.ndarray, " g"], n_groups: int | None = None) -> float:
    n = n_groups or len(influence_g)
    return float((influence_g**2).sum()) * n / (n - 1)


def _solved(estimate: float, variance_at: Callable[[float], float], scale: float) -> Bounds:
    """Return the furthest θ on each side that the estimate does not rule out."""

    def holds(theta: float) -> bool:
        return abs(estimate - theta) <= _Z * math.sqrt(scale * max(variance_at(theta), 0.0))

    def edge(end: float) -> float:
        inside, outside = end if holds(end) else estimate, end
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if holds(middle) else (inside, middle)
        return inside

    return [edge(0.0), edge(1.0)]


def _jackknifed(values: Shaped[np.ndarray, " g+1"]) -> Bounds | None:
    """Return the interval of the first value, the others being it without one group; None where one is no number."""
    if not (np.isfinite(values) & (values > 0)).all():
        return None
    logs = np.log(values)
    n_groups = len(values) - 1
    deviation = math.sqrt((n_groups - 1) / n_groups * float(((logs[1:] - logs[1:].mean()) ** 2).sum()))
    reach = float(student_t.ppf((1 + LEVEL) / 2, n_groups - 1)) * deviation
    return [float(np.exp(logs[0] - reach)), float(np.exp(logs[0] + reach))]
