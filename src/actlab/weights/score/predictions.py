"""The file of an interpreter's predictions."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from actlab.ground.errors import DataError
from actlab.ground.limits import LONG_LINE, lines_of

Predictions = dict[str, dict[int, str]]
"""Completions by task and example."""

_FORM = 'each line is {"example_id": 0, "completion": "…", "task": "modification" or "classification"}'


def read_predictions(path: Path, *, tasks: Sequence[str], example_ids: Collection[int]) -> Predictions:
    """Read the predictions for a dataset's tasks; lines without a task are of its only one.

    Raises:
        DataError: The file cannot be read or is empty, or a line is no prediction, of no example, or of one that
            has another already.
    """
    predictions: Predictions = {}
    lines: dict[tuple[str, int], int] = {}
    for number, content in _lines(path):
        where = f"{path}, line {number}"
        task, example_id, completion = _prediction(content, tasks, where)
        if example_id not in example_ids:
            raise DataError(f"{where}: the dataset has no example {example_id}", hint="see the ids in its store/specs")
        earlier = lines.setdefault((task, example_id), number)
        if earlier != number:
            what = f"{task} of example {example_id}"
            raise DataError(f"{where}: {what} is predicted in line {earlier} already", hint="keep one of them")
        predictions.setdefault(task, {})[example_id] = completion
    if not predictions:
        raise DataError(f"{path} has no predictions", hint=_FORM)
    return predictions


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the content of each line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(lines_of(file), start=1):
                if line is None:
                    raise DataError(f"{path}, line {number} is a {LONG_LINE}", hint=_FORM)
                if line.strip():
                    yield number, _parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path of the predictions") from None


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}"[:300], hint=_FORM) from None


def _prediction(content: Any, tasks: Sequence[str], where: str) -> tuple[str, int, str]:
    """Return a line's task, example and completion; other keys are not looked at."""
    if not isinstance(content, dict):
        raise DataError(f"{where} is no object", hint=_FORM)
    example_id, completion = content.get("example_id"), content.get("completion")
    task = content.get("task")
    if type(example_id) is not int:
        raise DataError(f"{where}: example_id is {example_id!r}, no whole number"[:300], hint=_FORM)
    if not isinstance(completion, str):
        raise DataError(f"{where}: completion is {completion!r}, no text"[:300], hint=_FORM)
    if task is None and len(tasks) == 1:
        task = tasks[0]
    if not isinstance(task, str) or task not in tasks:
        there = " and ".join(tasks)
        raise DataError(f"{where}: task is {task!r}, the dataset has {there}"[:300], hint=_FORM)
    return task, example_id, completion
