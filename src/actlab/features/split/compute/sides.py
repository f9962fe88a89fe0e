"""Groups divided among sides by chance: the wanted sizes, each label in its share, no group on two sides."""

# i item, c class, g group, z side

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from actlab.ground.errors import DataError
from actlab.ground.seeds import derive_seed

VERSION = 2
"""Of what chance decides here; 1 was numpy's and scikit-learn's, whose order is theirs to change."""
_N_BINS = 10
_FEW = 5
"""Labels with fewer sentences than this, on average, are divided by quantiles."""


def shuffled_order(n: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return the numbers below n in an order by chance.

    numpy promises its bit streams and not what its Generator makes of them (NEP 19), and scikit-learn's splitters
    changed in 1.8. Here item i's key is the i-th eight bytes of SHAKE-256 of the seed; smaller keys come first.

    >>> shuffled_order(6, seed=0).tolist()
    [5, 4, 1, 3, 0, 2]
    """
    stream = hashlib.shake_256(f"actlab order {seed}".encode()).digest(8 * n)
    return np.argsort(np.frombuffer(stream, dtype="<u8"), kind="stable")


def classes_of(labels: Sequence[float] | None, n: int) -> Int[np.ndarray, " i"]:
    """Return what to stratify by: labels themselves, decimal or very many ones by quantiles, none as one class.

    >>> classes_of([0, 3, 3, 0], 4).tolist()
    [0, 1, 1, 0]
    """
    if labels is None:
        return np.zeros(n, dtype=np.int64)
    values = np.asarray(labels, dtype=np.float64)
    if len(np.unique(values)) > max(_N_BINS, n // _FEW) or not (values == np.round(values)).all():
        n_bins = min(_N_BINS, max(2, n // 10))
        edges = np.sort(values)[[-(-n * k // n_bins) - 1 for k in range(1, n_bins)]]  # no rounding decides
        values = np.searchsorted(np.unique(edges), values, side="left").astype(np.float64)
    return np.unique(values, return_inverse=True)[1]


def divide(
    class_i: Int[np.ndarray, " i"], group_i: Int[np.ndarray, " i"], shares: Sequence[float], seed: int
) -> Int[np.ndarray, " i"]:
    """Return each item's side, so that sides have their shares of the items and of each class.

    Sizes are met to the item where groups are single items, else as nearly as the groups allow: they are
    placed one by one, the largest first, each where it brings the counts nearest to those wanted. A side that
    then lacks a class it should have gets a group of it, if there are groups enough. Which of equals comes
    first is decided by the seed and the groups' numbers alone, whatever the libraries' versions.

    Raises:
        DataError: There are fewer groups than sides, or a side would be empty.
    """
    count_c = np.bincount(class_i)
    order_c = shuffled_order(len(count_c), derive_seed(seed, "classes"))  # who of equals gets the odd item is chance's
    wanted_zc = np.empty((len(shares), len(count_c)), dtype=np.int64)
    wanted_zc[:, order_c] = quotas(count_c[order_c], shares)
    n_groups = int(group_i.max()) + 1
    count_gc = np.zeros((n_groups, wanted_zc.shape[1]), dtype=np.int64)
    np.add.at(count_gc, (group_i, class_i), 1)
    is_used_z = np.array(shares) > 0
    if n_groups < is_used_z.sum() or not (wanted_zc.sum(axis=1)[is_used_z] > 0).all():
        raise DataError(
            f"{len(class_i)} sentences in {n_groups} groups are too few to divide",
            hint="give more sentences, or a larger --test-size",
        )
    shuffled = shuffled_order(n_groups, derive_seed(seed, "groups"))
    order = shuffled[np.argsort(-count_gc.sum(axis=1)[shuffled], kind="stable")]
    side_g = np.zeros(n_groups, dtype=np.int64)
    missing_zc = wanted_zc.astype(np.float64)
    missing_zc[~is_used_z] = -np.inf
    for g in order.tolist():
        # adding x to a side changes its squared distance from what is wanted by x·x - 2·x·missing
        side_g[g] = int(np.argmax(missing_zc[:, count_gc[g] > 0] @ count_gc[g][count_gc[g] > 0]))
        missing_zc[side_g[g]] -= count_gc[g]
    _fill_empty(side_g, count_gc.sum(axis=1), np.flatnonzero(is_used_z))
    _spread_classes(side_g, count_gc, wanted_zc, np.flatnonzero(is_used_z), order)
    return np.asarray(side_g[group_i])


def quotas(count_c: Int[np.ndarray, " c"], shares: Sequence[float]) -> Int[np.ndarray, "z c"]:
    """Return how many items of each class each side is to have: whole numbers next to the shares of both.

    A class with as many items as there are sides has one on each, where a side is large enough for all classes.
    """
    exact_zc = np.outer(shares, count_c).astype(np.float64)
    quota_zc = np.floor(exact_zc + 1e-9).astype(np.int64)
    size_z = _rounded(np.array(shares) * count_c.sum(), int(count_c.sum()))
    missing_z, missing_c = size_z - quota_zc.sum(axis=1), count_c - quota_zc.sum(axis=0)
    nearest_first = np.argsort(-(exact_zc - quota_zc), axis=None, kind="stable").tolist()
    while missing_c.sum() > 0:
        for z, c in (divmod(place, len(count_c)) for place in nearest_first):
            if missing_z[z] > 0 and missing_c[c] > 0:
                quota_zc[z, c] += 1
                missing_z[z] -= 1
                missing_c[c] -= 1
    _give_each_class(quota_zc, count_c, np.flatnonzero(np.array(shares) > 0))
    return quota_zc


def _rounded(exact_z: Float[np.ndarray, " z"], total: int) -> Int[np.ndarray, " z"]:
    """Round so that the sum is kept: the largest remainders go up."""
    floor_z = np.floor(exact_z + 1e-9).astype(np.int64)
    floor_z[np.argsort(-(exact_z - floor_z), kind="stable")[: total - int(floor_z.sum())]] += 1
    return floor_z


def _give_each_class(
    quota_zc: Int[np.ndarray, "z c"], count_c: Int[np.ndarray, " c"], used_z: Int[np.ndarray, " z"]
) -> None:
    """Give each side one item of every class that has enough, in exchange for one of its commonest class."""
    for c in np.flatnonzero(count_c >= len(used_z)).tolist():
        for z in used_z[quota_zc[used_z, c] == 0].tolist():
            giver, commonest = int(used_z[quota_zc[used_z, c].argmax()]), int(quota_zc[z].argmax())
            if quota_zc[z, commonest] > 1:
                quota_zc[[giver, z, giver, z], [c, c, commonest, commonest]] += [-1, 1, 1, -1]


def _spread_classes(
    side_g: Int[np.ndarray, " g"],
    count_gc: Int[np.ndarray, "g c"],
    wanted_zc: Int[np.ndarray, "z c"],
    used_z: Int[np.ndarray, " z"],
    order: Int[np.ndarray, " g"],
) -> None:
    """Give a side that lacks a wanted class its smallest group that another side can spare.

    Only classes with a group for each side are spread. No side gives away the last group it has of a class.
    """
    has_gc = count_gc > 0
    for c in np.flatnonzero(has_gc.sum(axis=0) >= len(used_z)).tolist():
        for z in used_z[wanted_zc[used_z, c] > 0].tolist():
            if has_gc[side_g == z, c].any():
                continue
            for g in order[has_gc[order, c]][::-1].tolist():  # the smallest first
                if (has_gc[side_g == side_g[g]][:, has_gc[g]].sum(axis=0) > 1).all():
                    side_g[g] = z
                    break


def _fill_empty(side_g: Int[np.ndarray, " g"], size_g: Int[np.ndarray, " g"], used_z: Int[np.ndarray, " z"]) -> None:
    """Give a side that got no group the smallest one of the side that has most."""
    for z in used_z.tolist():
        if not (side_g == z).any():
            candidates = np.flatnonzero(side_g == np.bincount(side_g).argmax())
            side_g[candidates[size_g[candidates].argmin()]] = z
