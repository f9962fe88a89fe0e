"""What tells the classes apart without the model's states: the length, or the last token alone."""

# n sample

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score

from actlab.features.probe.compute.task import Task

SUSPICIOUS = 0.8
"""An AUROC from which a probe may be reading the confound and not the concept."""
_WORDS = {"n_tokens": "the length", "last_token_id": "the last token"}


class Confounds(NamedTuple):
    """What was found, and what to warn of."""

    found: dict[str, Any]
    """By name: the AUROC, and the limit from which it is a warning."""
    warnings: tuple[str, ...]


def check_confounds(values: Mapping[str, Int[np.ndarray, " n"]], task: Task) -> Confounds:
    """Measure how well each confound alone tells two classes apart, on the training rows."""
    found: dict[str, float] = {}
    if task.is_classification and "n_tokens" in values:
        found["n_tokens"] = _length_auc(values["n_tokens"], task)
    if task.is_classification and "last_token_id" in values:
        found["last_token_id"] = _token_auc(values["last_token_id"], task)
    warnings = tuple(
        f"{_WORDS[name]} alone tells the classes apart (AUROC {auc:.2f}): the probe may be reading it"
        for name, auc in found.items()
        if auc >= SUSPICIOUS
    )
    return Confounds({name: {"roc_auc": auc, "limit": SUSPICIOUS} for name, auc in found.items()}, warnings)


def _length_auc(n_tokens: Int[np.ndarray, " n"], task: Task) -> float:
    """Return the AUROC of the length, whichever class is the longer one."""
    auc = float(roc_auc_score(task.y[task.train], n_tokens[task.train]))
    return max(auc, 1 - auc)


def _token_auc(token_ids: Int[np.ndarray, " n"], task: Task) -> float:
    """Return the out-of-fold AUROC of the class's frequency among the rows with the same last token."""
    scores = np.zeros(len(task.y))
    for fold in task.folds:
        scores[fold.test] = _frequencies(token_ids[fold.train], task.y[fold.train], token_ids[fold.test])
    return float(roc_auc_score(task.y[task.train], scores[task.train]))


def _frequencies(
    ids: Int[np.ndarray, " i"], y: Int[np.ndarray, " i"], asked: Int[np.ndarray, " j"]
) -> Float[np.ndarray, " j"]:
    """Return the share of class 1 among the rows with each asked id: one half for an id that is not there."""
    known, place = np.unique(ids, return_inverse=True)
    share = (np.bincount(place, weights=y) + 1) / (np.bincount(place) + 2)
    where = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where(known[where] == asked, share[where], 0.5)
