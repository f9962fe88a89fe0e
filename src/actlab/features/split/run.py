"""`actlab split` on one screen: read the sentences, keep near-duplicates together, divide, write one file."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from actlab.features.split.compute.duplicates import near_duplicate_groups, versions_for
from actlab.features.split.compute.order import VERSION
from actlab.features.split.compute.sides import classes_of, divide
from actlab.features.split.config import SplitConfig
from actlab.features.split.source import Items, read_items
from actlab.formats.groups import joined
from actlab.formats.splits import SIDES, Splits, is_split, splits_bytes, text_id
from actlab.ground.errors import ConfigError, DataError, StorageError, did_you_mean
from actlab.ground.manifest import read_object
from actlab.ground.options import identity_of, takes
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import OneFile, write_file

log = logging.getLogger("actlab")

_TRAIN, _VALIDATION, _TEST = range(3)
_VERSIONS = {"split": VERSION}
_MOST_NAMED = 5


class MadeSplit(NamedTuple):
    """A split on disk."""

    path: Path
    splits: Splits
    n_dropped: int
    """Files or lines of the input that were left out."""


@takes(SplitConfig)
def make_split(config: SplitConfig) -> MadeSplit:
    """Divide the input's sentences and write `splits.json`, unless it is there already.

    Raises:
        ConfigError: The input, or the column or one of its values, is not there.
        DataError: The input is damaged or has too few sentences.
        StorageError: Another file is in the way.
    """
    file = OneFile(
        path=Path(os.path.expanduser(config.output)),
        overwrite=config.overwrite,
        is_own=is_split,
        foreign="is no split",
        example="--output splits.json",
    )
    file.refuse_foreign()
    made = plan_split(config)
    data, before = splits_bytes(made.splits), splits_bytes(made.splits, with_sum=False)
    if not file.has(data, before, other=lambda: _other(file.path, made.splits.settings["versions"])):
        write_file(file.path, data)
    return made


def _other(path: Path, versions: dict[str, int]) -> str:
    """Say what split is there."""
    settings = read_object(path).get("settings")
    if isinstance(settings, dict) and settings.get("versions") != versions:
        raise StorageError(
            f"{path} is a split that another version of actlab drew",
            hint="it stays valid: pass it by --split; to draw anew, choose another --output, or give --overwrite",
        )
    return "is another split"


@takes(SplitConfig)
def plan_split(config: SplitConfig) -> MadeSplit:
    """Return the split that `make_split` would write.

    Raises:
        ConfigError, DataError: As `make_split` does.
    """
    items = read_items(config)
    group_i = _groups(items, config)
    class_i = classes_of(items.labels, len(items.indices))
    side_i = _by_column(items, class_i, group_i, config) if config.by_column else _by_chance(class_i, group_i, config)
    _log_counts(items, class_i, group_i, side_i, config)
    settings = {
        **{name: value for name, value in identity_of(config).items() if (name, value) != ("group_column", None)},
        "versions": _versions(items, config),
        "input": items.input,
        "stratified_by": _stratified_by(items),
        "n_groups": int(group_i.max()) + 1,
        "near_duplicates_on_two_sides": _on_two_sides(items, group_i, side_i),
    }
    splits = Splits(
        side_of={index: SIDES[side] for index, side in zip(items.indices, side_i.tolist(), strict=True)},
        text_ids={index: text_id(text) for index, text in _texts(items).items()},
        group_of=_shared_groups(items, group_i),
        settings=settings,
    )
    return MadeSplit(Path(os.path.expanduser(config.output)), splits, items.n_dropped)


def _versions(items: Items, config: SplitConfig) -> dict[str, int]:
    return _VERSIONS | (versions_for(_texts(items).values()) if 0 < config.near_duplicates <= 1 else {})


def _groups(items: Items, config: SplitConfig) -> Int[np.ndarray, " i"]:
    """Return which sentences must stay together."""
    groups = _near_duplicates(items, config)
    if items.together is None:
        return groups
    number: dict[Any, int] = {}
    return joined(groups, np.array([number.setdefault(one, len(number)) for one in items.together]))


def _near_duplicates(items: Items, config: SplitConfig) -> Int[np.ndarray, " i"]:
    if items.texts is None:
        if 0 < config.near_duplicates <= 1 and not items.has_text_groups:
            log.info("the input has no texts: near-duplicates cannot be kept together")
        return np.arange(len(items.indices))
    texts = _texts(items)
    if len(texts) < len(items.indices):
        log.warning(
            "%d sentences have no text: no near-duplicates of theirs are known", len(items.indices) - len(texts)
        )
    groups = np.arange(len(items.indices))
    have_text = [i for i, index in enumerate(items.indices) if index in texts]
    found = near_duplicate_groups(list(texts.values()), config.near_duplicates)
    first: dict[int, int] = {}
    for i, group in zip(have_text, found.tolist(), strict=True):
        groups[i] = first.setdefault(group, i)
    return np.unique(groups, return_inverse=True)[1]


def _texts(items: Items) -> dict[int, str]:
    """Return the sentences' texts by index, those that have one."""
    texts = items.texts or [""] * len(items.indices)
    return {index: text for index, text in zip(items.indices, texts, strict=True) if text}


def _shared_groups(items: Items, group_i: Int[np.ndarray, " i"]) -> dict[int, int]:
    """Return the group of each sentence that has near-duplicates: the smallest index among them."""
    groups = [[items.indices[i] for i in members] for members in _members(group_i) if len(members) > 1]
    return {index: min(group) for group in groups for index in group}


def _by_chance(
    class_i: Int[np.ndarray, " i"], group_i: Int[np.ndarray, " i"], config: SplitConfig
) -> Int[np.ndarray, " i"]:
    shares = (1 - config.validation_size - config.test_size, config.validation_size, config.test_size)
    return divide(class_i, group_i, shares, derive_seed(config.seed, "split"))


def _by_column(
    items: Items, class_i: Int[np.ndarray, " i"], group_i: Int[np.ndarray, " i"], config: SplitConfig
) -> Int[np.ndarray, " i"]:
    """Test on the sentences whose column says so; the validation sentences are a share of the others."""
    assert items.values is not None
    known = sorted(set(items.values))
    if not config.test_value_names:
        raise ConfigError("--test-values names none", hint="give some, comma-separated: " + ", ".join(known[:10]))
    for value in config.test_value_names:
        if value not in known:
            some = f"it has {', '.join(known[:10])}{' …' if len(known) > 10 else ''}"
            raise ConfigError(
                f"no sentence has {value!r} in column {config.by_column!r}",
                hint=did_you_mean(value, known, otherwise=some),
            )
    is_test_i = np.isin(items.values, config.test_value_names)
    if is_test_i.all():
        raise DataError("every sentence has one of --test-values", hint="name fewer of them")
    side_i = np.where(is_test_i, _TEST, _TRAIN)
    if config.validation_size > 0:
        rest = np.flatnonzero(~is_test_i)
        share = min(config.validation_size * len(is_test_i) / len(rest), 1.0)
        group_of_rest = np.unique(group_i[rest], return_inverse=True)[1]
        side_i[rest] = divide(class_i[rest], group_of_rest, (1 - share, share), derive_seed(config.seed, "split"))
    return side_i


def _on_two_sides(items: Items, group_i: Int[np.ndarray, " i"], side_i: Int[np.ndarray, " i"]) -> list[list[int]]:
    """Return the near-duplicates that a column put on several sides, and warn of them."""
    found = [
        [items.indices[i] for i in members]
        for members in _members(group_i)
        if len(members) > 1 and len(set(side_i[members].tolist())) > 1
    ]
    if found:
        log.warning(
            "%d groups of near-duplicates are on two sides, as the column has it (%s); settings list them",
            len(found),
            "; ".join(", ".join(map(str, group)) for group in found[:_MOST_NAMED]),
        )
    return found


def _members(group_i: Int[np.ndarray, " i"]) -> list[list[int]]:
    order = np.argsort(group_i, kind="stable")
    return [part.tolist() for part in np.split(order, np.cumsum(np.bincount(group_i))[:-1])]


def _log_counts(
    items: Items,
    class_i: Int[np.ndarray, " i"],
    group_i: Int[np.ndarray, " i"],
    side_i: Int[np.ndarray, " i"],
    config: SplitConfig,
) -> None:
    """Say how many sentences of which label each side has, and warn where a label is on one side only."""
    names = _class_names(items, class_i)
    used = [side for side in range(len(SIDES)) if (side_i == side).any()]
    for side in used:
        counts = np.bincount(class_i[side_i == side], minlength=len(names)).tolist()
        by_label = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
        log.info("%s: %d sentences%s", SIDES[side], sum(counts), f" ({by_label})" if len(names) > 1 else "")
        if absent := [name for name, count in zip(names, counts, strict=True) if not count]:
            log.warning("%s has no sentence of label %s", SIDES[side], ", ".join(absent))
    sizes = np.bincount(group_i)
    if (sizes > 1).any():
        of = "near-duplicates" if config.group_column is None else f"near-duplicates or one {config.group_column}"
        log.info("%d groups of %s (%d sentences) are kept together", (sizes > 1).sum(), of, sizes[sizes > 1].sum())


def _class_names(items: Items, class_i: Int[np.ndarray, " i"]) -> list[str]:
    """Name each class by its label, or by the range of its labels."""
    names = []
    for one in range(int(class_i.max()) + 1):
        labels: Sequence[Any] = (
            [items.labels[i] for i in np.flatnonzero(class_i == one).tolist()] if items.labels else [0]
        )
        low, high = min(labels), max(labels)
        names.append(f"{low:g}" if low == high else f"{low:g} to {high:g}")
    return names


def _stratified_by(items: Items) -> str:
    if items.labels is None:
        return "nothing"
    return "label" if all(float(label).is_integer() for label in items.labels) else "quantiles of the label"
