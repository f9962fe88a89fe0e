"""Which rows belong together, so that no test has one of them while the others are fitted on."""

# n row, f feature

import hashlib

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int, Shaped
from scipy.sparse.csgraph import connected_components


def joined(*groupings: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return one grouping in which rows are together that any of several has together, directly or through others.

    Groups are numbered in the order of their first rows.

    >>> joined(np.array([7, 7, 8, 9]), np.array(["a", "b", "b", "c"])).tolist()
    [0, 0, 0, 1]
    """
    n = len(groupings[0])
    nodes = [np.unique(one, return_inverse=True)[1] + n * place for place, one in enumerate(groupings, start=1)]
    ends = (np.tile(np.arange(n), len(groupings)), np.concatenate(nodes))
    n_nodes = n * (1 + len(groupings))
    graph = scipy.sparse.coo_array((np.ones(len(ends[0])), ends), shape=(n_nodes, n_nodes))
    first_of, group_n = np.unique(
        connected_components(graph, directed=False)[1][:n], return_index=True, return_inverse=True
    )[1:]
    return np.argsort(np.argsort(first_of, kind="stable"), kind="stable")[group_n]


def equal_rows(X_nf: Float[np.ndarray, "n f"]) -> Int[np.ndarray, " n"]:
    """Return each row's group: rows of the same numbers share one, but for rows of zeros, which say nothing.

    Groups are numbered in the order of their first rows.

    >>> equal_rows(np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [0.0, 0.0], [0.0, 0.0]])).tolist()
    [0, 1, 0, 2, 3]
    """
    known: dict[bytes | int, int] = {}
    keys = (
        hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() if row.any() else place  # -0 is 0
        for place, row in enumerate(X_nf)
    )
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
