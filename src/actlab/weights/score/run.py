"""`actlab score-interpreter`: from predictions to figures beside the baselines'."""

import json
from collections.abc import Mapping
from pathlib import Path

from actlab.backends.threads import one_thread
from actlab.formats.weights import Spec, WeightsDataset
from actlab.ground.errors import ConfigError
from actlab.ground.options import from_settings, takes
from actlab.ground.plugins import refuse_missing_plugins
from actlab.ground.storage import OneFile, write_file
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.config.examples import ScoreConfig
from actlab.weights.sampler import Sampler
from actlab.weights.score.classification import score_classifications
from actlab.weights.score.modification import score_modifications
from actlab.weights.score.predictions import read_predictions
from actlab.weights.score.report import Report, Scored
from actlab.weights.score.rows import Benchmark, stored_rows


@takes(ScoreConfig)
def score_interpreter(config: ScoreConfig) -> Report:
    """Score an interpreter's predictions; `ScoreConfig` has the settings.

    Examples of a split without predictions are not scored; those that a scored split has and the predictions lack
    are counted as missing. The baselines are measured on every example of a scored split, so that they are the same
    for all interpreters. An example of the train split is left out of the mean that stands beside it.

    Raises:
        ActlabError: A file is not what it has to be, or the output is in the way; a completion that does not parse
            is none.
    """
    _refuse_output(config)
    dataset = WeightsDataset(config.dir)
    refuse_missing_plugins(dataset.identity, dataset.folder)
    specs = {spec["example_id"]: spec for spec in dataset.specs()}
    predictions = read_predictions(config.predictions, tasks=dataset.tasks, example_ids=specs.keys())
    scored: dict[str, Scored] = {}
    if completions := predictions.get("modification"):
        scored["modification"] = _modifications(config, dataset, specs, completions)
    if completions := predictions.get("classification"):
        scored["classification"] = score_classifications(specs, completions, dataset.identity["patterns"])
    if config.output is not None:
        rows = [json.dumps(row) + "\n" for one in scored.values() for row in one.rows]
        write_file(config.output, "".join(rows).encode())
    tasks = {task: one.report for task, one in scored.items()}
    return Report(config.dir, str(config.benchmark or "stored test rows"), tasks, config.output)


def _modifications(
    config: ScoreConfig, dataset: WeightsDataset, specs: Mapping[int, Spec], completions: dict[int, str]
) -> Scored:
    settings = from_settings(WeightsSettings, dataset.settings())
    benchmark = Benchmark(config.benchmark, Sampler(settings).space, dataset) if config.benchmark else None
    with one_thread():
        scored = score_modifications(
            dataset, specs, completions, settings, benchmark or stored_rows(dataset), quiet=config.quiet
        )
    notes = benchmark.notes if benchmark else []
    return scored._replace(report=scored.report._replace(notes=[*scored.report.notes, *notes]))


def _refuse_output(config: ScoreConfig) -> None:
    """Refuse a place for the rows where something is in the way.

    Raises:
        ActlabError: Something is.
    """
    if config.output is None:
        return
    if config.output.resolve() == config.predictions.resolve():
        raise ConfigError("--output is the file of the predictions", hint="choose another --output")
    file = OneFile(
        path=config.output,
        overwrite=config.overwrite,
        is_own=_is_scores,
        foreign="holds no scores",
        example="--output scores.jsonl",
    )
    file.is_there(lambda: False, lambda: "is there already")


def _is_scores(path: Path) -> bool:
    """Whether a file is one that this command wrote, and so may be replaced."""
    try:
        with path.open("rb") as file:
            row = json.loads(file.readline(1 << 20) or b"null")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"example_id", "task", "split", "failure"} <= row.keys()
