"""Read what is encoded: sentences with labels from a CSV, or sentence files with hidden states."""

import os
from pathlib import Path
from typing import NamedTuple

from actlab.formats.tables import label_of, read_table

UNIT_SENTENCES = 32
NO_TEXT = "no sentence"
BAD_ROW = "not as many fields as the header"
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
    rows: list[Row | Dropped]


def read_sentences(path: str, *, text_column: str, label_column: str, limit: int | None) -> Sentences:
    """Read a CSV of sentences and labels.

    Raises:
        ConfigError: There is no such file, or it lacks a column.
        DataError: It is no CSV in UTF-8, or has no row.
    """
    table = read_table(Path(os.path.expanduser(path)), limit)
    table.require(text_column, "--text-column")
    table.require(label_column, "--label-column")
    rows = [_row(place, fields, text_column, label_column) for place, fields in enumerate(table.rows)]
    return Sentences(table.path, rows)


def _row(place: int, fields: dict[str, str] | None, text_column: str, label_column: str) -> Row | Dropped:
    if fields is None:
        return Dropped(place, BAD_ROW)
    if not fields[text_column].strip():
        return Dropped(place, NO_TEXT)
    label = label_of(fields[label_column])
    return Dropped(place, BAD_LABEL) if label is None else Row(place, fields[text_column], label)


def units_of(n_sentences: int) -> list[dict[str, int]]:
    """Cut sentences into units.

    >>> units_of(40)
    [{'unit': 0, 'first': 0, 'n': 32}, {'unit': 1, 'first': 32, 'n': 8}]
    """
    return [
        {"unit": unit, "first": first, "n": min(UNIT_SENTENCES, n_sentences - first)}
        for unit, first in enumerate(range(0, n_sentences, UNIT_SENTENCES))
    ]
