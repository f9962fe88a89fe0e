"""Which tables a unit becomes, and what a finished dataset adds to them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TypedDict

import yaml

from actlab.formats.weights import (
    ATTEMPTS,
    ATTEMPTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    KIND,
    RECORDS,
    SIGNATURE_FILE,
    SPLITS,
    STORE,
    TASKS,
    Row,
    numbers,
    table_bytes,
)
from actlab.ground.made_on import made_on
from actlab.ground.manifest import METADATA, Environment, Identity
from actlab.ground.options import identity_of
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Staging, write_dropped
from actlab.weights.card import card
from actlab.weights.compute.examples import Example
from actlab.weights.compute.judge import ACCEPTED
from actlab.weights.compute.unit import SURPLUS, Filled, low_yield
from actlab.weights.sampler import Sampler
from actlab.weights.tables import STORED, attempt_row, task_row

_HOW_AGAIN = f"""\
# What the dataset's bytes depend on, besides the tokenizer, if one was given. To make it again, in this folder:
#   actlab run-data-gen --config-path {CONFIG_FILE} --set signature.dataset_path={SIGNATURE_FILE} --output ELSEWHERE
"""


class UnitRecord(TypedDict):
    """What a unit's completion record says besides its files."""

    dropped: dict[str, int]
    dropped_records: list[Row]
    attempts: list[Row]
    n_accepted: int
    n_attempted: int
    pattern_sets: list[list[str]]
    """Of each accepted example, its split and its patterns."""
    prompt_tokens: list[int]
    n_parameters: list[int]
    environment: Environment


def example_files(sampler: Sampler, unit: int, examples: Sequence[Example]) -> Iterator[NewFile]:
    """Yield the tables of a unit's examples."""
    for name, rows_of in STORED.items():
        if rows := [row for example in examples for row in rows_of(sampler, example)]:
            yield NewFile(f"store/{name}-{unit:05d}.parquet", table_bytes(STORE[name], rows), len(rows))
    records: dict[tuple[str, str], list[Row]] = {}
    for example in examples:
        for task in example.tasks:
            records.setdefault((task, example.attempt.split), []).append(task_row(sampler, example, task))
    for (task, split), rows in records.items():
        yield NewFile(f"{task}/{split}-{unit:05d}.parquet", table_bytes(RECORDS, rows), len(rows))


def input_files(sampler: Sampler) -> Iterator[NewFile]:
    """Yield what was read: the signature dataset, and the settings."""
    yield NewFile(SIGNATURE_FILE, sampler.signature_bytes)
    yield NewFile(CONFIG_FILE, _config_yaml(sampler))


def unit_record(filled: Filled, machine: Environment) -> UnitRecord:
    """Return what a unit's completion record says besides its files."""
    return {
        "dropped": dict(Counter("no attempt was accepted" for _ in filled.given_up)),
        "dropped_records": [{"example_id": slot, "reason": "no attempt was accepted"} for slot in filled.given_up],
        "attempts": [attempt_row(judged) for judged in filled.attempts],
        "n_accepted": len(filled.examples),
        "n_attempted": sum(one.reason != SURPLUS for one in filled.attempts),
        "pattern_sets": [[one.attempt.split, "+".join(one.attempt.names)] for one in filled.examples],
        "prompt_tokens": [n for example in filled.examples for n, _ in example.n_tokens.values()],
        "n_parameters": [example.attempt.architecture.n_parameters for example in filled.examples],
        "environment": machine,
    }


def finish(staging: Staging) -> Finish:
    """Return the dataset's metadata, and write its attempts, its card and the list of slots that were given up.

    Raises:
        DataError: There is no example at all.
    """
    records, identity = list(staging.records_as(UnitRecord)), staging.plan.identity
    attempts = [attempt for record in records for attempt in record["attempts"]]
    reasons = Counter(str(attempt["reason"]) for attempt in attempts)
    if not reasons[ACCEPTED]:
        raise low_yield(reasons)
    metadata = _metadata(staging, records, attempts, reasons)
    tasks = [task for task in TASKS if identity[f"task_generation.include_{task}"]]
    files = [
        staging.write(NewFile(ATTEMPTS_FILE, table_bytes(ATTEMPTS, attempts), len(attempts))),
        staging.write(NewFile(CARD_FILE, card(metadata, identity, tasks).encode())),
        *write_dropped(staging),
    ]
    return Finish(files, {METADATA: metadata}, {"made_on": made_on(record["environment"] for record in records)})


def _metadata(
    staging: Staging, records: Sequence[UnitRecord], attempts: Sequence[Row], reasons: Counter[str]
) -> dict[str, object]:
    accepted = [attempt for attempt in attempts if attempt["accepted"]]
    n_judged = len(attempts) - reasons[SURPLUS]
    pattern_sets = [pair for record in records for pair in record["pattern_sets"]]
    splits = Counter(split for split, _ in pattern_sets)
    seen = {names for split, names in pattern_sets if split == "train"}
    prompt_tokens = [n for record in records for n in record["prompt_tokens"]]
    n_parameters = [n for record in records for n in record["n_parameters"]]
    of = {column: numbers(accepted, column) for column in ATTEMPTS.names}
    return {
        "n_examples": len(accepted),
        "splits": {split: splits[split] for split in SPLITS},
        "pattern_sets_also_in_train": {
            name: sum(names in seen for split, names in pattern_sets if split == name) for name in SPLITS[1:]
        },
        "n_attempts": n_judged,
        "yield": round(len(accepted) / n_judged, 4),
        "rejected": {r: n for r, n in sorted(reasons.items()) if r not in (ACCEPTED, SURPLUS)},
        "n_surplus": reasons[SURPLUS],
        "median_degraded_accuracy": round(median(of["degraded_accuracy"]), 4),
        "median_improved_accuracy": round(median(of["improved_accuracy"]), 4),
        "median_target_accuracy": round(median(of["improved_target_accuracy"]), 4),
        "highest_degraded_target_accuracy": max(of["degraded_target_accuracy"]),
        "lowest_listed_accuracy": min(of["lowest_improved_accuracy"]),
        "highest_unlisted_accuracy": max(of["highest_unlisted_accuracy"], default=None),
        "lowest_target_accuracy": min(of["improved_target_accuracy"]),
        "median_target_gain": round(median(of["target_gain"]), 4),
        "worst_other_change": min(of["worst_other_change"]),
        "n_parameters": [min(n_parameters), max(n_parameters)],
        "prompt_tokens": [min(prompt_tokens), max(prompt_tokens)] if prompt_tokens else None,
        "patterns": staging.plan.identity["patterns"],
        "heldout_pair": staging.plan.identity["heldout_pair"],
        "dropped": dict(sum((Counter(record["dropped"]) for record in records), Counter[str]())),
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": staging.plan.fingerprint,
    }


def _config_yaml(sampler: Sampler) -> bytes:
    """Return the settings that change the data, as a file that run-data-gen takes; where and how are left out."""
    groups: Identity = {}
    for name, value in identity_of(sampler.config).items():
        place, key = groups, name
        while "." in key:
            step, _, key = key.partition(".")
            place = place.setdefault(step, {})
        place[key] = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(groups, sort_keys=False, allow_unicode=True)
    return (_HOW_AGAIN + text).encode()
