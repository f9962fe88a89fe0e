"""Which sentences a chain of commands trains on and tests on: `splits.json`.

The unit is the sentence, so all rows of one sentence are on one side.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from actlab.ground.errors import DataError, StorageError
from actlab.ground.integrity import read_sealed_json
from actlab.ground.limits import needed_file
from actlab.ground.manifest import fingerprint, read_json, to_json

KIND = "splits"
SIDES = ("train", "validation", "test")
_SUM = "sha256"
"""Over all else in the file; the fingerprint is over the sides alone."""


@dataclass(frozen=True)
class Splits:
    """Every sentence on one side."""

    side_of: Mapping[int, str]
    """Sentence index to "train", "validation" or "test"."""
    text_ids: Mapping[int, str]
    """Sentence index to `text_id` of its text; empty where the input had no texts."""
    settings: Mapping[str, object]
    """How it was made."""
    group_of: Mapping[int, int] = field(default_factory=dict)
    """The near-duplicates that a sentence belongs to, named by the smallest index among them; not where it has none."""

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that say which split this is."""
        return fingerprint([sorted((index, side) for index, side in self.side_of.items())])[:12]

    def indices(self, side: str) -> list[int]:
        """Return the sentences of one side, ascending."""
        return sorted(index for index, of in self.side_of.items() if of == side)

    @property
    def sizes(self) -> dict[str, int]:
        """How many sentences each side has."""
        return {side: len(self.indices(side)) for side in SIDES}

    def sides(self, sentence_indices: Iterable[int]) -> Shaped[np.ndarray, " n"]:
        """Return each row's side.

        Raises:
            DataError: A sentence is on no side.
        """
        indices = [int(index) for index in sentence_indices]
        if unknown := sorted(set(indices) - self.side_of.keys()):
            raise DataError(
                f"the split knows nothing of sentence {unknown[0]} ({len(unknown)} sentences in all)",
                hint="was it made from other sentences? Make it from this input: actlab split --input …",
            )
        return np.array([self.side_of[index] for index in indices], dtype="<U10")

    def groups(self, sentence_indices: Iterable[int]) -> Int[np.ndarray, " n"]:
        """Return each row's group: its sentence, or the first of the sentence's near-duplicates."""
        return np.array([self.group_of.get(int(index), int(index)) for index in sentence_indices], dtype=np.int64)

    def check_texts(self, texts: Mapping[int, str]) -> None:
        """Refuse a split that was made for other sentences under the same numbers.

        Raises:
            DataError: A text is not the one that the split was made for.
        """
        for index, text in texts.items():
            if index in self.text_ids and self.text_ids[index] != text_id(text):
                raise DataError(
                    f"the split was made for another text than sentence {index} of this input",
                    hint="make it from this input: actlab split --input …",
                )


def text_id(text: str) -> str:
    """Return twelve hex digits that stand for a text.

    >>> text_id("Hello")
    '185f8db32271'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def splits_bytes(splits: Splits, *, with_sum: bool = True) -> bytes:
    """Return the bytes of `splits.json`; without its sum, those that actlab 0.2 wrote."""
    content: dict[str, object] = {
        "kind": KIND,
        "format_version": 1,
        "fingerprint": splits.fingerprint,
        "settings": dict(splits.settings),
        **{side: splits.indices(side) for side in SIDES},
        "groups": {str(index): splits.group_of[index] for index in sorted(splits.group_of)},
        "text_ids": {str(index): splits.text_ids[index] for index in sorted(splits.text_ids)},
    }
    return to_json(content | {_SUM: fingerprint(content)} if with_sum else content)


def is_split(path: Path) -> bool:
    """Whether a file is a split, of this or another version."""
    try:
        content = read_json(path)
    except StorageError:
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def read_splits(path: str | Path) -> Splits:
    """Read `splits.json`.

    Raises:
        DataError: It is none, or a sentence is on two sides.
    """
    hint = "make it anew: actlab split --input … --output splits.json"
    path = needed_file(path, "there is no split", hint=hint.replace("it anew", "one"))
    content = read_sealed_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise DataError(f"{path} is no split", hint=hint)
    if content.get("format_version", 1) != 1:
        raise DataError(f"{path} is of version {content['format_version']}", hint="a newer actlab made it: upgrade")
    found = content.pop(_SUM, None)
    if found is not None and found != fingerprint(content):
        raise DataError(
            f"{path} is damaged: it does not hold what was written (sha256 differs)",
            hint=f"{hint}; if it was edited by hand, remove its sha256 and fingerprint",
        )
    side_of: dict[int, str] = {}
    for side in SIDES:
        indices = content.get(side, [])
        if not isinstance(indices, list) or not all(type(index) is int and index >= 0 for index in indices):
            raise DataError(f"{path} has something else than sentence indices under {side!r}", hint=hint)
        for index in indices:
            if index in side_of:
                raise DataError(f"{path} has sentence {index} under {side_of[index]!r} and {side!r}", hint=hint)
            side_of[index] = side
    if "train" not in side_of.values():
        raise DataError(f"{path} has no sentence to train on", hint=hint)
    text_ids, groups, settings = (content.get(key, {}) for key in ("text_ids", "groups", "settings"))
    if not all(isinstance(one, dict) for one in (text_ids, groups, settings)):
        raise DataError(f"{path} is no split", hint=hint)
    if not all(map(str.isdecimal, [*text_ids, *groups])) or not all(type(one) is int for one in groups.values()):
        raise DataError(f"{path} names sentences by something else than their indices", hint=hint)
    splits = Splits(
        side_of,
        {int(index): str(one) for index, one in text_ids.items()},
        settings,
        {int(index): one for index, one in groups.items()},
    )
    if content.get("fingerprint", splits.fingerprint) != splits.fingerprint:
        raise DataError(f"{path} is damaged: its fingerprint is not that of its sides", hint=hint)
    return splits
