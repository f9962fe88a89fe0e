import json
from typing import TYPE_CHECKING, Any

from actlab.cli.common import echo, set_loudness
from actlab.ground import options
from actlab.weights.config.examples import ScoreConfig

if TYPE_CHECKING:
    from actlab.weights.score.report import Report, TaskReport


_COLUMNS = {
    "modification": {
        "exact": "exact_text",
        "weights": "exact_weights",
        "gain": "gain",
        "recovered": "recovered",
        "median": "recovered_median",
        "others": "worst_other_mean",
        "worst": "worst_other",
        "accepted": "accepted",
        "distance": "distance",
    },
    "classification": {"exact": "exact", "macro F1": "macro_f1", "micro F1": "micro_f1", "Jaccard": "jaccard"},
}
"""A table's headings, and the figures under them."""


_LEGENDS = {
    "modification": "exact: the dataset's text; weights: its numbers; gain: of the target pattern's balanced accuracy; "
    "recovered: share of the improved network's gain, mean and median; others: smallest change of another pattern, "
    "mean and worst; accepted: meets the dataset's criteria; distance: 0 improved, 1 degraded; improved weights: the "
    "dataset's own completions, the ceiling",
    "classification": "exact: the same patterns, no more and no fewer",
}


@options.command(ScoreConfig)
def command(config: ScoreConfig) -> None:
    """Predicted weights are loaded and measured; predicted patterns are compared. Each line of the predictions is
    {"example_id": 0, "completion": "…", "task": "modification"}. A completion that does not parse is counted by its
    reason. "strict" is over all examples of a split: what is missing or does not parse counts as unchanged weights,
    or as no pattern.

    \b
    actlab score-interpreter Weights/quick predictions.jsonl
    actlab score-interpreter Weights/quick predictions.jsonl --benchmark benchmark.json --output scores.jsonl
    """
    from actlab.ground.log import log
    from actlab.weights.score.run import score_interpreter

    set_loudness(config.quiet)
    report = score_interpreter(config)
    echo(json.dumps(report.as_json(), indent=2) if config.json else _report_as_text(report))
    for task, done in report.tasks.items():
        for note in done.notes:
            log.warning("%s: %s", task, note)


def _report_as_text(report: "Report") -> str:
    tasks = [_task_as_text(task, done) for task, done in report.tasks.items()]
    return "\n\n".join([f"{report.path}: networks measured on {report.measured_on}", *tasks])


def _task_as_text(task: str, done: "TaskReport") -> str:
    overall = done.coverage[-1]
    missing = overall.n_examples - overall.n_predictions
    reasons = f" ({', '.join(f'{n} {reason}' for reason, n in done.failures.items())})" if done.failures else ""
    lines = [
        f"{task}: {overall.n_examples} examples, {missing} without prediction, "
        f"{overall.n_predictions - overall.n_parsed} that do not parse{reasons}",
        f"  {'split':<11} {'of':<20} {'n':>6}" + "".join(f" {heading:>9}" for heading in _COLUMNS[task]),
    ]
    for figures in done.figures:
        cells = "".join(_cell(getattr(figures, name)) for name in _COLUMNS[task].values())
        lines.append(f"  {figures.split:<11} {figures.who:<20} {figures.n:>6}{cells}")
    lines.append(f"  ({_LEGENDS[task]})")
    by_pattern = getattr(next(one for one in done.figures if one.split == "overall"), "by_pattern", {})
    if by_pattern:
        lines += ["", f"  {'pattern':<20} {'n':>6} {'named':>9} {'precision':>9} {'recall':>9}"]
        for name, one in by_pattern.items():
            shares = _cell(one["precision"]) + _cell(one["recall"])
            lines.append(f"  {name:<20} {one['n']:>6} {one['n_named']:>9}{shares}")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f" {'-' if value is None else f'{value:.3f}':>9}"
