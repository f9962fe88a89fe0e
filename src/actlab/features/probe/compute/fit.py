"""One layer's probe: cross-validated, fitted, tested, and set beside its baselines."""

# n sample, f feature, k class

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import Pipeline

from actlab.features.probe.compute.estimators import LinearProbe, converged, fitted, make_pipeline, raw_weights
from actlab.features.probe.compute.intervals import Bounds, Intervals
from actlab.features.probe.compute.scores import Classes, Predicted, Scores, Target, predicted
from actlab.features.probe.compute.task import Fold, Task
from actlab.features.probe.source.samples import Affine


class Folds(NamedTuple):
    """The score of each fold: AUROC, or R²; None where that is not defined, as in a fold without a class."""

    cv_scores: list[float | None]
    cv_mean: float | None
    cv_std: float | None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A fitted probe and what became of it."""

    target: Target
    weights: LinearProbe
    folds: Folds
    scores: Scores
    """On the test rows."""
    on_train: Scores
    intervals: Intervals
    baselines: dict[str, Scores]
    """On the test rows, by the baseline's name."""
    draws: dict[str, object]
    """Of the shuffled labels: how many, and the range of their main score."""
    y: Shaped[np.ndarray, " n"]
    """Of the test rows."""
    said: Predicted
    along: Float[np.ndarray, " n"]
    """The test rows' places along the probe's direction: of more than two classes, from the first to the last."""
    classes: list[int]
    """Empty for a regression."""
    confusion: list[list[int]]
    """The test rows' counts, a row for each true class, a column for each that was said."""
    notes: tuple[str, ...]

    @property
    def score(self) -> float | None:
        """The main score on the test rows."""
        return self.scores[self.target.key]

    @property
    def interval(self) -> Bounds | None:
        """Its interval."""
        return self.intervals.by_name[f"{self.target.key}_interval"]

    def as_json(self) -> dict[str, object]:
        """Return its part of results.json, the folds left out."""
        of_classes = {"confusion_matrix": self.confusion, "n_classes": len(self.classes), "classes": self.classes}
        return {
            **self.scores,
            **(of_classes if self.classes else {}),
            **self.on_train,
            **self.intervals.by_name,
            "no_intervals_because": self.intervals.missing_because,
            "baselines": {**self.baselines, "shuffled_labels": self.baselines["shuffled_labels"] | self.draws},
        }


def fit_probe(X: Float[np.ndarray, "n f"], task: Task, scaled: Affine | None = None) -> Probe:
    """Fit a probe on the task's training rows and test it on its test rows, which nothing is chosen on."""
    folds = cross_validated(X, task)  # first: what is held from here on would be one copy more
    target, classes = task.target, task.classes(task.train, task.test)
    X_train, y_train, y_test = X[task.train], task.y[task.train], task.y[task.test]

    def scored(model: Pipeline) -> Scores:
        return target.scores(y_test, predicted(model, X[task.test], classes), classes)

    model = fitted(_new(task), X_train, y_train)
    said = predicted(model, X[task.test], classes)
    scores = target.scores(y_test, said, classes)
    on_train = target.scores(y_train, predicted(model, X_train, classes), classes)
    intervals = target.intervals(y_test, said, classes, task.groups[task.test])
    draws = [scored(fitted(_new(task), X_train, labels)) for labels in task.shuffled]
    known = [value for draw in draws if (value := draw[target.key]) is not None]
    baselines = {target.baseline: scored(fitted(target.constant(), X_train, y_train)), "shuffled_labels": _mean(draws)}
    along = model.decision_function(X[task.test]) if len(classes) else said.labels
    confusion = confusion_matrix(y_test, said.labels, labels=classes).tolist() if len(classes) else []
    return Probe(
        target=target,
        weights=raw_weights(model, scaled),
        folds=folds,
        scores=scores,
        on_train={f"train_{name}": on_train[f"test_{name}"] for name in target.on_train},
        intervals=intervals,
        baselines=baselines,
        draws={f"{target.key}_range": [min(known), max(known)] if known else None, "n_draws": len(draws)},
        y=y_test,
        said=said,
        along=along if along.ndim == 1 else along[:, -1] - along[:, 0],
        classes=classes.tolist(),
        confusion=confusion,
        notes=tuple(_notes(task, classes, model, scores, intervals)),
    )


def _new(task: Task) -> Pipeline:
    return make_pipeline(task.model_type, task.regularization)


def cross_validated(X: Float[np.ndarray, "n f"], task: Task) -> Folds:
    """Return how a task's probe does in the folds, inside the training rows."""
    classes = task.classes(task.train)
    scores = [_fold_score(X, task, fold, classes) for fold in task.folds]
    known = [score for score in scores if score is not None]
    return Folds(scores, float(np.mean(known)) if known else None, float(np.std(known)) if known else None)


def _fold_score(X: Float[np.ndarray, "n f"], task: Task, fold: Fold, classes: Classes) -> float | None:
    y_train, y_test = task.y[fold.train], task.y[fold.test]
    if len(np.unique(y_train)) < len(classes) or len(np.unique(y_test)) < max(2, len(classes)):
        return None
    said = predicted(fitted(_new(task), X[fold.train], y_train), X[fold.test], classes)
    return task.target.main(y_test, said, classes)


def _mean(draws: list[Scores]) -> Scores:
    """Return the mean of each score over draws, None where one is None."""
    columns = {name: [value for draw in draws if (value := draw[name]) is not None] for name in draws[0]}
    return {name: float(np.mean(known)) if len(known) == len(draws) else None for name, known in columns.items()}


def _notes(task: Task, classes: Classes, model: Pipeline, scores: Scores, intervals: Intervals) -> Iterator[str]:
    sides = (("test", task.test, "its AUROC is null"), ("training", task.train, "the probe never says it"))
    for side, rows, effect in sides:
        if lacking := np.setdiff1d(classes, task.y[rows]).tolist():
            yield f"the {side} rows have no class {', '.join(map(str, lacking))}: {effect}"
    if intervals.missing_because is not None:
        yield intervals.missing_because
    if "pearson_p" in scores and len(np.unique(task.groups[task.test])) < len(task.test):
        yield "pearson_p takes the rows for independent, and several share a group: it is too small"
    if "pearson_r" in scores and scores["pearson_r"] is None:
        yield "the test rows' target, or what the probe says of it, does not vary: what needs that is null"
    if not converged(model):
        yield "the logistic fit did not converge: its features may need another scale, or more --regularization"
