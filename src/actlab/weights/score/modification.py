"""Scores of the modification task: predicted networks, measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from actlab.formats.weights import Row, Spec, WeightsDataset
from actlab.ground.progress import progress
from actlab.weights.compute.recorded import architecture_of, digits_of
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.prompts import parse_weights
from actlab.weights.score.baselines import MeanWeights
from actlab.weights.score.predictions import parsed
from actlab.weights.score.repair import Case, Repair, score_repair
from actlab.weights.score.report import (
    ALL,
    PREDICTIONS,
    STRICT,
    Completed,
    RepairFigures,
    Scored,
    TaskReport,
    coverage,
    failures,
    repair_figures,
    splits_of,
)
from actlab.weights.score.rows import RowsOf

TASK = "modification"

UNCHANGED, MEAN, IMPROVED = "unchanged weights", "mean weights", "improved weights"
"""The baselines, and the ceiling: the dataset's own completions, what a perfect interpreter would get."""


class Repaired(NamedTuple):
    """One example, measured."""

    completed: Completed
    scores: Mapping[str, Repair]
    """By what the figures are of; without what there is not, and empty where it could not be measured."""

    def as_row(self) -> Row:
        """Return the prediction's row."""
        predicted = self.scores.get(PREDICTIONS)
        return {**self.completed.as_row(TASK), **(predicted._asdict() if predicted else {})}


def score_modifications(
    dataset: WeightsDataset,
    specs: Mapping[int, Spec],
    completions: Mapping[int, str],
    settings: WeightsSettings,
    rows_of: RowsOf,
    *,
    quiet: bool,
) -> Scored:
    """Measure the predictions, the baselines and the ceiling on every example of the splits that have predictions."""
    splits = {specs[example_id]["split"] for example_id in completions}
    wanted = [example_id for example_id, spec in specs.items() if spec["split"] in splits]
    means = MeanWeights(dataset, specs.values())
    repaired = []
    with progress("measuring", total=len(wanted), unit="example", quiet=quiet) as more:
        for example_ids in dataset.by_unit(wanted):
            of_unit = [specs[example_id] for example_id in example_ids]
            for spec, case in _cases(dataset, of_unit, settings, rows_of):
                repaired.append(_repaired(spec, case, means, completions.get(spec["example_id"])))
                more(1)
    return Scored(_report(repaired), [one.as_row() for one in repaired if one.completed.is_there])


def _report(repaired: Sequence[Repaired]) -> TaskReport:
    """Take the figures by split and over all."""
    completed = [one.completed for one in repaired]
    figures: list[RepairFigures] = []
    for split in splits_of(completed):
        own = [one for one in repaired if split in (one.completed.split, ALL)]
        figures += [
            repair_figures(split, who, [one.scores[who] for one in own if who in one.scores])
            for who in (PREDICTIONS, STRICT, UNCHANGED, MEAN, IMPROVED)
        ]
    n_alone = sum(MEAN not in one.scores and UNCHANGED in one.scores for one in repaired)
    notes = [f"{n_alone} examples have no mean weights: train has no other network of their shape"] if n_alone else []
    return TaskReport(coverage(completed), failures(completed), figures, notes)


def _cases(
    dataset: WeightsDataset, specs: Sequence[Spec], settings: WeightsSettings, rows_of: RowsOf
) -> Iterator[tuple[Spec, Case | None]]:
    """Yield the examples of a unit ready to be measured, None where there are no rows to measure one on."""
    patterns = {spec["example_id"]: spec["patterns"] for spec in specs}
    stored, rows = dataset.weights(patterns), rows_of(patterns)
    columns = ("example_id", "completion")
    references = {row["example_id"]: row["completion"] for _, row in dataset.records(TASK, patterns, columns)}
    digits = digits_of(settings)
    for spec in specs:
        example_id, names = spec["example_id"], spec["patterns"]
        if example_id not in rows:
            yield spec, None
            continue
        yield (
            spec,
            Case(
                architecture=architecture_of(spec),
                degraded=stored[example_id, "degraded"],
                improved=stored[example_id, "improved"],
                reference=references[example_id],
                target=names.index(spec["target_pattern"]),
                n_patterns=len(names),
                rows=rows[example_id],
                settings=settings,
                acceptance=dataset.identity.get("acceptance", 1),
                digits=digits,
            ),
        )


def _repaired(spec: Spec, case: Case | None, means: MeanWeights, completion: str | None) -> Repaired:
    example_id, architecture = spec["example_id"], architecture_of(spec)
    weights, failure = parsed(completion, lambda text: parse_weights(text, architecture))
    completed = Completed(example_id, spec["split"], completion is not None, failure)
    if case is None:
        return Repaired(completed, {})
    mean = means.without(example_id, architecture, case.improved)
    scores = {
        PREDICTIONS: None if weights is None else score_repair(case, weights, completion),
        UNCHANGED: score_repair(case, case.degraded),
        MEAN: None if mean is None else score_repair(case, mean),
        IMPROVED: score_repair(case, parse_weights(case.reference, architecture), case.reference),
    }
    scores[STRICT] = scores[PREDICTIONS] or scores[UNCHANGED]
    return Repaired(completed, {who: one for who, one in scores.items() if one is not None})
