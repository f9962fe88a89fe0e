"""Scores of the classification task: named patterns."""

# n examples, k patterns that a dataset has

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from actlab.formats.weights import Row, Spec
from actlab.weights.prompts import parse_patterns
from actlab.weights.score.baselines import majority
from actlab.weights.score.predictions import parsed
from actlab.weights.score.report import (
    ALL,
    PREDICTIONS,
    STRICT,
    Completed,
    Scored,
    TaskReport,
    coverage,
    failures,
    jaccard,
    name_figures,
    splits_of,
)

TASK = "classification"


class Named(NamedTuple):
    """One example, with the patterns that it has and those that it is said to have."""

    completed: Completed
    patterns: list[str]
    named: frozenset[str]

    def as_row(self, candidates: Sequence[str]) -> Row:
        """Return the prediction's row."""
        row = self.completed.as_row(TASK)
        if self.completed.is_parsed:
            true_nk, said_nk = _matrix([self.patterns], candidates), _matrix([self.named], candidates)
            row |= {"patterns": self.patterns, "named": [name for name in candidates if name in self.named]}
            row |= {"exact": bool((true_nk == said_nk).all()), "jaccard": float(jaccard(true_nk, said_nk)[0])}
        return row


def score_classifications(
    specs: Mapping[int, Spec], completions: Mapping[int, str], candidates: Sequence[str]
) -> Scored:
    """Read the predictions, and score them and the usual answers on the splits that have predictions."""
    splits = {specs[example_id]["split"] for example_id in completions}
    named = []
    for example_id, spec in specs.items():
        if spec["split"] in splits:
            completion = completions.get(example_id)
            found, failure = parsed(completion, lambda text: parse_patterns(text, candidates))
            completed = Completed(example_id, spec["split"], completion is not None, failure)
            named.append(Named(completed, spec["patterns"], found or frozenset()))
    report = _report(named, specs.values(), candidates)
    return Scored(report, [one.as_row(candidates) for one in named if one.completed.is_there])


def _report(named: Sequence[Named], specs: Iterable[Spec], candidates: Sequence[str]) -> TaskReport:
    """Take the figures by split and over all, beside the usual answers of the train split."""
    true_nk = _matrix([one.patterns for one in named], candidates)
    said_nk = _matrix([one.named for one in named], candidates)
    is_parsed_n = np.array([one.completed.is_parsed for one in named])
    usual = majority(_matrix([spec["patterns"] for spec in specs if spec["split"] == "train"], candidates))
    notes = [] if usual else ["the train split is empty: there is no usual answer to compare with"]
    completed = [one.completed for one in named]
    figures = []
    for split in splits_of(completed):
        own_n = np.array([split in (one.completed.split, ALL) for one in named])
        parsed_n = own_n & is_parsed_n
        figures += [
            name_figures(split, PREDICTIONS, true_nk[parsed_n], said_nk[parsed_n], candidates),
            name_figures(split, STRICT, true_nk[own_n], said_nk[own_n], candidates),
        ]
        for who, answer_k in zip(("majority set", "majority by pattern"), usual or (), strict=False):
            answers_nk = np.broadcast_to(answer_k, true_nk[own_n].shape)
            figures.append(name_figures(split, who, true_nk[own_n], answers_nk, candidates))
    return TaskReport(coverage(completed), failures(completed), figures, notes)


def _matrix(sets: Sequence[Collection[str]], candidates: Sequence[str]) -> Bool[np.ndarray, "n k"]:
    """Return which of the candidates are in each set."""
    return np.array([[name in one for name in candidates] for one in sets], dtype=bool).reshape(-1, len(candidates))
