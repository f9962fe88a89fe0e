"""What tells the target without the model's states: the length, or the last token alone."""

# n sample, k class

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import r2_score

from actlab.features.probe.compute.scores import roc_auc
from actlab.features.probe.compute.task import Task

SUSPICIOUS = {"roc_auc": 0.8, "r2": 0.5}
"""A score from which a probe may be reading the confound and not the concept."""
_LEAST = {"roc_auc": 0.6, "r2": 0.1}
"""Below it a confound tells nothing, however little the probe tells."""
_SURE = 3
"""Standard errors above chance that an AUROC needs as well."""
_WORDS = {"n_tokens": "the length", "last_token_id": "the last token", "last_token": "the last token"}
_SHOWN = {"roc_auc": "AUROC", "r2": "R²"}
_MOST_LENGTHS = 20
_PRIOR_ROWS = 2


class Confounds(NamedTuple):
    """What each alone tells."""

    found: dict[str, Any]
    """By name: the AUROC or R², and the limit from which it is a warning."""
    telling: float
    """Below it a confound tells nothing."""

    def lines(self) -> list[str]:
        """Return what to print: what each alone tells."""
        return [
            f"{_WORDS[name]} alone: {_SHOWN[metric]} {one[metric]:.2f} on the training rows"
            for name, one in self.found.items()
            for metric in _SHOWN
            if metric in one
        ]

    def warnings(self, cv_mean: float | None) -> tuple[str, ...]:
        """Return what to warn of, given the probe's score in the folds."""
        said = []
        for name, one in self.found.items():
            metric = "r2" if "r2" in one else "roc_auc"
            score, word = one[metric], _WORDS[name]
            told = f"({_SHOWN[metric]} {score:.2f})"
            tells = "tells the classes apart" if metric == "roc_auc" else "predicts the target"
            if cv_mean is not None and score >= max(cv_mean, self.telling):
                said.append(
                    f"{word} alone {tells} as well as the probe {told}, which may be reading it and nothing else"
                )
            elif score >= SUSPICIOUS[metric]:
                said.append(f"{word} alone {tells} {told}: the probe may be reading it")
        return tuple(said)


def check_confounds(values: Mapping[str, Int[np.ndarray, " n"]], task: Task) -> Confounds:
    """Measure how well each confound alone tells the target, out of fold on the training rows."""
    metric = "roc_auc" if task.is_classification else "r2"
    found: dict[str, Any] = {}
    for name, of_rows in values.items():
        codes = _binned(of_rows, task) if name == "n_tokens" else of_rows
        score = _out_of_fold(codes, task)
        if name == "n_tokens" and task.is_classification and len(task.classes) == 2:
            score = max(score, _of_the_number(of_rows, task))
        found[name] = {metric: score, "limit": SUSPICIOUS[metric]}
    return Confounds(found, _telling(task))


def _telling(task: Task) -> float:
    """Return what chance does not reach: of an AUROC by its standard error without any effect, groups as rows."""
    if not task.is_classification:
        return _LEAST["r2"]
    y, groups = task.y[task.train], task.groups[task.train]
    errors = []
    for one in np.unique(y):
        m, n = len(np.unique(groups[y == one])), len(np.unique(groups[y != one]))
        errors.append(float(np.sqrt((m + n + 1) / (12 * m * n))))
    return max(_LEAST["roc_auc"], 0.5 + _SURE * max(errors))


def _of_the_number(n_tokens: Int[np.ndarray, " n"], task: Task) -> float:
    """Return the AUROC of the length itself, whichever class is the longer one."""
    scores = np.stack([-n_tokens, n_tokens], axis=1)[task.train]
    auc = roc_auc(task.y[task.train], scores, task.classes)
    return 0.5 if auc is None else max(auc, 1 - auc)


def _out_of_fold(codes: Int[np.ndarray, " n"], task: Task) -> float:
    """Return the score of the target's mean among the rows of the same code in the other folds."""
    y_train = task.y[task.train]
    classes = np.unique(y_train)
    target_nk = (task.y[:, None] == classes).astype(float) if task.is_classification else task.y[:, None].astype(float)
    prior_k = target_nk[task.train].mean(axis=0)
    said_nk = np.tile(prior_k, (len(task.y), 1))
    for fold in task.folds:
        said_nk[fold.test] = _means(codes[fold.train], target_nk[fold.train], codes[fold.test], prior_k)
    if not task.is_classification:
        return float(r2_score(y_train, said_nk[task.train, 0]))
    auc = roc_auc(y_train, said_nk[task.train], classes)
    assert auc is not None
    return auc


def _means(
    codes: Int[np.ndarray, " i"],
    target_ik: Float[np.ndarray, "i k"],
    asked: Int[np.ndarray, " j"],
    prior_k: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "j k"]:
    """Return the mean target of the rows with each asked code, drawn to the mean of all: that for an unknown code."""
    known, place = np.unique(codes, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=column) for column in target_ik.T], axis=1)
    means = (sums + _PRIOR_ROWS * prior_k) / (np.bincount(place) + _PRIOR_ROWS)[:, None]
    where = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where((known[where] == asked)[:, None], means[where], prior_k)


def _binned(n_tokens: Int[np.ndarray, " n"], task: Task) -> Int[np.ndarray, " n"]:
    """Return the length, or where there are many which twentieth of the training rows' lengths it falls in."""
    ordered = np.sort(n_tokens[task.train])
    if len(np.unique(ordered)) <= _MOST_LENGTHS:
        return n_tokens
    n_bins = min(_MOST_LENGTHS, max(2, len(ordered) // 10))
    edges = ordered[[len(ordered) * k // n_bins for k in range(1, n_bins)]]
    return np.searchsorted(np.unique(edges), n_tokens, side="right")
