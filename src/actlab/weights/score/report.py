"""Figures over examples: by split and overall, of the predictions and of the baselines."""

# n examples, k patterns that a dataset has

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from actlab.formats.weights import SPLITS, Row
from actlab.weights.score.repair import Repair

PREDICTIONS = "predictions"
"""Over those that parse."""
STRICT = "strict"
"""Over all examples: what is missing or does not parse counts as unchanged weights, or as no pattern."""
ALL = "overall"


class Coverage(NamedTuple):
    """What there is to score in a split."""

    split: str
    n_examples: int
    n_predictions: int
    n_parsed: int


class RepairFigures(NamedTuple):
    """Of networks in the improved ones' places; None where there is nothing to take a figure over."""

    split: str
    who: str
    n: int
    """Examples, all figures being over these but the recovered shares."""
    exact_text: float | None
    exact_weights: float | None
    gain: float | None
    """Mean, of the target pattern's balanced accuracy."""
    n_recovered: int
    """Examples whose improved network gains on the rows that were measured."""
    recovered: float | None
    """Mean share of the improved network's gain."""
    recovered_median: float | None
    worst_other: float | None
    """The smallest change of another pattern, over all examples."""
    worst_other_mean: float | None
    accepted: float | None
    """Share that meets the dataset's acceptance criteria."""
    distance: float | None
    """Mean, from the improved weights in units of the degraded ones' distance."""


class NameFigures(NamedTuple):
    """Of named patterns; None where there is nothing to take a figure over."""

    split: str
    who: str
    n: int
    exact: float | None
    macro_f1: float | None
    """Over the patterns that an example has or is said to have."""
    micro_f1: float | None
    jaccard: float | None
    by_pattern: Mapping[str, Mapping[str, float | None]]
    """Precision, recall, and how many examples have the pattern and are said to have it."""


class TaskReport(NamedTuple):
    """How one task was done."""

    coverage: list[Coverage]
    """By split, the last over all of them; a split without predictions is left out everywhere."""
    failures: dict[str, int]
    """Completions that do not parse, by reason."""
    figures: Sequence[RepairFigures] | Sequence[NameFigures]
    notes: list[str]
    """What the reader of the figures should know."""

    def as_json(self) -> dict[str, object]:
        """Return everything as JSON values."""
        rows = {name: [one._asdict() for one in getattr(self, name)] for name in ("coverage", "figures")}
        return {**self._asdict(), **rows}


class Scored(NamedTuple):
    """A task's report, and a row a prediction."""

    report: TaskReport
    rows: list[Row]


class Report(NamedTuple):
    """What score-interpreter found."""

    path: Path
    """Of the dataset."""
    measured_on: str
    tasks: dict[str, TaskReport]
    output: Path | None
    """The file with a row a prediction."""

    def as_json(self) -> dict[str, object]:
        """Return everything as JSON values."""
        tasks = {name: task.as_json() for name, task in self.tasks.items()}
        return {**self._asdict(), "path": str(self.path), "tasks": tasks, "output": self.output and str(self.output)}


class Completed(NamedTuple):
    """An example with what became of its prediction."""

    example_id: int
    split: str
    is_there: bool
    """Whether there is a prediction."""
    failure: str | None
    """Why it does not parse."""

    def as_row(self, task: str) -> dict[str, object]:
        """Return what every prediction's row says."""
        return {"example_id": self.example_id, "task": task, "split": self.split, "failure": self.failure}

    @property
    def is_parsed(self) -> bool:
        """Whether there is a prediction that parses."""
        return self.is_there and self.failure is None


def splits_of(completed: Iterable[Completed]) -> list[str]:
    """Return the splits that there are, in their order, and `ALL`."""
    there = {one.split for one in completed}
    return [*[split for split in SPLITS if split in there], ALL]


def coverage(completed: Sequence[Completed]) -> list[Coverage]:
    """Count examples and predictions by split and over all."""
    by_split = {split: [one for one in completed if split in (one.split, ALL)] for split in splits_of(completed)}
    return [
        Coverage(split, len(own), sum(one.is_there for one in own), sum(one.is_parsed for one in own))
        for split, own in by_split.items()
    ]


def failures(completed: Iterable[Completed]) -> dict[str, int]:
    """Count the completions that do not parse by their reasons, the most frequent first."""
    return dict(Counter(one.failure for one in completed if one.failure is not None).most_common())


def repair_figures(split: str, who: str, repairs: Sequence[Repair]) -> RepairFigures:
    """Take the figures over some examples."""
    recovered = [one.recovered for one in repairs if one.recovered is not None]
    return RepairFigures(
        split=split,
        who=who,
        n=len(repairs),
        exact_text=_mean(one.exact_text for one in repairs),
        exact_weights=_mean(one.exact_weights for one in repairs),
        gain=_mean(one.gain for one in repairs),
        n_recovered=len(recovered),
        recovered=_mean(recovered),
        recovered_median=median(recovered) if recovered else None,
        worst_other=min((one.worst_other for one in repairs), default=None),
        worst_other_mean=_mean(one.worst_other for one in repairs),
        accepted=_mean(one.accepted for one in repairs),
        distance=_mean(one.distance for one in repairs if one.distance is not None),
    )


def name_figures(
    split: str, who: str, true_nk: Bool[np.ndarray, "n k"], said_nk: Bool[np.ndarray, "n k"], names: Sequence[str]
) -> NameFigures:
    """Take the figures over some examples: which of the patterns they have, and which they are said to have."""
    if not len(true_nk):
        return NameFigures(split, who, 0, None, None, None, None, {})
    both_k, true_k, said_k = ((true_nk & said_nk).sum(0), true_nk.sum(0), said_nk.sum(0))
    # of a pattern that is neither there nor named no F1 can be told
    f1 = [2 * both / (true + said) for both, true, said in zip(both_k, true_k, said_k, strict=True) if true + said]
    by_pattern = {
        name: {
            "precision": both / said if said else None,
            "recall": both / true if true else None,
            "n": true,
            "n_named": said,
        }
        for name, both, true, said in zip(names, both_k.tolist(), true_k.tolist(), said_k.tolist(), strict=True)
    }
    return NameFigures(
        split=split,
        who=who,
        n=len(true_nk),
        exact=float((true_nk == said_nk).all(1).mean()),
        macro_f1=_mean(f1),
        micro_f1=float(2 * both_k.sum() / (true_k.sum() + said_k.sum())),
        jaccard=float(jaccard(true_nk, said_nk).mean()),
        by_pattern=by_pattern,
    )


def jaccard(true_nk: Bool[np.ndarray, "n k"], said_nk: Bool[np.ndarray, "n k"]) -> np.ndarray:
    """Return how much of the patterns that are there or named is both; every example has at least one."""
    return np.asarray((true_nk & said_nk).sum(1) / (true_nk | said_nk).sum(1))


def _mean(values: Iterable[float]) -> float | None:
    listed = [float(value) for value in values]
    return fmean(listed) if listed else None
