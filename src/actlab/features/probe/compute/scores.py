"""What is said of a probe: its scores on test rows, and the intervals that resampling their groups gives."""

# n sample, k class, b resample

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    recall_score,
    roc_auc_score,
)

CALIBRATION_BINS = 10
LEVEL_PERCENT = 95
_DRAWS_AT_ONCE = 100

Classes = Int[np.ndarray, " k"]
Weigh = Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, " b"]]
"""A score under each row of weights, NaN where it is not defined."""


class Predicted(NamedTuple):
    """What a classifier says of some rows."""

    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n k"]
    """A column for each class of the task; zero for one that the training rows lack."""
    scores: Float[np.ndarray, "n k"]
    """What ranks the rows for each class: log-odds with two classes, else probabilities."""


def predicted(model: Any, X: Float[np.ndarray, "n f"], classes: Classes) -> Predicted:
    """Return what a fitted scikit-learn classifier says of X, by the task's classes."""
    probabilities = np.zeros((len(X), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(X)
    scores = probabilities
    if len(classes) == 2 and hasattr(model, "decision_function"):  # probabilities near 1 are ties, log-odds are not
        log_odds = model.decision_function(X)
        scores = np.stack([-log_odds, log_odds], axis=1)
    return Predicted(model.predict(X), probabilities, scores)


def roc_auc(y: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n k"], classes: Classes) -> float | None:
    """Return the AUROC of the second class of two, or the mean over classes, each against the rest.

    None where y lacks a class.
    """
    if len(np.unique(y)) < len(classes):
        return None
    return float(np.mean([roc_auc_score(y == classes[k], scores[:, k]) for k in _ranked(classes)]))


def classification_scores(y: Int[np.ndarray, " n"], said: Predicted, classes: Classes) -> dict[str, Any]:
    """Return the scores of a classifier under the names of results.json."""
    return {
        "test_accuracy": float(accuracy_score(y, said.labels)),
        "test_f1": _f1(y, said.labels, classes),
        "test_roc_auc": roc_auc(y, said.scores, classes),
        "test_cross_entropy_loss": float(log_loss(y, said.probabilities, labels=classes)),
        "test_balanced_accuracy": float(recall_score(y, said.labels, labels=np.unique(y), average="macro")),
        "brier": _brier(y, said.probabilities, classes),
        "ece": calibration_error(y, said.probabilities, classes),
    }


def regression_scores(y: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """Return the scores of a regression under the names of results.json; None for what is not defined."""
    mse = float(mean_squared_error(y, said))
    varies = len(y) > 2 and np.ptp(y) > 0 and np.ptp(said) > 0
    pearson_r, pearson_p = map(float, pearsonr(y, said)) if varies else (None, None)
    return {
        "test_mae": float(mean_absolute_error(y, said)),
        "test_mse": mse,
        "test_rmse": mse**0.5,
        "test_r2": float(r2_score(y, said)) if len(y) > 1 and np.ptp(y) > 0 else None,
        "pearson_r": pearson_r,
        "pearson_p": pearson_p,
    }


def confusion(y: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Classes) -> list[list[int]]:
    """Return the counts, a row for each true class, a column for each that was said."""
    counts: list[list[int]] = confusion_matrix(y, labels, labels=classes).tolist()
    return counts


def calibration_error(y: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], classes: Classes) -> float:
    """Return the expected calibration error over ten equal bins.

    With two classes it is about the probability of the second one, otherwise about that of the class said.
    """
    if len(classes) == 2:
        sure, right = probabilities[:, 1], y == classes[1]
    else:
        sure, right = probabilities.max(axis=1), y == classes[probabilities.argmax(axis=1)]
    bins = np.minimum((sure * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=sure - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(y))


def classification_intervals(
    y: Int[np.ndarray, " n"],
    said: Predicted,
    classes: Classes,
    groups: Int[np.ndarray, " n"],
    *,
    n_draws: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """Return the 95 % intervals of a classifier's scores, over resamples of the groups."""
    ranked = [(y == classes[k], said.scores[:, k]) for k in _ranked(classes)]
    right = (said.labels == y).astype(float)
    members = [y == one for one in classes]
    return _intervals(
        {
            "test_roc_auc_interval": lambda w: np.mean([weighted_roc_auc(is_k, s, w) for is_k, s in ranked], axis=0),
            "test_balanced_accuracy_interval": lambda w: np.mean(
                [_ratio(w @ (right * of), w @ of) for of in members if of.any()], axis=0
            ),
            "test_accuracy_interval": lambda w: _ratio(w @ right, w.sum(axis=1)),
        },
        groups,
        n_draws=n_draws,
        seed=seed,
    )


def regression_intervals(
    y: Float[np.ndarray, " n"],
    said: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    *,
    n_draws: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """Return the 95 % intervals of a regression's scores, over resamples of the groups."""
    return _intervals(
        {
            "test_r2_interval": lambda w: weighted_r2(y, said, w),
            "test_mae_interval": lambda w: _ratio(w @ np.abs(y - said), w.sum(axis=1)),
        },
        groups,
        n_draws=n_draws,
        seed=seed,
    )


def weighted_roc_auc(
    is_positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], weights_bn: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, " b"]:
    """Return the AUROC under each row of weights, NaN where a class has none.

    It is scikit-learn's `roc_auc_score(sample_weight=…)` for all resamples after one sort, which makes a
    thousand of them, layer by layer, a matter of milliseconds.
    """
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    weights_bn = weights_bn[:, order]
    positive = np.add.reduceat(weights_bn * is_positive[order], ties, axis=1)
    negative = np.add.reduceat(weights_bn * ~is_positive[order], ties, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def weighted_r2(
    y: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"], weights_bn: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, " b"]:
    """Return R² under each row of weights, NaN where y does not vary."""
    centred = y - y.mean()  # else the difference of two large sums
    spread = weights_bn @ centred**2 - _ratio((weights_bn @ centred) ** 2, weights_bn.sum(axis=1))
    return 1 - _ratio(weights_bn @ (y - said) ** 2, np.where(spread > 1e-12 * centred.var(), spread, 0.0))


def _ranked(classes: Classes) -> range:
    """Return the columns whose AUROC counts: of two classes the second, of more all."""
    return range(1, 2) if len(classes) == 2 else range(len(classes))


def _f1(y: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Classes) -> float:
    if len(classes) == 2:
        return float(f1_score(y, labels, labels=classes, pos_label=classes[1], zero_division=0))
    return float(f1_score(y, labels, labels=classes, average="macro", zero_division=0))


def _brier(y: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], classes: Classes) -> float:
    """Return the mean squared error of the second class's probability; with more classes, summed over them."""
    if len(classes) == 2:
        return float(brier_score_loss(y == classes[1], probabilities[:, 1]))
    return float(((probabilities - (y[:, None] == classes)) ** 2).sum(axis=1).mean())


def _intervals(
    scores: dict[str, Weigh], groups: Int[np.ndarray, " n"], *, n_draws: int, seed: int
) -> dict[str, list[float] | None]:
    drawn: dict[str, list[Float[np.ndarray, " b"]]] = {name: [] for name in scores}
    for weights_bn in _resamples(groups, n_draws, seed):
        for name, weigh in scores.items():
            drawn[name].append(weigh(weights_bn))
    return {name: _interval(np.concatenate(values)) for name, values in drawn.items()}


def _resamples(groups: Int[np.ndarray, " n"], n_draws: int, seed: int) -> Iterator[Float[np.ndarray, "b n"]]:
    """Yield how often each row is in each resample: groups drawn with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    group_of_row = np.unique(groups, return_inverse=True)[1]
    n_groups = int(group_of_row.max()) + 1
    for start in range(0, n_draws, _DRAWS_AT_ONCE):
        n_here = min(_DRAWS_AT_ONCE, n_draws - start)
        counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_here)
        yield counts[:, group_of_row].astype(np.float64)


def _interval(values: Float[np.ndarray, " b"]) -> list[float] | None:
    """Return the middle 95 % of the resamples in which the score is defined."""
    values = values[np.isfinite(values)]
    outside = (100 - LEVEL_PERCENT) / 2
    return np.percentile(values, [outside, 100 - outside]).tolist() if len(values) else None


def _ratio(above: Shaped[np.ndarray, " b"], below: Shaped[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
    ratios: Float[np.ndarray, " b"] = np.divide(above, below, out=np.full(len(below), np.nan), where=below != 0)
    return ratios
