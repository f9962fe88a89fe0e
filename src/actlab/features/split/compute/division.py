"""A division of sentences: what stays together, and who is on which side."""

# i sentence, c class

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from actlab.features.split.compute.duplicates import text_groups
from actlab.features.split.compute.sides import classes_of, divide
from actlab.features.split.config import SplitConfig
from actlab.features.split.source import Items
from actlab.formats.groups import joined
from actlab.formats.splits import SIDES
from actlab.ground.errors import ConfigError, DataError, did_you_mean
from actlab.ground.log import log
from actlab.ground.seeds import derive_seed

_TRAIN, _VALIDATION, _TEST = range(3)
_MOST_NAMED = 5


@dataclass(frozen=True)
class Division:
    """Sentences on their sides."""

    items: Items
    class_i: Int[np.ndarray, " i"]
    group_i: Int[np.ndarray, " i"]
    """What stays together, numbered from 0."""
    side_i: Int[np.ndarray, " i"]
    """Places in `SIDES`."""

    @cached_property
    def several(self) -> list[list[int]]:
        """The places of those that stay together, group by group, where they are more than one."""
        parts = np.split(np.argsort(self.group_i, kind="stable"), np.cumsum(np.bincount(self.group_i))[:-1])
        return [part.tolist() for part in parts if len(part) > 1]

    @property
    def group_of(self) -> dict[int, int]:
        """The group of each sentence that has near-duplicates: the smallest index among them."""
        groups = [[self.items.indices[i] for i in members] for members in self.several]
        return {index: min(group) for group in groups for index in group}

    @cached_property
    def on_two_sides(self) -> list[list[int]]:
        """The near-duplicates that a column put on several sides."""
        several = [members for members in self.several if len(np.unique(self.side_i[members])) > 1]
        return [[self.items.indices[i] for i in members] for members in several]

    def tell(self, config: SplitConfig) -> None:
        """Log how many sentences of which label each side has; warn of what a test on them would suffer from."""
        names = _class_names(self.items, self.class_i)
        for side in np.unique(self.side_i).tolist():
            counts = np.bincount(self.class_i[self.side_i == side], minlength=len(names)).tolist()
            by_label = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
            log.info("%s: %d sentences%s", SIDES[side], sum(counts), f" ({by_label})" if len(names) > 1 else "")
            if absent := [name for name, count in zip(names, counts, strict=True) if not count]:
                log.warning("%s has no sentence of label %s", SIDES[side], ", ".join(absent))
        if self.several:
            of = "near-duplicates" if config.group_column is None else f"near-duplicates or one {config.group_column}"
            n = sum(map(len, self.several))
            log.info("%d groups of %s (%d sentences) are kept together", len(self.several), of, n)
        if self.on_two_sides:
            log.warning(
                "%d groups of near-duplicates are on two sides, as the column has it (%s); settings list them",
                len(self.on_two_sides),
                "; ".join(", ".join(map(str, group)) for group in self.on_two_sides[:_MOST_NAMED]),
            )


def divided(items: Items, config: SplitConfig) -> Division:
    """Divide sentences by chance, or by a column's values; the same seed gives the same sides.

    Raises:
        ConfigError: A value of the column is not there.
        DataError: They are too few.
    """
    group_i = _near_duplicates(items, config)
    if items.together is not None:
        number: dict[Hashable, int] = {}
        group_i = joined(group_i, np.array([number.setdefault(one, len(number)) for one in items.together]))
    class_i = classes_of(items.labels, len(items.indices))
    if config.by_column is not None:
        return Division(items, class_i, group_i, _by_column(items, class_i, group_i, config))
    shares = (1 - config.validation_size - config.test_size, config.validation_size, config.test_size)
    return Division(items, class_i, group_i, divide(class_i, group_i, shares, derive_seed(config.seed, "split")))


def _near_duplicates(items: Items, config: SplitConfig) -> Int[np.ndarray, " i"]:
    if items.texts is None:
        if config.looks_for_duplicates and not items.has_text_groups:
            log.info("the input has no texts: near-duplicates cannot be kept together")
        return np.arange(len(items.indices))
    if n_without := len(items.indices) - len(items.texts_told):
        log.warning("%d sentences have no text: no near-duplicates of theirs are known", n_without)
    return text_groups(items.texts, config.near_duplicates)


def _by_column(
    items: Items, class_i: Int[np.ndarray, " i"], group_i: Int[np.ndarray, " i"], config: SplitConfig
) -> Int[np.ndarray, " i"]:
    """Test on the sentences whose column says so; the validation sentences are a share of the others."""
    assert items.values is not None
    known = sorted(set(items.values))
    if not config.test_value_names:
        raise ConfigError("--test-values names none", hint="give some, comma-separated: " + ", ".join(known[:10]))
    if missing := [value for value in config.test_value_names if value not in known]:
        some = f"it has {', '.join(known[:10])}{' …' if len(known) > 10 else ''}"
        raise ConfigError(
            f"no sentence has {missing[0]!r} in column {config.by_column!r}",
            hint=did_you_mean(missing[0], known, otherwise=some),
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


def _class_names(items: Items, class_i: Int[np.ndarray, " i"]) -> list[str]:
    """Name each class by its label, or by the range of its labels."""
    label_i = np.zeros(len(class_i)) if items.labels is None else np.array(items.labels, dtype=np.float64)
    ranges = [(label_i[class_i == one].min(), label_i[class_i == one].max()) for one in range(int(class_i.max()) + 1)]
    return [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in ranges]
