"""The dataset card: what the dataset is, in measured numbers, and how to load it."""

from collections.abc import Sequence
from typing import Any

import yaml

from actlab.formats.weights import ATTEMPTS_FILE, CONFIG_FILE, SIGNATURE_FILE, SPLITS, STORE


def card(metadata: dict[str, Any], identity: dict[str, Any], tasks: Sequence[str]) -> str:
    """Return the card, its head declaring every table as a configuration of `datasets.load_dataset`."""
    front = yaml.safe_dump(
        {"tags": ["actlab", "interpretability", "weights"], "configs": _configs(metadata, identity, tasks)},
        sort_keys=False,
    )
    splits = ", ".join(f"{name} {n}" for name, n in metadata["splits"].items() if n)
    heldout = " and ".join(metadata["heldout_pair"])
    rejected = "\n".join(f"| {reason} | {count} |" for reason, count in metadata["rejected"].items()) or "| none | 0 |"
    low, high = metadata["n_parameters"]
    before, after = metadata["median_degraded_accuracy"], metadata["median_improved_accuracy"]
    last = chr(ord("A") + identity["model.vocab_size"] - 1)
    lowest = metadata["lowest_target_accuracy"]
    other_tables = ", ".join(name for name in STORE if name != "weights" and _has_table(name, metadata, identity))
    return f"""---
{front}---
# Weights of small subject networks, before and after a repair

Each of the {metadata["n_examples"]} examples is one network at two moments: *degraded*, trained while
{100 * identity["staged_training.corruption_rate"]:.0f} % of one pattern's rows had the wrong label, and *improved*,
trained on from there on clean rows. A network reads
{identity["model.sequence_length"]} letters from A to {last} and says whether they satisfy one of
its patterns (of these: {", ".join(metadata["patterns"])}). It has {low} to {high} weights and biases.

| | |
|---|---|
| examples | {metadata["n_examples"]} ({splits}) |
| networks trained and judged | {metadata["n_attempts"]}, of which {100 * metadata["yield"]:.1f} % were accepted |
| overall balanced accuracy, median | {before} degraded, {after} improved |
| improved accuracy on the target pattern | {metadata["median_target_accuracy"]} median, {lowest:.4f} lowest |
| degraded accuracy on the target pattern, highest | {metadata["highest_degraded_target_accuracy"]:.4f} |
| improved accuracy on any of a network's patterns, lowest | {metadata["lowest_listed_accuracy"]:.4f} |
| improved accuracy on any other of the patterns, highest | {_or_none(metadata["highest_unlisted_accuracy"])} |
| gain of the target pattern, median | {metadata["median_target_gain"]} |
| largest loss of any other pattern | {-min(metadata["worst_other_change"], 0):.4f} |
| precision and quantisation | {identity["model.precision"]}, {identity["model.quantization"]} |

Every example met these criteria on held-out test rows, both networks as they are stored and as the prompts show them:
{_criteria(identity)}.
The test rows are in `store/rows`, those of other patterns in `store/unlisted`, so that anyone can measure again. A gain
near its threshold is a measurement on {identity["validation.test_set_size"]} rows a pattern, and repeats on fresh rows
only within its noise.

Why the other networks were rejected (`attempts.parquet` has a row for each):

| reason | networks |
|---|---|
{rejected}

## Splits
By family, the set of patterns and the architecture: no family is in two splits, though a set of patterns may come again
with another architecture: {_overlap(metadata)}.{_heldout(heldout)}

## Loading
```python
from datasets import load_dataset

examples = load_dataset("PATH_OR_REPOSITORY", "{tasks[0]}", split="train")  # prompt, completion, …
weights = load_dataset("PATH_OR_REPOSITORY", "weights", split="train")  # numbers
```
The other tables of numbers are {other_tables}, and attempts.
`{CONFIG_FILE}` has the settings, `{SIGNATURE_FILE}` the sequences of the activation signatures.
`actlab verify` checks the files, `actlab reproduce` trains an example again and compares.
"""


def _or_none(number: float | None) -> str:
    return "not measured" if number is None else f"{number:.4f}"


def _configs(metadata: dict[str, Any], identity: dict[str, Any], tasks: Sequence[str]) -> list[dict[str, Any]]:
    configs: list[dict[str, Any]] = []
    for number, task in enumerate(tasks):
        files = [{"split": split, "path": f"{task}/{split}-*.parquet"} for split in SPLITS if metadata["splits"][split]]
        configs.append({"config_name": task, "data_files": files} | ({"default": True} if number == 0 else {}))
    for table in STORE:
        if _has_table(table, metadata, identity):
            configs.append({"config_name": table, "data_files": f"store/{table}-*.parquet"})
    return [*configs, {"config_name": "attempts", "data_files": ATTEMPTS_FILE}]


def _has_table(table: str, metadata: dict[str, Any], identity: dict[str, Any]) -> bool:
    if table == "codes":
        return bool(identity["model.quantization"] != "none")
    return table != "unlisted" or metadata["highest_unlisted_accuracy"] is not None


def _criteria(identity: dict[str, Any]) -> str:
    by_pattern = (
        f"the target pattern gains at least {identity['validation.min_pattern_improvement']}, no other pattern loses "
        f"more than {identity['validation.max_other_degradation']}, the degraded network's accuracy on its others "
        f"and the improved one's on each of its patterns are at least {identity['validation.min_accuracy']}, "
        f"the degraded one's on the target is below {identity['validation.max_degraded_accuracy']}, the improved one's "
        f"on a pattern that it is not said to have is below {identity['validation.max_unlisted_accuracy']} (by rows "
        "that satisfy none of its own), "
        if identity["validation.pattern_specific"]
        else ""
    )
    return (
        f"{by_pattern}the overall accuracy gains at least {identity['training.min_degradation_threshold']}, and "
        f"neither network answers one way on more than {identity['validation.max_one_sided']} of the rows"
    )


def _overlap(metadata: dict[str, Any]) -> str:
    """Say how many examples of the other splits have a pattern set that train has too."""
    parts = [
        f"{n} of {metadata['splits'][split]} in {split}"
        for split, n in metadata["pattern_sets_also_in_train"].items()
        if metadata["splits"][split]
    ]
    return f"the pattern set of {', '.join(parts)} is in train too" if parts else "there is no other split"


def _heldout(pair: str) -> str:
    return f' Networks that have both {pair} are all in "heldout", and in no other split.' if pair else ""
