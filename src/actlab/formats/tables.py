"""CSV files of sentences: every command that reads one numbers its rows alike."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actlab.ground.errors import ConfigError, DataError, did_you_mean, foreign_errors

TEXT_COLUMN, LABEL_COLUMN = "sentence", "concept_strength_label"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_LARGEST_LABEL = 1e15
"""Beyond it a float is no longer sure to be the number that was written."""


@dataclass(frozen=True)
class Table:
    """A CSV's rows, numbered from 0; blank lines are none."""

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str] | None]
    """None where a row has not as many fields as the header."""

    def require(self, column: str, flag: str) -> None:
        """Refuse a table without a column.

        Raises:
            ConfigError: It has no such column; the hint names the nearest, and the flag that chooses another.
        """
        if column not in self.columns:
            known = f"it has {', '.join(self.columns[:10])}: give {flag}"
            raise ConfigError(
                f"{self.path} has no column {column!r}", hint=did_you_mean(column, self.columns, otherwise=known)
            )


def read_table(path: Path, limit: int | None = None) -> Table:
    """Read a CSV in UTF-8, or with tabs where its name ends in .tsv; at most `limit` rows.

    Raises:
        ConfigError: There is no such file.
        DataError: It is none, has no row, or two columns of one name.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint=f"give a CSV with the columns {TEXT_COLUMN},{LABEL_COLUMN}")
    hint = "is it a CSV in UTF-8, its first line the columns' names?"
    with (
        foreign_errors(f"cannot read {path}", hint=hint, kind=DataError),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        csv.field_size_limit(1 << 30)
        lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        columns = tuple(name.strip() for name in next(lines, []))
        rows: list[dict[str, str] | None] = []
        for fields in lines:
            if limit is not None and len(rows) >= limit:
                break
            if fields:
                rows.append(_row(columns, fields))
    if any("\0" in value for row in rows if row is not None for value in row.values()):
        raise DataError(f"{path} holds NUL characters", hint="is it text? Take them out")
    if len(set(columns)) < len(columns):
        raise DataError(f"{path} has two columns of one name: {', '.join(columns)}", hint="rename one")
    if not rows:
        raise DataError(f"{path} has no row", hint=f"write one sentence a row under {TEXT_COLUMN},{LABEL_COLUMN}")
    return Table(path, columns, rows)


def _row(columns: Sequence[str], fields: Sequence[str]) -> dict[str, str] | None:
    return dict(zip(columns, fields, strict=True)) if len(fields) == len(columns) else None


def label_of(text: str) -> float | None:
    """Return a label as a number, or None where it is none that can be told apart from others.

    >>> label_of(" 3"), label_of("much"), label_of("inf")
    (3.0, None, None)
    """
    if _NUMBER.fullmatch(text.strip()) is None:
        return None
    value = float(text)
    return value if abs(value) < _LARGEST_LABEL else None
