"""What tells the target without the model's states: the length, or the last token alone."""

# n sample, k class

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score

from actlab.features.probe.compute.scores import CLASSES, Predicted, Target
from actlab.features.probe.compute.task import Task

_SURE = 3
"""Standard errors above chance that an AUROC needs as well."""
_WORDS = {"n_tokens": "the length", "last_token_id": "the last token", "last_token": "the last token"}
_MOST_LENGTHS = 20
_PRIOR_ROWS = 2


class Confounds(NamedTuple):
    """What each alone tells."""

    scores: dict[str, float]
    """By name: the AUROC or R²."""
    target: Target
    telling: float
    """Below it a confound tells nothing."""

    def as_json(self) -> dict[str, dict[str, float]]:
        """Return each score with the limit from which it is a warning."""
        return {name: {self.target.metric: one, "limit": self.target.suspicious} for name, one in self.scores.items()}

    def lines(self) -> list[str]:
        """Return what to print: what each alone tells."""
        label = self.target.label
        return [f"{_WORDS[name]} alone: {label} {one:.2f} on the training rows" for name, one in self.scores.items()]

    def warnings(self, cv_mean: float | None) -> Iterator[str]:
        """Yield what to warn of, given the probe's score in the folds."""
        for name, score in self.scores.items():
            word, told = _WORDS[name], f"({self.target.label} {score:.2f})"
            if cv_mean is not None and score >= max(cv_mean, self.telling):
                yield (
                    f"{word} alone {self.target.tells} as well as the probe {told}, "
                    "which may be reading it and nothing else"
                )
            elif score >= self.target.suspicious:
                yield f"{word} alone {self.target.tells} {told}: the probe may be reading it"


def check_confounds(values: Mapping[str, Int[np.ndarray, " n"]], task: Task) -> Confounds:
    """Measure how well each confound alone tells the target, out of fold on the training rows."""
    scores = {}
    for name, of_rows in values.items():
        is_length = name == "n_tokens"
        scores[name] = _out_of_fold(_binned(of_rows, task) if is_length else of_rows, task)
        if is_length and len(task.classes(task.train, task.test)) == 2:
            auc = float(roc_auc_score(task.y[task.train], of_rows[task.train]))
            scores[name] = max(scores[name], auc, 1 - auc)  # whichever class is the longer one
    return Confounds(scores, task.target, _telling(task))


def _telling(task: Task) -> float:
    """Return what chance does not reach: of an AUROC by its standard error without any effect, groups as rows."""
    if task.target is not CLASSES:
        return task.target.least
    y, groups = task.y[task.train], task.groups[task.train]
    sizes = [(len(np.unique(groups[y == one])), len(np.unique(groups[y != one]))) for one in np.unique(y)]
    return max(task.target.least, 0.5 + _SURE * max(float(np.sqrt((m + n + 1) / (12 * m * n))) for m, n in sizes))


def _out_of_fold(codes: Int[np.ndarray, " n"], task: Task) -> float:
    """Return the score of the target's mean among the rows of the same code in the other folds."""
    classes = task.classes(task.train)
    target_nk = (task.y[:, None] == classes).astype(float) if len(classes) else task.y[:, None]
    prior_k = target_nk[task.train].mean(axis=0)
    said_nk = np.tile(prior_k, (len(task.y), 1))
    for fold in task.folds:
        said_nk[fold.test] = _means(codes[fold.train], target_nk[fold.train], codes[fold.test], prior_k)
    said = Predicted(said_nk[task.train, 0], said_nk[task.train], said_nk[task.train])
    score = task.target.main(task.y[task.train], said, classes)
    assert score is not None
    return score


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
