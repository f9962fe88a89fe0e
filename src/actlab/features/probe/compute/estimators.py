"""The probes as scikit-learn pipelines, and their weights in the space of the raw activations."""

# n sample, f feature, k class

import warnings
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Shaped
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from actlab.features.probe.compute.scores import CLASSES, NUMBERS, Target
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


class DifferenceOfMeans(LogisticRegression):  # type: ignore[misc]
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


class ProbeType(NamedTuple):
    """What --model-type names."""

    target: Target
    new: Callable[[float], LogisticRegression | Ridge]
    """Make one, unfitted, of a strength of its penalty."""
    most_classes: float = np.inf


PROBE_TYPES = {
    "logistic": ProbeType(CLASSES, lambda strength: _logistic(1 / strength)),
    "ridge": ProbeType(NUMBERS, lambda strength: Ridge(alpha=strength, solver="cholesky")),
    "difference-of-means": ProbeType(CLASSES, lambda _: DifferenceOfMeans(), most_classes=2),
}


def make_pipeline(model_type: str, regularization: float) -> Pipeline:
    """Return an unfitted probe that scales inside whatever it is fitted on."""
    return Pipeline([("scale", StandardScaler()), ("probe", PROBE_TYPES[model_type].new(regularization))])


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
    weight_kf, intercept_k = np.atleast_2d(probe.coef_), np.atleast_1d(probe.intercept_)
    for one in filter(None, (Affine(scaler.mean_, scaler.scale_), scaled)):  # from weights on (x - offset) / scale
        weight_kf = weight_kf / one.scale
        intercept_k = intercept_k - weight_kf @ one.offset
    k = 0 if len(weight_kf) == 1 else slice(None)
    return LinearProbe(weight_kf[k], intercept_k[k], tuple(map(int, getattr(probe, "classes_", ()))))
