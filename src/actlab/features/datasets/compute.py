"""From what was read to X and y: columns put together and scaled."""

# n sample, f input feature, t target

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from actlab.features.datasets.contents import Contents
from actlab.features.datasets.normalisations import NORMALISATIONS
from actlab.features.datasets.source import Bank
from actlab.ground.errors import DataError
from actlab.ground.later import Later

_BLOCK = 512
"""Columns scaled at a time, in float64."""
Parameters = Mapping[str, str | Float[np.ndarray, " f"]]
"""`method`, and what it keeps of each column."""


class Rows(NamedTuple):
    """The rows that a strategy makes X and y of; what it does not read is empty."""

    embeddings: Float[np.ndarray, "n d"]
    hidden: Float[np.ndarray, "n c d"]
    """Of X's layers."""
    features: Float[np.ndarray, "n f"]
    """Activations of the features, in their order."""
    labels: Shaped[np.ndarray, " n"]

    @property
    def side_by_side(self) -> Float[np.ndarray, "n f"]:
        """The hidden states of all layers, layer after layer."""
        return self.hidden.reshape(len(self.hidden), -1)

    @property
    def targets(self) -> Float[np.ndarray, " n"] | Float[np.ndarray, "n t"]:
        """The features as y: [n] of one, [n, t] of several."""
        return self.features[:, 0] if self.features.shape[1] == 1 else self.features


def make_dataset(
    contents: Contents, bank: Bank, *, own: bool
) -> tuple[Float[np.ndarray, "n f"], Shaped[np.ndarray, "n ..."]]:
    """Return X before scaling, and y; with `own` X may be the bank's memory, which is then overwritten."""
    wanted, hidden_ncd = bank.wanted, bank.hidden_ncd
    layers = contents.input_layers if contents.strategy.input_source == "hidden_states" else ()
    if layers != wanted.hidden_layers:
        hidden_ncd = hidden_ncd[:, [wanted.hidden_layers.index(layer) for layer in layers]]
    columns = [bank.latents[one.config][:, wanted.features[one.config].index(one.feature)] for one in contents.features]
    features_nf = np.stack(columns, axis=1) if columns else np.empty((len(bank.labels), 0), np.float32)
    rows = Rows(bank.embeddings_nd, hidden_ncd, features_nf, bank.labels)
    X = np.asarray(contents.strategy.inputs(rows), dtype=np.float32)
    y = np.asarray(contents.strategy.targets(rows))
    needed = [y] if own else [y, bank.embeddings_nd, bank.hidden_ncd]
    return X.copy() if any(np.may_share_memory(X, one) for one in needed) else X, y


def normalize_features(
    X: Float[np.ndarray, "n f"], method: str = "standardize", fit_rows: Bool[np.ndarray, " n"] | None = None
) -> tuple[Float[np.ndarray, "n f"], Parameters]:
    """Scale each column and return it as float32, with `method` and `mean`, `std` or `min`, `max`, `range`.

    scikit-learn's scalers do it in float64: the standard deviation is the population's. A column that is
    constant by their test becomes 0, and its std or range is given as 1.

    >>> X, params = normalize_features(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> X.tolist(), params["std"].tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0])

    Raises:
        ConfigError: The method is not known.
        DataError: There is no row to fit on, or a number is not finite.
    """
    scaled = np.array(X, dtype=np.float64 if np.asarray(X).dtype == np.float64 else np.float32)
    if scaled.ndim != 2 or not (np.abs(scaled) <= np.finfo(np.float32).max).all():
        what = "holds NaN or a number too large for float32"
        raise DataError(f"X is {list(scaled.shape)} or {what}", hint="give finite numbers, [samples, features]")
    params = scale_columns(scaled, method, fit_rows)
    return scaled.astype(np.float32, copy=False), params


def scale_columns(
    X: Float[np.ndarray, "n f"], method: str, fit_rows: Bool[np.ndarray, " n"] | None = None
) -> Parameters:
    """Scale the columns of X in place, as `normalize_features` does, and return the parameters."""
    normalisation = NORMALISATIONS[method]
    if normalisation.fits is None:
        return {"method": method}
    if not len(X) or (fit_rows is not None and not fit_rows.any()):
        raise DataError("there is no sample to fit the normaliser on", hint="does the split's train side have any?")
    fit: Later[[Float[np.ndarray, "n f"]], Fitted] = Later(normalisation.fits)
    stored = []
    for start in range(0, X.shape[1], _BLOCK):
        columns = X[:, start : start + _BLOCK].astype(np.float64)
        fitted = fit(columns if fit_rows is None else columns[fit_rows])
        X[:, start : start + _BLOCK] = _scaled(columns, fitted)
        stored.append(fitted.stored)
    joined = dict(zip(normalisation.keys, map(np.concatenate, zip(*stored, strict=True)), strict=True))
    _refuse_outside_float32(joined[normalisation.keys[-1]])
    return {"method": method} | {key: values.astype(np.float32) for key, values in joined.items()}


def _refuse_outside_float32(divisor_f: Float[np.ndarray, " f"]) -> None:
    """Refuse columns whose divisor would be stored as infinity or 0: nobody could undo the scaling."""
    of_float32 = np.finfo(np.float32)
    wrong_f = (divisor_f > of_float32.max) | (divisor_f < of_float32.smallest_subnormal)
    if wrong_f.any():
        column = int(np.argmax(wrong_f))
        raise DataError(
            f"column {column} of X varies by {divisor_f[column]:.3g}, outside float32",
            hint="multiply it by a number that brings it near 1",
        )


class Fitted(NamedTuple):
    """What scales some columns."""

    center_f: Float[np.ndarray, " f"]
    divisor_f: Float[np.ndarray, " f"]
    is_constant_f: Bool[np.ndarray, " f"]
    spread_f: Float[np.ndarray, " f"]
    """Largest minus smallest value; in a constant column it is rounding."""
    stored: tuple[Float[np.ndarray, " f"], ...]
    """By the normalisation's keys."""


def fit_standard(fit_nf: Float[np.ndarray, "n f"]) -> Fitted:
    """Fit mean and standard deviation, as scikit-learn does."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(fit_nf)
    is_constant_f = scaler.scale_ != np.sqrt(scaler.var_)  # the scaler puts 1 there
    center_f = np.where(is_constant_f, fit_nf[0], scaler.mean_)
    return Fitted(center_f, scaler.scale_, is_constant_f, np.ptp(fit_nf, axis=0), (center_f, scaler.scale_))


def fit_minmax(fit_nf: Float[np.ndarray, "n f"]) -> Fitted:
    """Fit the smallest and the largest value."""
    min_f, max_f = fit_nf.min(axis=0), fit_nf.max(axis=0)
    is_constant_f = max_f - min_f < 10 * np.finfo(np.float64).eps  # scikit-learn's own bound
    range_f = np.where(is_constant_f, 1.0, max_f - min_f)
    return Fitted(min_f, range_f, is_constant_f, max_f - min_f, (min_f, max_f, range_f))


def _scaled(columns_nf: Float[np.ndarray, "n f"], fitted: Fitted) -> Float[np.ndarray, "n f"]:
    """Return the columns centered and divided; what a constant column varies by is rounding and becomes 0."""
    moved_nf: Float[np.ndarray, "n f"] = columns_nf - fitted.center_f
    moved_nf[fitted.is_constant_f & (np.abs(moved_nf) <= fitted.spread_f)] = 0.0
    moved_nf /= fitted.divisor_f
    return moved_nf
