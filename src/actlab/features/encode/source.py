"""Read what is encoded: sentences with labels from a CSV, or sentence files with hidden states."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from actlab.ground.errors import ConfigError, DataError, foreign_errors
from actlab.ground.manifest import sha256_of

UNIT_SENTENCES = 32
NO_TEXT = "no sentence"
BAD_LABEL = "the label is no number"


class Row(NamedTuple):
    """One sentence of the CSV."""

    sentence: int
    """Its row, from 0."""
    text: str
    label: float


class Dropped(NamedTuple):
    """A sentence that is not in the dataset, and why."""

    sentence: int
    reason: str


class Sentences(NamedTuple):
    """All rows of a CSV, good and bad."""

    path: Path
    sha256: str
    rows: list[Row | Dropped]

    def as_input(self) -> dict[str, Any]:
        """Return the manifest's entry for the file."""
        size = self.path.stat().st_size
        return {"role": "sentences", "name": self.path.name, "bytes": size, "sha256": self.sha256}


def read_sentences(path: str, *, text_column: str, label_column: str, limit: int | None) -> Sentences:
    """Read a CSV of sentences and labels.

    Raises:
        ConfigError: There is no such file, or it lacks a column.
        DataError: It is no CSV in UTF-8, or has no row.
    """
    import pandas as pd

    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise ConfigError(f"there is no file {path}", hint="give --input a CSV with sentence,concept_strength_label")
    digest = sha256_of(file)
    with foreign_errors(f"cannot read {path}", hint="is it a CSV in UTF-8, with a header?", kind=DataError):
        table = pd.read_csv(file, dtype=str, keep_default_na=False, nrows=limit, encoding="utf-8-sig")
    for column, flag in ((text_column, "--text-column"), (label_column, "--label-column")):
        if column not in table.columns:
            known = ", ".join(map(str, table.columns[:10]))
            raise ConfigError(f"{path} has no column {column!r}", hint=f"it has {known}: give {flag}")
    if not len(table):
        raise DataError(f"{path} has no row", hint="write one sentence a row under sentence,concept_strength_label")
    rows = [
        _row(place, str(text), str(label))
        for place, (text, label) in enumerate(zip(table[text_column], table[label_column], strict=True))
    ]
    return Sentences(file, digest, rows)


def _row(place: int, text: str, label: str) -> Row | Dropped:
    if not text.strip():
        return Dropped(place, NO_TEXT)
    try:
        value = float(label)
    except ValueError:
        return Dropped(place, BAD_LABEL)
    return Row(place, text, value) if abs(value) < 1e15 else Dropped(place, BAD_LABEL)


def units_of(n_sentences: int) -> list[dict[str, int]]:
    """Cut sentences into units.

    >>> units_of(40)
    [{'unit': 0, 'first': 0, 'n': 32}, {'unit': 1, 'first': 32, 'n': 8}]
    """
    return [
        {"unit": unit, "first": first, "n": min(UNIT_SENTENCES, n_sentences - first)}
        for unit, first in enumerate(range(0, n_sentences, UNIT_SENTENCES))
    ]
