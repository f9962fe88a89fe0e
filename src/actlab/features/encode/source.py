"""Read what is encoded: sentences with labels from a CSV, in units; and what both ways to their states give."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from actlab.formats.sentences.write import SentenceRows
from actlab.formats.tables import Table, label_of, labels_hint, read_labels, read_table
from actlab.ground.errors import EmptyDatasetError
from actlab.ground.limits import LONG_LINE, LONG_TEXT, SHORTER_HINT, is_too_long
from actlab.ground.manifest import Unit

UNIT_SENTENCES = 32
NO_TEXT = "no sentence"
BAD_ROW = "not as many fields as the header"
BAD_LABEL = "the label is no number"
NOT_FINITE = "NaN or inf in its states"


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


class ReadStates(NamedTuple):
    """Some sentences' states, by the layers asked for and in float32, and the sentences that have none."""

    sentences: list[SentenceRows]
    dropped: list[Dropped]


def read_sentences(
    path: str | Path, *, text_column: str, label_column: str, labels: str | None, limit: int | None
) -> list[Row | Dropped]:
    """Read a CSV of sentences and labels, a row of it each.

    Raises:
        ConfigError: There is no such file, it lacks a column, or `labels` names no numbers.
        DataError: It is no CSV in UTF-8, or has no row that is a sentence with a label.
    """
    numbers, table = read_labels(labels), read_table(Path(path), limit)
    table.require(text_column, "--text-column")
    table.require(label_column, "--label-column")

    def read(place: int, fields: dict[str, str] | None) -> Row | Dropped:
        if fields is None or place in table.too_long:
            return Dropped(place, LONG_LINE if place in table.too_long else BAD_ROW)
        text, label = fields[text_column], label_of(fields[label_column], numbers)
        if not text.strip() or is_too_long(text):
            return Dropped(place, LONG_TEXT if text.strip() else NO_TEXT)
        return Dropped(place, BAD_LABEL) if label is None else Row(place, text, label)

    rows = [read(place, fields) for place, fields in enumerate(table.rows)]
    if all(isinstance(row, Dropped) for row in rows):
        raise _nothing_left(table, rows, label_column)
    return rows


def _nothing_left(table: Table, rows: list[Row | Dropped], label_column: str) -> EmptyDatasetError:
    dropped = [row for row in rows if isinstance(row, Dropped)]
    reasons = Counter(row.reason for row in dropped).most_common()
    listed = "; ".join(f"{reason}: {count}" for reason, count in reasons)
    return EmptyDatasetError(
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


def units_of(n_sentences: int) -> list[Unit]:
    """Cut sentences into units.

    >>> units_of(40)
    [{'unit': 0, 'first': 0, 'n': 32}, {'unit': 1, 'first': 32, 'n': 8}]
    """
    return [
        {"unit": unit, "first": first, "n": min(UNIT_SENTENCES, n_sentences - first)}
        for unit, first in enumerate(range(0, n_sentences, UNIT_SENTENCES))
    ]
