"""CSV files of sentences: every command that reads one numbers its rows alike."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from actlab.ground.errors import ConfigError, DataError, did_you_mean, foreign_errors
from actlab.ground.integrity import open_sealed
from actlab.ground.limits import LINE_BYTES, LONG_LINE, SHORTER_HINT, is_ended, needed_file

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
    """None where a row has not as many fields as the header, or is too long."""
    too_long: frozenset[int] = frozenset()
    """The rows that were not read for their length."""

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
    hint = f"give a CSV with the columns {TEXT_COLUMN},{LABEL_COLUMN}"
    path = needed_file(path, "there is no file", hint=hint, kind=ConfigError)
    hint = "is it a CSV in UTF-8, its first line the columns' names?"
    with (
        foreign_errors(f"cannot read {path}", hint=hint, kind=DataError),
        io.TextIOWrapper(open_sealed(path), encoding="utf-8-sig", newline="") as file,
    ):
        csv.field_size_limit(LINE_BYTES)
        lines = _Lines(file, path)
        records = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        columns = tuple(name.strip() for name in next(records, []))
        if lines.was_too_long:
            raise DataError(f"the first line of {path} is a {LONG_LINE}", hint=hint)
        rows: list[dict[str, str] | None] = []
        too_long: set[int] = set()
        while limit is None or len(rows) < limit:
            lines.begin_record()
            fields = next(records, None)
            if fields is None:
                break
            if lines.was_too_long:
                too_long.add(len(rows))
            if fields or lines.was_too_long:
                rows.append(dict(zip(columns, fields, strict=True)) if len(fields) == len(columns) else None)
    if any("\0" in value for row in rows if row is not None for value in row.values()):
        raise DataError(f"{path} holds NUL characters", hint="is it text? Take them out")
    if len(set(columns)) < len(columns):
        raise DataError(f"{path} has two columns of one name: {', '.join(columns)}", hint="rename one")
    if not rows:
        raise DataError(f"{path} has no row", hint=f"write one sentence a row under {TEXT_COLUMN},{LABEL_COLUMN}")
    return Table(path, columns, rows, frozenset(too_long))


class _Lines:
    """A CSV's lines; an empty one stands for a record that is too long."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.begin_record()

    def begin_record(self) -> None:
        self._n_taken = 0
        self.was_too_long = False

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LINE_BYTES + 1):
            self._n_taken += 1
            if len(line) > LINE_BYTES:
                self._pass_over(line)
                line = "\n"
            yield line

    def _pass_over(self, line: str) -> None:
        """Read the rest of a line that is too long."""
        n_quotes = line.count('"')
        while line and not is_ended(line):
            line = self._file.readline(LINE_BYTES)
            n_quotes += line.count('"')
        if self._n_taken > 1 or n_quotes % 2:  # which of the next lines belong to it, nobody knows
            raise DataError(f"{self._path} has a {LONG_LINE} inside a quoted field", hint=SHORTER_HINT)
        self.was_too_long = True


def label_of(text: str, numbers: Mapping[str, float] | None = None) -> float | None:
    """Return a label as a number, by its name if it has one, or None where it is none that can be told from others.

    >>> label_of(" 3"), label_of("much"), label_of("inf"), label_of("high ", {"high": 3.0})
    (3.0, None, None, 3.0)
    """
    if numbers and text.strip() in numbers:
        return numbers[text.strip()]
    if _NUMBER.fullmatch(text.strip()) is None:
        return None
    value = float(text)
    return value if abs(value) < _LARGEST_LABEL else None


def read_labels(spec: str | None) -> dict[str, float]:
    """Read which number each label in words stands for.

    >>> read_labels("low=0, high=3")
    {'low': 0.0, 'high': 3.0}

    Raises:
        ConfigError: It is none such, or a label stands twice.
    """
    numbers: dict[str, float] = {}
    for one in spec.split(",") if spec is not None else ():
        name, _, number = one.rpartition("=")
        value = label_of(number)
        if not name.strip() or value is None or name.strip() in numbers:
            what = "twice" if name.strip() in numbers else "without a number"
            raise ConfigError(f"--labels {spec!r} has {one.strip()!r} {what}", hint="write low=0,high=3")
        numbers[name.strip()] = value
    return numbers


def labels_hint(labels: Iterable[str]) -> str:
    """Say what helps where labels are no numbers, by the labels themselves.

    >>> labels_hint(["high", "low", "high"])
    'say which number each label stands for: --labels low=0,high=3'
    """
    names = {label.strip() for label in labels}
    if not all(names) or len(names) > _MOST_NAMES or any("," in name for name in names):
        return "is it the right column? --label-column names another"
    ordered = sorted(names, key=lambda name: (_RANKS.get(name.lower(), len(_SCALE)), name))
    last = max(1, len(ordered) - 1)
    numbers = [max(_STRONGEST, last) * place / last for place in range(len(ordered))]
    spec = ",".join(f"{name}={number:.0f}" for name, number in zip(ordered, numbers, strict=True))
    return "say which number each label stands for: --labels " + (f"'{spec}'" if " " in spec else spec)


_MOST_NAMES = 8
"""Beyond these, a column is free text rather than labels."""
_STRONGEST = 3
"""Labels of a concept's strength go from 0 to 3."""
_SCALE = (
    ("none", "no", "never", "false", "negative", "absent", "off"),
    ("low", "weak", "little", "mild", "slight"),
    ("medium", "mid", "moderate", "neutral", "some"),
    ("high", "strong", "much", "yes", "always", "true", "positive", "present", "on"),
)
"""Words that labels are often made of, weak ones first."""
_RANKS = {word: rank for rank, words in enumerate(_SCALE) for word in words}
