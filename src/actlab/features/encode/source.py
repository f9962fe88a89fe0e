"""Read what is encoded: sentences with labels from a CSV, or sentence files with hidden states."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from actlab.formats.tables import Table, label_of, labels_hint, read_labels, read_table
from actlab.ground.errors import EmptyDatasetError
from actlab.ground.limits import LONG_LINE, LONG_TEXT, SHORTER_HINT, is_too_long
from actlab.ground.manifest import Unit

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


def read_sentences(
    path: str | Path, *, text_column: str, label_column: str, labels: str | None, limit: int | None
) -> Sentences:
    """Read a CSV of sentences and labels.

    Raises:
        ConfigError: There is no such file, it lacks a column, or `labels` names no numbers.
        DataError: It is no CSV in UTF-8, or has no row that is a sentence with a label.
    """
    numbers = read_labels(labels)
    table = read_table(Path(path), limit)
    table.require(text_column, "--text-column")
    table.require(label_column, "--label-column")
    rows: list[Row | Dropped] = [
        Dropped(place, LONG_LINE)
        if place in table.too_long
        else _row(place, fields, text_column, label_column, numbers)
        for place, fields in enumerate(table.rows)
    ]
    _refuse_empty(table, rows, label_column)
    return Sentences(table.path, rows)


def _refuse_empty(table: Table, rows: list[Row | Dropped], label_column: str) -> None:
    dropped = [row for row in rows if isinstance(row, Dropped)]
    if len(dropped) < len(rows):
        return
    reasons = Counter(row.reason for row in dropped).most_common()
    listed = "; ".join(f"{reason}: {count}" for reason, count in reasons)
    raise EmptyDatasetError(
        f"no row of {table.path} is a sentence with a label ({listed})",
        hint={
            NO_TEXT: "is it the right column? --text-column names another",
            LONG_LINE: SHORTER_HINT,
            LONG_TEXT: SHORTER_HINT,
            BAD_ROW: f"write as many fields in each row as in the first: {', '.join(table.columns[:10])}",
            BAD_LABEL: labels_hint(
                fields[label_column]
                for fields, row in zip(table.rows, dropped, strict=True)
                if fields is not None and row.reason == BAD_LABEL
            ),
        }[reasons[0][0]],
    )


def _row(
    place: int, fields: dict[str, str] | None, text_column: str, label_column: str, numbers: dict[str, float]
) -> Row | Dropped:
    if fields is None:
        return Dropped(place, BAD_ROW)
    if not fields[text_column].strip():
        return Dropped(place, NO_TEXT)
    if is_too_long(fields[text_column]):
        return Dropped(place, LONG_TEXT)
    label = label_of(fields[label_column], numbers)
    return Dropped(place, BAD_LABEL) if label is None else Row(place, fields[text_column], label)


def units_of(n_sentences: int) -> list[Unit]:
    """Cut sentences into units.

    >>> units_of(40)
    [{'unit': 0, 'first': 0, 'n': 32}, {'unit': 1, 'first': 32, 'n': 8}]
    """
    return [
        {"unit": unit, "first": first, "n": min(UNIT_SENTENCES, n_sentences - first)}
        for unit, first in enumerate(range(0, n_sentences, UNIT_SENTENCES))
    ]
