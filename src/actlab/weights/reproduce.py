"""`actlab reproduce`: make one example again, from its dataset's own settings, and compare."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actlab.backends.models import pick_device
from actlab.backends.threads import one_thread
from actlab.formats.weights import ATTEMPTS, SIGNATURE_FILE, STORE, TASKS, Row, WeightsDataset, table_bytes
from actlab.ground.errors import ConfigError, DataError, StorageError
from actlab.ground.hashes import sha256_of
from actlab.ground.manifest import InputEntry, differences
from actlab.ground.options import from_settings, takes
from actlab.ground.plugins import refuse_missing_plugins
from actlab.ground.progress import progress
from actlab.weights.compute.unit import SURPLUS, Filled, fill
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.config.examples import ReproduceConfig
from actlab.weights.sampler import ACCEPTANCE, Sampler
from actlab.weights.sink import example_files
from actlab.weights.tables import attempt_row

_COUNTS = ("prompt_tokens", "completion_tokens")
"""Not compared: they need the tokenizer, and are no work of the training."""

_ATTEMPTS = "attempts"

Tables = dict[str, list[Row]]
"""All that a dataset holds of one example, by table: the store's, the tasks', its attempts."""


class Reproduced(NamedTuple):
    """How an example made anew compares with the stored one."""

    path: Path
    example_id: int
    identical: bool
    """Every number and text."""
    same_decisions: bool
    """The same try was accepted, the earlier ones rejected for the same reasons."""
    weight_error: float | None
    """The largest absolute difference of a weight of both networks; None where their shapes differ."""
    accuracy_error: float | None
    """The largest absolute difference of an accuracy; None where other patterns were measured."""
    differences: list[str]
    """Which tables differ, and the decisions where they do."""
    n_slots: int
    """Of the unit that was trained again, whole: networks are trained in one arrangement."""
    elapsed_s: float


@takes(ReproduceConfig)
def reproduce(config: ReproduceConfig) -> Reproduced:
    """Make an example again and compare it with the stored one; `ReproduceConfig` has the settings.

    On the machine and with the libraries that made it, every bit is the same. Elsewhere the last bits of the weights
    may differ, and with them what was accepted.

    Raises:
        ActlabError: There is no such example, or the dataset's settings are not those that it was made with.
    """
    dataset = WeightsDataset(config.dir)
    refuse_missing_plugins(dataset.identity, dataset.folder)
    _refuse_no_example(dataset, config.example_id)
    sampler = _sampler(dataset, config.tokenizer)
    slots = dataset.unit_of(config.example_id)
    start = time.monotonic()
    filled = _filled_again(sampler, slots, config)
    there = _stored(dataset, config.example_id)
    here = _made(sampler, filled)
    differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    decisions = [[str(attempt["reason"]) for attempt in tables[_ATTEMPTS]] for tables in (there, here)]
    if decisions[0] != decisions[1]:
        differing += [f"tries there: {', '.join(decisions[0])}", f"tries here: {', '.join(decisions[1])}"]
    return Reproduced(
        path=dataset.folder,
        example_id=config.example_id,
        identical=not differing,
        same_decisions=decisions[0] == decisions[1],
        weight_error=_largest(there, here, "weights", ("model", "module"), ("weight", "bias")),
        accuracy_error=_largest(there, here, "metrics", ("model", "pattern"), ("accuracy",)),
        differences=differing,
        n_slots=len(slots),
        elapsed_s=round(time.monotonic() - start, 1),
    )


def _refuse_no_example(dataset: WeightsDataset, example_id: int) -> None:
    """Raise where there is nothing to make again.

    Raises:
        DataError: The id is out of range, or no try of it was accepted.
    """
    if not 0 <= example_id < dataset.n_slots:
        raise DataError(
            f"there is no example {example_id} in {dataset.folder}", hint=f"its ids are from 0 to {dataset.n_slots - 1}"
        )
    if dataset.table("specs", [example_id]).num_rows:
        return
    tries = dataset.attempts().filter(pc.field("example_id") == example_id)["reason"].to_pylist()
    reasons = "; ".join(f"{reason}: {n}" for reason, n in Counter(tries).most_common())
    raise DataError(
        f"example {example_id} was given up, none of its tries was accepted: {reasons}",
        hint="choose an id that is in store/specs",
    )


def _sampler(dataset: WeightsDataset, tokenizer: str | None) -> Sampler:
    """Return the sampler that the dataset was made by.

    Raises:
        ActlabError: It is another one: settings or files are not those that the manifest names.
    """
    limit = dataset.identity["task_generation.max_prompt_tokens"]
    if limit is not None and tokenizer is None:
        raise ConfigError(
            f"prompts of more than {limit} tokens were rejected, which takes the tokenizer to repeat",
            hint="give --tokenizer DIR, the one that the dataset was made with",
        )
    if dataset.identity.get("acceptance") != ACCEPTANCE:
        raise StorageError(
            f"{dataset.folder} was made by another actlab version, which accepted networks by other criteria",
            hint="reproduce it with that version; actlab verify measures datasets of every version again",
        )
    counts = {"task_generation.tokenizer": tokenizer} if limit is not None else {}
    sampler = Sampler(from_settings(WeightsSettings, {**dataset.settings(), **counts}))
    hint = "actlab verify tells whether the dataset is damaged; another actlab version may have made it"
    if found := differences(dataset.identity, json.loads(json.dumps(sampler.identity()))):
        raise StorageError(f"{dataset.folder}: its settings are not those that it was made with: {found[0]}", hint=hint)
    inputs = dataset.manifest["inputs"]
    if sha256_of(dataset.folder / SIGNATURE_FILE) not in _hashes(inputs, "signature_dataset"):
        raise StorageError(f"{dataset.folder}: its {SIGNATURE_FILE} is not the one that it was made with", hint=hint)
    if limit is not None and _hashes(sampler.inputs(), "tokenizer") != _hashes(inputs, "tokenizer"):
        raise ConfigError(f"{tokenizer} is not the tokenizer that the dataset was made with", hint="give that one")
    return sampler


def _hashes(inputs: Sequence[InputEntry], role: str) -> set[str]:
    return {str(entry["sha256"]) for entry in inputs if entry["role"] == role}


def _filled_again(sampler: Sampler, slots: range, config: ReproduceConfig) -> Filled:
    """Fill the unit, and keep what came of the example's slot."""
    with (
        one_thread(),
        progress("accepting", total=len(slots), unit="example", quiet=config.quiet) as more,
    ):
        filled = fill(sampler, slots, device=str(pick_device(config.device)), told=lambda accepted, _: more(accepted))
    return Filled(
        examples=[one for one in filled.examples if one.attempt.slot == config.example_id],
        attempts=[one for one in filled.attempts if one.slot == config.example_id],
    )


def _made(sampler: Sampler, filled: Filled) -> Tables:
    """Return the tables as the sink would write them, by way of their bytes."""
    written = {_ATTEMPTS: table_bytes(ATTEMPTS, map(attempt_row, filled.attempts))}
    for file in example_files(sampler, 0, filled.examples):
        if file.path.endswith(".parquet"):
            assert isinstance(file.data, bytes)
            folder, _, name = file.path.partition("/")
            written[folder if folder in TASKS else name.rpartition("-")[0]] = file.data
    return {name: _rows(pq.read_table(pa.py_buffer(data))) for name, data in written.items()}


def _stored(dataset: WeightsDataset, example_id: int) -> Tables:
    tables = {name: _rows(dataset.table(name, [example_id])) for name in STORE}
    for task in dataset.tasks:
        tables[task] = [_compared(row) for _, row in dataset.records(task, [example_id])]
    tables[_ATTEMPTS] = _rows(dataset.attempts().filter(pc.field("example_id") == example_id))
    return {name: rows for name, rows in tables.items() if rows or name == _ATTEMPTS}


def _rows(table: pa.Table) -> list[Row]:
    """Return a table's rows, but the tries that were trained along and not needed."""
    return [_compared(row) for row in table.to_pylist() if row.get("reason") != SURPLUS]


def _compared(row: Mapping[str, object]) -> Row:
    """Leave out the token counts."""
    return {column: value for column, value in row.items() if column not in _COUNTS}


def _largest(there: Tables, here: Tables, table: str, keys: tuple[str, ...], columns: tuple[str, ...]) -> float | None:
    """Return the largest difference of numbers under the same keys; None where the keys or the shapes differ."""
    numbers = [
        {
            tuple(row[key] for key in keys): np.hstack([np.asarray(row[column]) for column in columns])
            for row in tables.get(table, ())
        }
        for tables in (there, here)
    ]
    shapes = [{key: row.shape for key, row in one.items()} for one in numbers]
    if shapes[0] != shapes[1]:
        return None
    return max((float(np.abs(row - numbers[1][key]).max()) for key, row in numbers[0].items()), default=None)
