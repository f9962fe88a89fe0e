"""What a probe predicts, classes or numbers, and how it is scored on test rows."""

# n sample, k class

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.stats import pearsonr
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    recall_score,
    roc_auc_score,
)

from actlab.features.probe.compute.intervals import Intervals, classification_intervals, ranked, regression_intervals

CALIBRATION_BINS = 10

Classes = Int[np.ndarray, " k"]
"""Ascending; empty for numbers."""
Y = Shaped[np.ndarray, " n"]
Groups = Int[np.ndarray, " n"]
Scores = dict[str, float | None]
"""By their names in results.json; None for what is not defined."""


class Predicted(NamedTuple):
    """What a probe says of some rows."""

    labels: Shaped[np.ndarray, " n"]
    """Classes, or numbers."""
    probabilities: Float[np.ndarray, "n k"]
    """A column for each class of the task; zero for one that the training rows lack."""
    scores: Float[np.ndarray, "n k"]
    """What ranks the rows for each class: log-odds with two classes, else probabilities; the numbers, [n, 1]."""


def predicted(model: BaseEstimator, X: Float[np.ndarray, "n f"], classes: Classes) -> Predicted:
    """Return what a fitted scikit-learn model says of X, by the task's classes."""
    labels = model.predict(X)
    if not len(classes):
        return Predicted(labels, labels[:, None], labels[:, None])
    probabilities = np.zeros((len(X), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(X)
    scores = probabilities
    if len(classes) == 2 and hasattr(model, "decision_function"):  # probabilities near 1 are ties, log-odds are not
        log_odds = model.decision_function(X)
        scores = np.stack([-log_odds, log_odds], axis=1)
    return Predicted(labels, probabilities, scores)


def roc_auc(y: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n k"], classes: Classes) -> float | None:
    """Return the AUROC of the second class of two, or the mean over classes, each against the rest.

    None where y lacks a class.
    """
    if len(np.unique(y)) < len(classes):
        return None
    return float(np.mean([roc_auc_score(y == classes[k], scores[:, k]) for k in ranked(classes)]))


def r2(y: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"]) -> float | None:
    """Return the share of the variance that is explained; None where there is none."""
    return float(r2_score(y, said)) if len(y) > 1 and np.ptp(y) > 0 else None


def classification_scores(y: Int[np.ndarray, " n"], said: Predicted, classes: Classes) -> Scores:
    """Return the scores of a classifier."""
    average, second = "macro", 1
    brier = ((said.probabilities - (y[:, None] == classes)) ** 2).sum(axis=1).mean()
    if len(classes) == 2:  # of the second class's probability alone
        average, second = "binary", classes[1]
        brier = brier_score_loss(y == second, said.probabilities[:, 1])
    return {
        "test_accuracy": float(accuracy_score(y, said.labels)),
        "test_f1": float(f1_score(y, said.labels, labels=classes, pos_label=second, average=average, zero_division=0)),
        "test_roc_auc": roc_auc(y, said.scores, classes),
        "test_cross_entropy_loss": float(log_loss(y, said.probabilities, labels=classes)),
        "test_balanced_accuracy": float(recall_score(y, said.labels, labels=np.unique(y), average="macro")),
        "brier": float(brier),
        "ece": calibration_error(y, said.probabilities, classes),
    }


def regression_scores(y: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"]) -> Scores:
    """Return the scores of a regression."""
    mse = float(mean_squared_error(y, said))
    varies = len(y) > 2 and np.ptp(y) > 0 and np.ptp(said) > 0
    pearson_r, pearson_p = map(float, pearsonr(y, said)) if varies else (None, None)
    return {
        "test_mae": float(mean_absolute_error(y, said)),
        "test_mse": mse,
        "test_rmse": mse**0.5,
        "test_r2": r2(y, said),
        "pearson_r": pearson_r,
        "pearson_p": pearson_p,
    }


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


def with_interval(score: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a score for people.

    >>> with_interval(0.876, [0.8, 0.951])
    '0.88 [0.80, 0.95]'
    """
    text = "not defined" if score is None else f"{score:.2f}"
    return text if interval is None else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"


@dataclass(frozen=True)
class Target:
    """How a kind of target is scored. The functions take the truth, what was said, and the classes."""

    metric: str
    """The main score, as folds and confounds name it."""
    label: str
    """The main score for people."""
    chance: float
    main: Callable[[Y, Predicted, Classes], float | None]
    scores: Callable[[Y, Predicted, Classes], Scores]
    on_train: tuple[str, ...]
    """The scores that are told of the training rows too."""
    intervals: Callable[[Y, Predicted, Classes, Groups], Intervals]
    baseline: str
    """What the constant prediction is called."""
    constant: Callable[[], BaseEstimator]
    tells: str
    """What a confound does that the target follows from."""
    suspicious: float
    """A score from which a probe may be reading the confound and not the concept."""
    least: float
    """Below it a confound tells nothing, however little the probe tells."""

    @property
    def key(self) -> str:
        """The main score's name in results.json."""
        return f"test_{self.metric}"


CLASSES = Target(
    metric="roc_auc",
    label="AUROC",
    chance=0.5,
    main=lambda y, said, classes: roc_auc(y, said.scores, classes),
    scores=classification_scores,
    on_train=("accuracy", "cross_entropy_loss"),
    intervals=lambda y, said, classes, groups: classification_intervals(y, said.labels, said.scores, classes, groups),
    baseline="majority",
    constant=lambda: DummyClassifier(strategy="prior"),
    tells="tells the classes apart",
    suspicious=0.8,
    least=0.6,
)
NUMBERS = Target(
    metric="r2",
    label="R²",
    chance=0.0,
    main=lambda y, said, _: r2(y, said.labels),
    scores=lambda y, said, _: regression_scores(y, said.labels),
    on_train=("mae", "r2"),
    intervals=lambda y, said, _, groups: regression_intervals(y, said.labels, groups),
    baseline="mean",
    constant=DummyRegressor,
    tells="predicts the target",
    suspicious=0.5,
    least=0.1,
)
