"""The probes as scikit-learn pipelines, and their weights in the space of the raw activations."""

# n sample, f feature, k class

import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from actlab.features.probe.source.samples import Affine

MAX_ITERATIONS = 1000
_TOLERANCE = 1e-10
"""Of the gradient: the optimum itself, not where a solver of some version stops on the way to it."""


class LinearProbe(NamedTuple):
    """score = weight · x + intercept, in float64."""

    weight: Float[np.ndarray, "..."]
    """[f], or [k, f] for more than two classes."""
    intercept: Float[np.ndarray, "..."]
    """[], or [k]."""
    classes: tuple[int, ...]
    """What the scores speak for; with two, a positive score means the second. Empty for a regression."""


class DifferenceOfMeans(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The direction from the mean of the first class to the mean of the second.

    A logistic regression on the rows' places along it finds the threshold and the probabilities.
    """

    def fit(self, X: Float[np.ndarray, "n f"], y: Shaped[np.ndarray, " n"]) -> Self:
        """Find the direction between two classes, and calibrate along it."""
        self.classes_ = np.unique(y)
        is_second: Bool[np.ndarray, " n"] = y == self.classes_[-1]
        direction = X[is_second].mean(axis=0) - X[~is_second].mean(axis=0)
        places = X @ direction
        centre, spread = places.mean(), places.std() or 1.0
        line = _logistic(1.0).fit(((places - centre) / spread)[:, None], is_second)
        slope = line.coef_[0, 0] / spread
        self.coef_ = slope * direction[None]
        self.intercept_ = line.intercept_ - slope * centre
        return self

    def decision_function(self, X: Float[np.ndarray, "n f"]) -> Float[np.ndarray, " n"]:
        """Return the log-odds of the second class."""
        scores: Float[np.ndarray, " n"] = X @ self.coef_[0] + self.intercept_
        return scores

    def predict_proba(self, X: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n 2"]:
        """Return the probabilities of both classes."""
        second = expit(self.decision_function(X))
        return np.stack([1 - second, second], axis=1)

    def predict(self, X: Float[np.ndarray, "n f"]) -> Shaped[np.ndarray, " n"]:
        """Return the likelier class."""
        predicted: Shaped[np.ndarray, " n"] = self.classes_[(self.decision_function(X) > 0).astype(int)]
        return predicted


def make_pipeline(model_type: str, regularization: float) -> Pipeline:
    """Return an unfitted probe that scales inside whatever it is fitted on."""
    probes: dict[str, Any] = {
        "logistic": _logistic(1 / regularization),
        "ridge": Ridge(alpha=regularization, solver="cholesky"),
        "difference-of-means": DifferenceOfMeans(),
    }
    return Pipeline([("scale", StandardScaler()), ("probe", probes[model_type])])


class _WideLogistic(LogisticRegression):  # type: ignore[misc]
    """A logistic regression that, where columns are more than rows, is fitted in the space of the rows.

    The L2 penalty keeps the weights in it, and a rotation changes neither penalty nor scores: with X' = QR the fit on
    R' has the same optimum, found with many fewer numbers.
    """

    def fit(self, X: Float[np.ndarray, "n f"], y: Shaped[np.ndarray, " n"]) -> Self:
        """Fit as `LogisticRegression` does."""
        if X.shape[1] <= X.shape[0]:
            super().fit(X, y)
            return self
        Q, R = np.linalg.qr(X.T)
        super().fit(R.T, y)
        self.coef_ = vars(self)["coef_"] @ Q.T
        self.n_features_in_ = X.shape[1]
        return self


def _logistic(C: float) -> LogisticRegression:
    return _WideLogistic(C=C, solver="newton-cg", tol=_TOLERANCE, max_iter=MAX_ITERATIONS)


def fitted(pipeline: Pipeline, X: Float[np.ndarray, "n f"], y: Shaped[np.ndarray, " n"]) -> Pipeline:
    """Fit a probe; whether it came to an end is `converged`'s to say, not a warning's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Line Search failed", UserWarning)  # the loss is at its least, to rounding
        warnings.filterwarnings("ignore", "The line search algorithm did not converge")
        return pipeline.fit(X, y)


def converged(pipeline: Pipeline) -> bool:
    """Whether a fitted probe reached its optimum."""
    n_iterations = getattr(pipeline["probe"], "n_iter_", None)
    return n_iterations is None or bool(np.max(n_iterations) < MAX_ITERATIONS)


def raw_weights(pipeline: Pipeline, scaled: Affine | None) -> LinearProbe:
    """Return a fitted probe's weights with its scaler, and the input's own scaling, folded into them."""
    scaler, probe = pipeline["scale"], pipeline["probe"]
    weight, intercept = _unscaled(
        np.atleast_2d(probe.coef_), np.atleast_1d(probe.intercept_), Affine(scaler.mean_, scaler.scale_)
    )
    if scaled is not None:
        weight, intercept = _unscaled(weight, intercept, scaled)
    classes = tuple(int(one) for one in getattr(probe, "classes_", ()))
    if len(weight) == 1:
        return LinearProbe(weight[0], intercept[0], classes)
    return LinearProbe(weight, intercept, classes)


def _unscaled(
    weight_kf: Float[np.ndarray, "k f"], intercept_k: Float[np.ndarray, " k"], affine: Affine
) -> tuple[Float[np.ndarray, "k f"], Float[np.ndarray, " k"]]:
    """Take weights on (x - offset) / scale to weights on x."""
    weight_kf = weight_kf / affine.scale
    return weight_kf, intercept_k - weight_kf @ affine.offset
