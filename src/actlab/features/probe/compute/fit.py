"""One layer's probe: cross-validated, fitted, tested, and set beside its baselines."""

# n sample, f feature, k class

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score
from sklearn.pipeline import Pipeline

from actlab.features.probe.compute.estimators import LinearProbe, converged, fitted, make_pipeline, raw_weights
from actlab.features.probe.compute.intervals import Intervals, classification_intervals, regression_intervals
from actlab.features.probe.compute.scores import (
    classification_scores,
    confusion,
    predicted,
    regression_scores,
    roc_auc,
)
from actlab.features.probe.compute.task import Task
from actlab.features.probe.source.samples import Affine


class Tested(NamedTuple):
    """What the plots show of the test rows."""

    y: Shaped[np.ndarray, " n"]
    said: Shaped[np.ndarray, " n"]
    """The class said, or the value predicted."""
    scores: Float[np.ndarray, "n k"]
    """The rows' scores for each class; for a regression the predicted values, [n, 1]."""
    along: Float[np.ndarray, " n"]
    """The rows' places along the probe's direction: of more than two classes, from the first to the last."""
    classes: tuple[int, ...]
    """Empty for a regression."""


class Probe(NamedTuple):
    """A fitted probe and what became of it."""

    weights: LinearProbe
    scores: dict[str, Any]
    """Its part of results.json."""
    notes: tuple[str, ...]
    tested: Tested


def fit_probe(X: Float[np.ndarray, "n f"], task: Task, scaled: Affine | None = None) -> Probe:
    """Fit a probe on the task's training rows and test it on its test rows, which nothing is chosen on."""
    model = fitted(_new(task), X[task.train], task.y[task.train])
    of_model = _classified if task.is_classification else _regressed
    scores, tested, notes = of_model(model, X, task)
    if not converged(model):
        notes.append("the logistic fit did not converge: its features may need another scale, or more --regularization")
    return Probe(raw_weights(model, scaled), cross_validated(X, task) | scores, tuple(notes), tested)


def _new(task: Task) -> Pipeline:
    return make_pipeline(task.model_type, task.regularization)


def cross_validated(X: Float[np.ndarray, "n f"], task: Task) -> dict[str, Any]:
    """Return the score of each fold: AUROC, or R²; None where that is not defined, as in a fold without a class."""
    scores = [_fold_score(X, task, train, test) for train, test in task.folds]
    known = [score for score in scores if score is not None]
    return {
        "cv_scores": scores,
        "cv_mean": float(np.mean(known)) if known else None,
        "cv_std": float(np.std(known)) if known else None,
        "cv_metric": "roc_auc" if task.is_classification else "r2",
    }


def _fold_score(
    X: Float[np.ndarray, "n f"], task: Task, train: Int[np.ndarray, " i"], test: Int[np.ndarray, " j"]
) -> float | None:
    y = task.y
    if not task.is_classification:
        if len(test) < 2 or np.ptp(y[test]) == 0:
            return None
        return float(r2_score(y[test], fitted(_new(task), X[train], y[train]).predict(X[test])))
    classes = np.unique(y[task.train])
    if min(len(np.unique(y[train])), len(np.unique(y[test]))) < len(classes):
        return None
    said = predicted(fitted(_new(task), X[train], y[train]), X[test], classes)
    return roc_auc(y[test], said.scores, classes)


def _classified(model: Pipeline, X: Float[np.ndarray, "n f"], task: Task) -> tuple[dict[str, Any], Tested, list[str]]:
    classes, y_train, y_test = task.classes, task.y[task.train], task.y[task.test]
    said = predicted(model, X[task.test], classes)
    on_train = predicted(model, X[task.train], classes)

    def scored(baseline: Any) -> dict[str, Any]:
        return classification_scores(y_test, predicted(baseline, X[task.test], classes), classes)

    intervals = classification_intervals(y_test, said.labels, said.scores, classes, task.groups[task.test])
    scores = classification_scores(y_test, said, classes) | {
        "confusion_matrix": confusion(y_test, said.labels, classes),
        "n_classes": len(classes),
        "classes": classes.tolist(),
        "train_accuracy": float(accuracy_score(y_train, on_train.labels)),
        "train_cross_entropy_loss": float(log_loss(y_train, on_train.probabilities, labels=classes)),
        **intervals.by_name,
        "no_intervals_because": intervals.missing_because,
        "baselines": {
            "majority": scored(fitted(DummyClassifier(strategy="prior"), X[task.train], y_train)),
            "shuffled_labels": _mean_of([scored(model) for model in _on_shuffled(X, task)], spread_of="test_roc_auc"),
        },
    }
    along = model.decision_function(X[task.test])
    along = along if along.ndim == 1 else along[:, -1] - along[:, 0]
    notes = [*_class_notes(task), *_missing(intervals)]
    return scores, Tested(y_test, said.labels, said.scores, along, tuple(classes.tolist())), notes


def _regressed(model: Pipeline, X: Float[np.ndarray, "n f"], task: Task) -> tuple[dict[str, Any], Tested, list[str]]:
    y_train, y_test = task.y[task.train], task.y[task.test]
    said, on_train = model.predict(X[task.test]), model.predict(X[task.train])

    def scored(baseline: Any) -> dict[str, Any]:
        return regression_scores(y_test, baseline.predict(X[task.test]))

    intervals = regression_intervals(y_test, said, task.groups[task.test])
    scores = regression_scores(y_test, said) | {
        "train_mae": float(mean_absolute_error(y_train, on_train)),
        "train_r2": float(r2_score(y_train, on_train)),
        **intervals.by_name,
        "no_intervals_because": intervals.missing_because,
        "baselines": {
            "mean": scored(fitted(DummyRegressor(), X[task.train], y_train)),
            "shuffled_labels": _mean_of([scored(model) for model in _on_shuffled(X, task)], spread_of="test_r2"),
        },
    }
    notes = _missing(intervals)
    if len(np.unique(task.groups[task.test])) < len(y_test):
        notes.append("pearson_p takes the rows for independent, and several share a group: it is too small")
    if scores["pearson_r"] is None:
        notes.append("the test rows' target, or what the probe says of it, does not vary: what needs that is null")
    return scores, Tested(y_test, said, said[:, None], said, ()), notes


def _on_shuffled(X: Float[np.ndarray, "n f"], task: Task) -> Iterator[Pipeline]:
    """Yield the probe fitted on each draw of permuted training labels."""
    for labels in task.shuffled:
        yield fitted(_new(task), X[task.train], labels)


def _mean_of(draws: list[dict[str, Any]], *, spread_of: str) -> dict[str, Any]:
    """Return the mean of each score over draws, None where one is None, and the range of the main one."""
    columns = {name: [draw[name] for draw in draws] for name in draws[0]}
    means = {name: None if None in values else float(np.mean(values)) for name, values in columns.items()}
    known = [value for value in columns[spread_of] if value is not None]
    return means | {f"{spread_of}_range": [min(known), max(known)] if known else None, "n_draws": len(draws)}


def _missing(intervals: Intervals) -> list[str]:
    return [] if intervals.missing_because is None else [intervals.missing_because]


def _class_notes(task: Task) -> list[str]:
    sides = {"test": task.test, "training": task.train}
    lacking = {side: np.setdiff1d(task.classes, task.y[rows]).tolist() for side, rows in sides.items()}
    effects = {"test": "its AUROC is null", "training": "the probe never says it"}
    return [
        f"the {side} rows have no class {', '.join(map(str, classes))}: {effects[side]}"
        for side, classes in lacking.items()
        if classes
    ]
