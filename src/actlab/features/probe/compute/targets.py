"""What a probe predicts, classes or numbers, and all that follows from that."""

# n sample, k class

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor

from actlab.features.probe.compute.intervals import Intervals, classification_intervals, regression_intervals
from actlab.features.probe.compute.scores import (
    Classes,
    Predicted,
    Scores,
    classification_scores,
    r2,
    regression_scores,
    roc_auc,
)

Y = Shaped[np.ndarray, " n"]
Groups = Int[np.ndarray, " n"]


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
