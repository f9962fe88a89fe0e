"""How often a probe's 95 % interval of the AUROC holds the true value.

    python scripts/bench/coverage.py [--draws 2000] [--workers 2] [--quick]

A cell is a number of test rows (10 to 400), a true AUROC (0.5 to 1), a size of groups (1 or 5) and a correlation
inside groups (0, 0.5, 1). Scores are normal with a variance of 1, shifted in the positive class to the AUROC asked
for; a group's rows share a part of the noise. Groups are of one class, half or a fifth of them positive; a last
block has groups with rows of both classes, as a prompt with two responses has. Where a class has fewer than five
groups there is no interval, and no cell.

It prints the coverage of every cell, and ends with status 1 where one is below 0.92, or above 0.985 with 40 rows or
more and a true AUROC up to 0.95. Of a cell with coverage 0.95, two thousand draws find 0.94 to 0.96.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from actlab.features.probe.compute.intervals import LEAST_GROUPS, roc_auc_interval

SIZES = (10, 20, 40, 50, 100, 200, 400)
AUROCS = (0.5, 0.7, 0.9, 0.95, 0.99, 1.0)
GROUPS = ((1, 0.0), (5, 0.0), (5, 0.5), (5, 1.0))
LEAST, MOST = 0.92, 0.985
FAR = 1e6
"""A shift beyond all noise: an AUROC of 1."""
CLASSES = np.array([0, 1])


class Cell(NamedTuple):
    """One line of the table."""

    design: str
    """Which part of the groups is positive, or `mixed` where groups have rows of both classes."""
    n: int
    size: int
    correlation: float
    auroc: float

    @property
    def has_ceiling(self) -> bool:
        """Whether too wide an interval counts as a fault."""
        return self.n >= 40 and self.auroc <= 0.95


def cells() -> Iterator[Cell]:
    """Yield the cells in which both classes have enough groups."""
    for design in ("1/2", "1/5"):
        for (size, correlation), n, auroc in itertools.product(GROUPS, SIZES, AUROCS):
            cell = Cell(design, n, size, correlation, auroc)
            positive, groups = rows_of(cell)
            if min(len(set(groups[positive])), len(set(groups[~positive]))) >= LEAST_GROUPS:
                yield cell
    for (size, correlation), n, auroc in itertools.product(((2, 0.0), (2, 0.5), (5, 0.5)), SIZES, AUROCS):
        if n // size >= LEAST_GROUPS:
            yield Cell("mixed", n, size, correlation, auroc)


def rows_of(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are positive, and each row's group."""
    n_groups = cell.n // cell.size
    groups = np.repeat(np.arange(n_groups), cell.size)
    if cell.design == "mixed":
        return np.tile(np.arange(cell.size) < cell.size // 2, n_groups), groups
    n_positive = max(1, round(n_groups / int(cell.design[-1])))
    return groups < n_positive, groups


def coverage(cell: Cell, n_draws: int, seed: int = 0) -> tuple[float, float]:
    """Return the share of draws whose interval holds the true AUROC, and the intervals' mean width."""
    positive, groups = rows_of(cell)
    rng = np.random.default_rng([seed, cell.n, cell.size, int(100 * cell.correlation), int(100 * cell.auroc)])
    shift = FAR if cell.auroc == 1 else norm.ppf(cell.auroc) * 2**0.5
    shared = rng.standard_normal((n_draws, groups[-1] + 1))[:, groups]
    own = rng.standard_normal((n_draws, cell.n))
    scores = cell.correlation**0.5 * shared + (1 - cell.correlation) ** 0.5 * own + shift * positive
    y = positive.astype(np.int64)
    bounds = np.array([roc_auc_interval(y, np.stack([-one, one], axis=1), CLASSES, groups) for one in scores])
    holds = (bounds[:, 0] <= cell.auroc) & (cell.auroc <= bounds[:, 1])
    return float(holds.mean()), float((bounds[:, 1] - bounds[:, 0]).mean())


def main() -> int:
    """Simulate, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only cells with up to 50 rows")
    arguments = parser.parse_args()
    chosen = [cell for cell in cells() if not arguments.quick or cell.n <= 50]
    print("positive     n  group  correlation  AUROC  coverage  mean width")
    low, high = [], []
    with ProcessPoolExecutor(arguments.workers) as pool:
        found = pool.map(coverage, chosen, itertools.repeat(arguments.draws), chunksize=4)
        for cell, (share, width) in zip(chosen, found, strict=True):
            is_low, is_high = share < LEAST, cell.has_ceiling and share > MOST
            mark = "  TOO LOW" if is_low else "  TOO HIGH" if is_high else ""
            print(
                f"{cell.design:<8} {cell.n:>5}  {cell.size:>5}  {cell.correlation:>11.1f}  {cell.auroc:>5.2f}"
                f"  {share:>8.3f}  {width:>10.3f}{mark}",
                flush=True,
            )
            low.append(share)
            high += [share] if cell.has_ceiling else []
    print(
        f"{len(chosen)} cells of {arguments.draws} draws: lowest {min(low):.3f} (at least {LEAST} is wanted), ", end=""
    )
    print(f"highest with 40 rows or more and an AUROC up to 0.95 {max(high):.3f} (at most {MOST})")
    return int(min(low) < LEAST or max(high) > MOST)


if __name__ == "__main__":
    sys.exit(main())
