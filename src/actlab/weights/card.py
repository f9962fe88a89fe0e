"""The dataset card: what the dataset is, in measured numbers, and how to load it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from actlab.formats.weights import ATTEMPTS_FILE, CONFIG_FILE, SIGNATURE_FILE, SPLITS, STORE
from actlab.ground.manifest import Identity
from actlab.weights.config.quantisations import QUANTISATIONS

_BODY = """---
{front}---
# Weights of small subject networks, before and after a repair

Each of the {n_examples} examples is one network at two moments: *degraded*, trained while
{corrupted:.0f} % of one pattern's rows had the wrong label, and *improved*,
trained on from there on clean rows. A network reads
{length} letters from A to {last} and says whether they satisfy one of
its patterns (of these: {names}). It has {n_parameters[0]} to {n_parameters[1]} weights and biases.

| | |
|---|---|
| examples | {n_examples} ({in_splits}) |
| networks trained and judged | {n_attempts}, of which {accepted:.1f} % were accepted |
| overall balanced accuracy, median | {median_degraded_accuracy} degraded, {median_improved_accuracy} improved |
| improved accuracy on the target pattern | {median_target_accuracy} median, {lowest_target_accuracy:.4f} lowest |
| degraded accuracy on the target pattern, highest | {highest_degraded_target_accuracy:.4f} |
| improved accuracy on any of a network's patterns, lowest | {lowest_listed_accuracy:.4f} |
| improved accuracy on any other of the patterns, highest | {unlisted} |
| gain of the target pattern, median | {median_target_gain} |
| largest loss of any other pattern | {loss:.4f} |
| precision and quantisation | {precision}, {quantisation} |

Every example met these criteria on held-out test rows, both networks as they are stored and as the prompts show them:
{criteria}.
The test rows are in `store/rows`, those of other patterns in `store/unlisted`, so that anyone can measure again. A gain
near its threshold is a measurement on {test_set_size} rows a pattern, and repeats on fresh rows
only within its noise.

Why the other networks were rejected (`attempts.parquet` has a row for each):

| reason | networks |
|---|---|
{reasons}

## Splits
By family, the set of patterns and the architecture: no family is in two splits, though a set of patterns may come again
with another architecture: {overlap}.{heldout}

## Loading
```python
from datasets import load_dataset

examples = load_dataset("PATH_OR_REPOSITORY", "{task}", split="train")  # prompt, completion, …
weights = load_dataset("PATH_OR_REPOSITORY", "weights", split="train")  # numbers
```
The other tables of numbers are {other_tables}, and attempts.
`{config_file}` has the settings, `{signature_file}` the sequences of the activation signatures.
`actlab verify` checks the files, `actlab reproduce` trains an example again and compares.
"""


def card(metadata: Mapping[str, Any], identity: Identity, tasks: Sequence[str]) -> str:
    """Return the card, its head declaring every table as a configuration of `datasets.load_dataset`."""
    splits, highest = metadata["splits"], metadata["highest_unlisted_accuracy"]
    has_codes = QUANTISATIONS[identity["model.quantization"]].codes
    tables = [one for one in STORE if (one != "codes" or has_codes) and (one != "unlisted" or highest is not None)]
    pair = " and ".join(metadata["heldout_pair"])
    front = {"tags": ["actlab", "interpretability", "weights"], "configs": _configs(splits, tables, tasks)}
    figures = {
        "front": yaml.safe_dump(front, sort_keys=False),
        "corrupted": 100 * identity["staged_training.corruption_rate"],
        "length": identity["model.sequence_length"],
        "last": chr(ord("A") + identity["model.vocab_size"] - 1),
        "names": ", ".join(metadata["patterns"]),
        "in_splits": ", ".join(f"{name} {n}" for name, n in splits.items() if n),
        "accepted": 100 * metadata["yield"],
        "unlisted": "not measured" if highest is None else f"{highest:.4f}",
        "loss": -min(metadata["worst_other_change"], 0),
        "precision": identity["model.precision"],
        "quantisation": identity["model.quantization"],
        "criteria": _criteria(identity),
        "test_set_size": identity["validation.test_set_size"],
        "reasons": "\n".join(f"| {reason} | {n} |" for reason, n in metadata["rejected"].items()) or "| none | 0 |",
        "overlap": _overlap(splits, metadata["pattern_sets_also_in_train"]),
        "heldout": f' Networks that have both {pair} are all in "heldout", and in no other split.' if pair else "",
        "task": tasks[0],
        "other_tables": ", ".join(name for name in tables if name != "weights"),
        "config_file": CONFIG_FILE,
        "signature_file": SIGNATURE_FILE,
    }
    return _BODY.format(**metadata, **figures)


def _configs(splits: Mapping[str, int], tables: Sequence[str], tasks: Sequence[str]) -> list[Mapping[str, object]]:
    configs: list[Mapping[str, object]] = []
    for number, task in enumerate(tasks):
        files = [{"split": split, "path": f"{task}/{split}-*.parquet"} for split in SPLITS if splits[split]]
        configs.append({"config_name": task, "data_files": files} | ({"default": True} if number == 0 else {}))
    stored = [{"config_name": table, "data_files": f"store/{table}-*.parquet"} for table in tables]
    return [*configs, *stored, {"config_name": "attempts", "data_files": ATTEMPTS_FILE}]


def _criteria(identity: Identity) -> str:
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


def _overlap(splits: Mapping[str, int], also_in_train: Mapping[str, int]) -> str:
    """Say how many examples of the other splits have a pattern set that train has too."""
    parts = [f"{n} of {splits[split]} in {split}" for split, n in also_in_train.items() if splits[split]]
    return f"the pattern set of {', '.join(parts)} is in train too" if parts else "there is no other split"
