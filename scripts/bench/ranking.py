"""What ranking costs: a Python loop with SciPy and scikit-learn over the features, and actlab's columns.

    python scripts/bench/ranking.py [--rounds 3]

Both compute Pearson, Spearman, AUROC and the document's score of every feature, from the same float32 rows:
200 sentences by 16,384 features, of which about 70 are active in a row (an SAE of L0 70), then a denser table.
The loop is timed on the active features only, as ours is. Both run in this process, in turn, on one thread;
ratios are taken within a round, and the median over the rounds.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
import warnings

import numpy as np
import scipy.sparse
import scipy.stats
from sklearn.metrics import roc_auc_score

from actlab.features.rank.compute.columns import columns_of
from actlab.features.rank.compute.statistics import describe

N_ROWS, N_FEATURES = 200, 16_384
L0S = (70, 700, 8192)
REQUIRED = 50


def make_rows(l0: int) -> np.ndarray:
    """Features of very different frequency, as an SAE has them: most are rare."""
    rng = np.random.default_rng(0)
    frequency = rng.lognormal(0, 2, N_FEATURES)
    frequency = np.minimum(1, frequency * l0 / frequency.sum())
    for _ in range(50):  # what is cut off at 1 goes to the others
        frequency = np.minimum(1, frequency * l0 / frequency.sum())
    active = rng.random((N_ROWS, N_FEATURES)) < frequency
    return (active * rng.gamma(2, 2, active.shape)).astype(np.float32)


def by_loop(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return score, Pearson, Spearman and AUROC of each active feature, one at a time."""
    found = []
    low, high = labels == labels.min(), labels == labels.max()
    positive = labels > (labels.min() + labels.max()) / 2
    for feature in np.flatnonzero(rows.any(axis=0)):
        x = rows[:, feature]
        pearson = scipy.stats.pearsonr(x, labels)[0]
        spearman = scipy.stats.spearmanr(x, labels)[0]
        auroc = roc_auc_score(positive, x)
        threshold = np.percentile(x[low], 95)
        tpr, fpr = (x[high] > threshold).mean(), (x[low] > threshold).mean()
        separation = (x[high].mean() - x[low].mean()) / x.std()
        found.append((0.4 * pearson + 0.3 * separation + 0.3 * (tpr - fpr), pearson, spearman, auroc))
    return np.array(found)


def by_columns(rows: scipy.sparse.csc_array, labels: np.ndarray) -> np.ndarray:
    """Return the same of all active features at once, and what else actlab says of them."""
    found = describe(columns_of(rows), labels)
    return np.stack([found.scores.score_s, found.scores.pearson_s, found.spearman_s, found.auroc_s], axis=1)


def timed(work, *arguments) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    labels = np.arange(N_ROWS) % 4 + 0.0
    for l0 in L0S:
        rows = make_rows(l0)
        sparse = scipy.sparse.csc_array(rows)
        by_columns(sparse, labels)
        ratios, ours, loops = [], [], []
        for _ in range(rounds):
            seconds_ours, result = timed(by_columns, sparse, labels)
            seconds_loop, expected = timed(by_loop, rows, labels)
            assert np.abs(result - expected).max() < 1e-5, "the two disagree"
            ratios.append(seconds_loop / seconds_ours)
            ours.append(seconds_ours)
            loops.append(seconds_loop)
        n_active = int((rows != 0).any(axis=0).sum())
        ratio = statistics.median(ratios)
        print(
            f"L0 {l0:5d}, {n_active:6d} features active: loop {statistics.median(loops):7.2f} s, "
            f"actlab {statistics.median(ours):7.4f} s, {ratio:6.0f} times as fast"
            f"{'' if ratio >= REQUIRED else f' (required: {REQUIRED})'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
