"""The columns of a sparse matrix: sums, ranks and order statistics of all at once, from the nonzeros alone.

Zeros are one block of equal values: negative values stand below it, positive ones above.
"""

# n row, s feature active in at least one row, k nonzero in the order of its feature and row, w weight

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Columns:
    """The features that are active somewhere, by their nonzeros."""

    n_rows: int
    feature_s: Int[np.ndarray, " s"]
    """Ascending."""
    start_s: Int[np.ndarray, " s+1"]
    """Where each feature's nonzeros begin; the last entry is their number."""
    row_k: Int[np.ndarray, " k"]
    value_k: Float[np.ndarray, " k"]
    """float64."""
    order_k: Int[np.ndarray, " k"]
    """The nonzeros' places in the order of feature and value."""

    @property
    def n_active_s(self) -> Int[np.ndarray, " s"]:
        """Nonzeros of each feature."""
        return np.diff(self.start_s)

    @cached_property
    def place_k(self) -> Int[np.ndarray, " k"]:
        """Return each nonzero's place in `feature_s`."""
        return np.repeat(np.arange(len(self.feature_s)), self.n_active_s)

    @cached_property
    def mean_s(self) -> Float[np.ndarray, " s"]:
        """Return each feature's mean over the rows."""
        return np.asarray(self.sums(self.value_k, np.ones(self.n_rows)) / self.n_rows)

    @cached_property
    def std_s(self) -> Float[np.ndarray, " s"]:
        """Return each feature's population standard deviation; 0 exactly where all rows are equal."""
        squares_s = self.sums((self.value_k - self.mean_s[self.place_k]) ** 2, np.ones(self.n_rows))
        squares_s += (self.n_rows - self.n_active_s) * self.mean_s**2
        std_s: Float[np.ndarray, " s"] = np.where(self.is_constant_s, 0.0, np.sqrt(squares_s / self.n_rows))
        return std_s

    @cached_property
    def is_constant_s(self) -> Bool[np.ndarray, " s"]:
        """Return whether a feature has the same value in every row."""
        sorted_k = self.value_k[self.order_k]
        is_level_s = sorted_k[self.start_s[:-1]] == sorted_k[self.start_s[1:] - 1]
        return np.asarray(is_level_s & (self.n_active_s == self.n_rows))

    @cached_property
    def zero_rank_s(self) -> Float[np.ndarray, " s"]:
        """Return the average rank of each feature's zeros, from 1."""
        n_negative_s = np.bincount(self.place_k[self.value_k < 0], minlength=len(self.feature_s))
        return n_negative_s + (self.n_rows - self.n_active_s + 1) / 2

    @cached_property
    def rank_k(self) -> Float[np.ndarray, " k"]:
        """Return the rank of each nonzero in its feature, from 1; equal values share their average rank."""
        sorted_k, place_k = self.value_k[self.order_k], self.place_k  # the order keeps features together
        is_new_k = np.ones(len(sorted_k), dtype=bool)
        is_new_k[1:] = (sorted_k[1:] != sorted_k[:-1]) | (place_k[1:] != place_k[:-1])
        first_r = np.flatnonzero(is_new_k)
        length_r = np.diff(np.append(first_r, len(sorted_k)))
        rank_r = first_r - self.start_s[place_k[first_r]] + (length_r + 1) / 2
        rank_r += np.where(sorted_k[first_r] > 0, (self.n_rows - self.n_active_s)[place_k[first_r]], 0)
        rank_k = np.empty(len(sorted_k))
        rank_k[self.order_k] = np.repeat(rank_r, length_r)
        return rank_k

    def sums(
        self, value_k: Float[np.ndarray, " k"], weight_n: Float[np.ndarray, "n ..."]
    ) -> Float[np.ndarray, "s ..."]:
        """Return, for each feature, the sum over its nonzeros of a value times the weight of its row."""
        shape = (len(self.feature_s), self.n_rows)
        return np.asarray(scipy.sparse.csr_array((value_k, self.row_k, self.start_s), shape=shape) @ weight_n)

    def counts(self, is_counted_k: Bool[np.ndarray, " k"], is_in_n: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " s"]:
        """Return how many of each feature's nonzeros are counted, over the rows that are in."""
        counted_k = is_counted_k & is_in_n[self.row_k]
        return np.bincount(self.place_k[counted_k], minlength=len(self.feature_s))

    def percentile(self, percent: float, is_in_n: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " s"]:
        """Return a percentile of each feature over the rows that are in, zeros too, as NumPy's `linear` has it."""
        in_order_k = self.order_k[is_in_n[self.row_k[self.order_k]]]
        sorted_k, place_k = self.value_k[in_order_k], self.place_k[in_order_k]
        n_features, n_in = len(self.feature_s), int(is_in_n.sum())
        n_nonzero_s = np.bincount(place_k, minlength=n_features)
        n_negative_s = np.bincount(place_k[sorted_k < 0], minlength=n_features)
        start_s = np.cumsum(n_nonzero_s) - n_nonzero_s

        def smallest(number: int) -> Float[np.ndarray, " s"]:
            is_negative_s = number < n_negative_s
            is_zero_s = ~is_negative_s & (number < n_negative_s + n_in - n_nonzero_s)
            k_s = start_s + number - np.where(is_negative_s, 0, n_in - n_nonzero_s)
            found_s = np.zeros(n_features)
            found_s[~is_zero_s] = sorted_k[k_s[~is_zero_s]]
            return found_s

        place = (n_in - 1) * (percent / 100)
        low_s, high_s = smallest(int(place)), smallest(min(int(place) + 1, n_in - 1))
        part = place - int(place)
        if part >= 0.5:  # NumPy's own two ways, so that equal values stay equal
            low_s, high_s, part = high_s, low_s, 1 - part
        between_s: Float[np.ndarray, " s"] = low_s + (high_s - low_s) * part
        return between_s


def columns_of(rows_nf: scipy.sparse.csc_array) -> Columns:
    """Sort the nonzeros of a matrix of float32, [row, feature]."""
    matrix = scipy.sparse.csc_array(rows_nf, dtype=np.float32, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    n_active_f = np.diff(matrix.indptr)
    feature_s = np.flatnonzero(n_active_f)
    start_s = np.concatenate([[0], np.cumsum(n_active_f[feature_s])])
    place_k = np.repeat(np.arange(len(feature_s), dtype=np.uint64), n_active_f[feature_s])
    # one sort by feature and value: a float's bits, the sign turned, ascend with it
    bits_k = matrix.data.view(np.uint32)
    bits_k = np.where(bits_k >> 31, ~bits_k, bits_k | np.uint32(1 << 31))
    order_k = np.argsort(place_k << np.uint64(32) | bits_k)
    return Columns(
        n_rows=matrix.shape[0],
        feature_s=feature_s,
        start_s=start_s,
        row_k=matrix.indices,
        value_k=matrix.data.astype(np.float64),
        order_k=order_k,
    )
