"""The file of an interpreter's predictions."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from actlab.ground.errors import DataError
from actlab.ground.limits import LONG_LINE, lines_of

Predictions = dict[str, dict[int, str]]
"""Completions by task and example."""

Parsed = TypeVar("Parsed")

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


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the number and the content of each line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(lines_of(file), start=1):
                if line is None:
                    raise DataError(f"{path}, line {number} is a {LONG_LINE}", hint=_FORM)
                if line.strip():
                    yield number, json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number} is not JSON: {error}"[:300], hint=_FORM) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path of the predictions") from None


def _prediction(content: object, tasks: Sequence[str], where: str) -> tuple[str, int, str]:
    """Return a line's task, example and completion; other keys are not looked at."""
    if not isinstance(content, dict):
        raise DataError(f"{where} is no object", hint=_FORM)
    example_id, completion = content.get("example_id"), content.get("completion")
    task = tasks[0] if content.get("task") is None and len(tasks) == 1 else content.get("task")
    wrong = f"task is {task!r}, the dataset has {' and '.join(tasks)}"
    if type(example_id) is not int:
        wrong = f"example_id is {example_id!r}, no whole number"
    elif not isinstance(completion, str):
        wrong = f"completion is {completion!r}, no text"
    elif isinstance(task, str) and task in tasks:
        return task, example_id, completion
    raise DataError(f"{where}: {wrong}"[:300], hint=_FORM)


def parsed(completion: str | None, parse: Callable[[str], Parsed]) -> tuple[Parsed | None, str | None]:
    """Return what a completion says, or else why it does not parse."""
    try:
        return (None if completion is None else parse(completion)), None
    except DataError as error:
        return None, str(error)
