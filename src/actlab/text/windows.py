"""Which tokens each window is trained on: arithmetic on places in a stream, no ids.

Targets are cut into runs of `stride`; a window ends with its run. A stream of T targets takes ⌈T / stride⌉
windows, and one more where that leaves the first run more places to end at (see `_phases`).
"""

# b window, n document

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt

from actlab.ground.seeds import derive_seed


class Ranges(NamedTuple):
    """The run of targets of some windows, and the places that they may read, all inclusive."""

    first_b: Int64[np.ndarray, " b"]
    last_b: Int64[np.ndarray, " b"]
    low_b: Int64[np.ndarray, " b"]
    high_b: Int64[np.ndarray, " b"]


class _StreamRows(NamedTuple):
    n: int
    """Windows an epoch."""
    n_tokens: int
    stride: int
    phases: range
    """Where the first run may end."""
    seed: int | None

    def ranges(self, index_b: Int64[np.ndarray, " b"]) -> Ranges:
        """Return the runs of windows; an index of n or more is of a later epoch."""
        epoch_b, row_b = np.divmod(index_b, self.n)
        epochs, which_b = np.unique(epoch_b, return_inverse=True)
        phase_b = np.array([self._phase(int(epoch)) for epoch in epochs], np.int64)[which_b]
        last_b = np.minimum(phase_b + row_b * self.stride, self.n_tokens - 1)
        first_b = np.maximum(phase_b + (row_b - 1) * self.stride + 1, 1)
        return Ranges(first_b, last_b, np.zeros_like(row_b), np.full_like(row_b, self.n_tokens - 1))

    def _phase(self, epoch: int) -> int:
        if self.seed is None:
            return self.stride
        return self.phases[derive_seed(self.seed, epoch) % len(self.phases)]


def stream_rows(n_tokens: int, stride: int, seed: int | None) -> _StreamRows:
    """Cut a whole stream, the first run's length drawn anew every epoch; always the same without a seed."""
    n_targets = n_tokens - 1
    n, phases = _phases(n_targets, stride) if seed is not None else (-(-n_targets // stride), range(0))
    return _StreamRows(n, n_tokens, stride, phases, seed)


def _phases(n_targets: int, stride: int) -> tuple[int, range]:
    """Return how many windows an epoch has, and the lengths that the first run may have.

    A first run of p targets and a last one of what is left: p from r to the stride give the fewest windows,
    where r targets would be left after whole runs, and p below r one window more. The wider range is taken,
    so the number is the same in every epoch and at least half of all phases occur.

    >>> _phases(10, 4), _phases(11, 4), _phases(4, 4)
    ((3, range(2, 5)), (3, range(3, 5)), (1, range(4, 5)))
    """
    n = -(-n_targets // stride)
    left = n_targets - (n - 1) * stride
    if n > 1 and left - 1 > stride - left + 1:
        return n + 1, range(1, left)
    return n, range(left, stride + 1)


class _DocumentRows(NamedTuple):
    n: int
    ends_n: UInt[np.ndarray, " n"]
    before_n: Int64[np.ndarray, " n"]
    """Windows of the documents up to each, itself included."""
    stride: int

    def ranges(self, index_b: Int64[np.ndarray, " b"]) -> Ranges:
        row_b = index_b % self.n
        document_b = np.searchsorted(self.before_n, row_b, side="right")
        begin_b = np.where(document_b > 0, self.ends_n[document_b - 1].astype(np.int64), 0)
        end_b = self.ends_n[document_b].astype(np.int64) - 1
        run_b = row_b - np.where(document_b > 0, self.before_n[document_b - 1], 0)
        first_b = begin_b + 1 + run_b * self.stride
        return Ranges(first_b, np.minimum(first_b + self.stride - 1, end_b), begin_b, end_b)


def document_rows(ends_n: UInt[np.ndarray, " n"], stride: int) -> _DocumentRows:
    """Cut each document by itself; 16 bytes a document are held."""
    ends = np.asarray(ends_n).astype(np.int64)
    n_targets = np.diff(ends, prepend=0) - 1
    before = np.cumsum(-(-n_targets // stride))
    return _DocumentRows(int(before[-1]), ends, before, stride)


Rows = _StreamRows | _DocumentRows
"""The windows of an epoch, and of the epochs after it."""
