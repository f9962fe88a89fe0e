"""From what was read to X and y: columns put together and scaled."""

# n sample, f input feature, t target

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from actlab.features.datasets.recipe import Recipe
from actlab.features.datasets.source import Bank
from actlab.ground.errors import ConfigError, DataError

METHODS = ("standardize", "minmax", "none")
_BLOCK = 512
"""Columns scaled at a time, in float64."""


def inputs_of(recipe: Recipe, bank: Bank, *, own: bool) -> Float[np.ndarray, "n f"]:
    """Return X before scaling; with `own` it may be the bank's own memory, which is then overwritten."""
    if recipe.input_source == "activations":
        return _feature_columns(recipe, bank)
    if recipe.input_source == "embeddings":
        assert bank.embeddings_nd is not None
        return bank.embeddings_nd if own else bank.embeddings_nd.copy()
    if recipe.input_layers == bank.wanted.hidden_layers:
        X = bank.hidden_ncd.reshape(len(bank.hidden_ncd), -1)
        return X if own else X.copy()
    places = [bank.wanted.hidden_layers.index(layer) for layer in recipe.input_layers]
    return bank.hidden_ncd[:, places].reshape(len(bank.hidden_ncd), -1)


def targets_of(recipe: Recipe, bank: Bank) -> Shaped[np.ndarray, " n"] | Float[np.ndarray, "n t"]:
    """Return y: the labels, or the activations of one feature [n] or of several [n, t]."""
    if recipe.is_concept:
        return bank.labels
    y = _feature_columns(recipe, bank)
    return y[:, 0] if y.shape[1] == 1 else y


def _feature_columns(recipe: Recipe, bank: Bank) -> Float[np.ndarray, "n t"]:
    columns = [
        bank.latents[one.config][:, bank.wanted.features[one.config].index(one.feature)] for one in recipe.features
    ]
    return np.stack(columns, axis=1)


def normalize_features(
    X: Float[np.ndarray, "n f"], method: str = "standardize", fit_rows: Bool[np.ndarray, " n"] | None = None
) -> tuple[Float[np.ndarray, "n f"], dict[str, Any]]:
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
) -> dict[str, Any]:
    """Scale the columns of X in place, as `normalize_features` does, and return the parameters."""
    if method not in METHODS:
        raise ConfigError(f"there is no normalisation {method!r}", hint="use " + ", ".join(METHODS))
    if method == "none":
        return {"method": method}
    if not len(X) or (fit_rows is not None and not fit_rows.any()):
        raise DataError("there is no sample to fit the normaliser on", hint="does the split's train side have any?")
    blocks = []
    for start in range(0, X.shape[1], _BLOCK):
        columns = X[:, start : start + _BLOCK].astype(np.float64)
        fitted = _fit(columns if fit_rows is None else columns[fit_rows], method)
        X[:, start : start + _BLOCK] = _scaled(columns, fitted)
        blocks.append(fitted.stored)
    joined = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    _refuse_outside_float32(joined["std" if method == "standardize" else "range"])
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


class _Fitted(NamedTuple):
    """What scales some columns."""

    center_f: Float[np.ndarray, " f"]
    divisor_f: Float[np.ndarray, " f"]
    is_constant_f: Bool[np.ndarray, " f"]
    spread_f: Float[np.ndarray, " f"]
    """Largest minus smallest value; in a constant column it is rounding."""
    stored: dict[str, Float[np.ndarray, " f"]]


def _fit(fit_nf: Float[np.ndarray, "n f"], method: str) -> _Fitted:
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    spread_f = np.ptp(fit_nf, axis=0)
    if method == "standardize":
        scaler = StandardScaler().fit(fit_nf)
        is_constant_f = scaler.scale_ != np.sqrt(scaler.var_)  # the scaler puts 1 there
        center_f = np.where(is_constant_f, fit_nf[0], scaler.mean_)
        return _Fitted(center_f, scaler.scale_, is_constant_f, spread_f, {"mean": center_f, "std": scaler.scale_})
    scaler = MinMaxScaler().fit(fit_nf)
    is_constant_f = spread_f < 10 * np.finfo(np.float64).eps  # the scaler's own bound
    range_f = np.where(is_constant_f, 1.0, scaler.data_range_)
    stored = {"min": scaler.data_min_, "max": scaler.data_max_, "range": range_f}
    return _Fitted(scaler.data_min_, range_f, is_constant_f, spread_f, stored)


def _scaled(columns_nf: Float[np.ndarray, "n f"], fitted: _Fitted) -> Float[np.ndarray, "n f"]:
    """Return the columns centered and divided; what a constant column varies by is rounding and becomes 0."""
    moved_nf: Float[np.ndarray, "n f"] = columns_nf - fitted.center_f
    is_rounding_nf = fitted.is_constant_f & (np.abs(moved_nf) <= fitted.spread_f)
    moved_nf[is_rounding_nf] = 0.0
    moved_nf /= fitted.divisor_f
    return moved_nf
