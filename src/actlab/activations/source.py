"""Read datasets: JSONL files of prompts and responses, in units of whole shards of source lines."""

import difflib
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from actlab.ground.errors import ActlabError, ConfigError, DataError
from actlab.ground.hashes import FileState
from actlab.ground.integrity import open_sealed
from actlab.ground.limits import LONG_LINE, lines_of, refuse_pipe
from actlab.ground.log import log
from actlab.ground.manifest import InputEntry
from actlab.ground.storage import safe_name

TEXT_SPLIT = "text"
UNIT_LINES = 512
"""A unit is so many source lines, or one shard where a shard is longer."""
_ROWS_LOOKED_AT = 1000
_READ_BYTES = 1 << 20


BAD_LINES = ("invalid UTF-8", "bad JSON", "not a JSON object", "no text", "no prompt", "invalid Unicode", LONG_LINE)
"""Why a line is no row."""


class Row(NamedTuple):
    """One source line that could be read."""

    line: int
    """From 1, as editors count."""
    row_id: str
    prompt: str
    """Empty for plain texts."""
    responses: dict[str, str]
    """By split; a split that the row lacks is not here."""
    messages: tuple[dict[str, str], ...] | None = None
    """The conversation, where the row is one; its last message is the response."""
    not_text: tuple[str, ...] = ()
    """The splits whose response is something else than text."""

    @property
    def prompt_id(self) -> str:
        """Twelve hex digits that rows with the same prompt share; a plain text stands for its own prompt."""
        text = self.prompt or "\n".join(self.responses.values())
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Dropped(NamedTuple):
    """A record that is not in the dataset, and why."""

    line: int
    split: str | None
    """None where the whole line is lost."""
    reason: str


class UnitLines(NamedTuple):
    """Where a unit's source lines lie."""

    unit: int
    first_line: int
    """From 0."""
    n_lines: int
    offset: int
    """In bytes."""


@dataclass(frozen=True)
class Source:
    """One dataset file, scanned."""

    path: Path
    name: str
    n_bytes: int
    sha256: str
    n_lines: int
    """Lines to be read, `--limit` heeded."""
    splits: tuple[str, ...]
    units: tuple[UnitLines, ...]
    state: FileState
    """When it was hashed: a file that changes meanwhile is refused."""

    def as_input(self) -> InputEntry:
        """Return the manifest's entry for this file."""
        return {"role": "dataset", "name": self.path.name, "bytes": self.n_bytes, "sha256": self.sha256}


def find_datasets(paths: Iterable[str | Path]) -> list[Path]:
    """Return the JSONL files that the user named, folders opened up.

    Raises:
        ConfigError: A path is not there, a folder has none, or two files would share a dump's name.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(one for one in path.glob("*.jsonl") if one.is_file() and not one.name.startswith("."))
            if not inside:
                raise ConfigError(f"the folder {path} has no .jsonl file", hint="give --dataset FILE.jsonl")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            refuse_pipe(path)
            raise ConfigError(f"there is no dataset {path}", hint="give --dataset FILE.jsonl or a folder of them")
    names: dict[str, Path] = {}
    for path in found:
        safe_name(path.stem, "dataset")
        other = names.setdefault(path.stem, path)
        if other is not path:
            raise ConfigError(
                f"two datasets would be named {path.stem}: {other} and {path}",
                hint="rename one, or run twice",
            )
    return found


def scan(path: Path, *, splits: tuple[str, ...], shard_size: int, limit: int | None) -> Source:
    """Read a file once: hash it, find where its units begin, and see what its rows look like.

    Raises:
        DataError: It is empty, or no row has any of the splits.
        StorageError: It is a sealed dataset's and not as it was written.
    """
    lines_per_unit = shard_size * max(1, UNIT_LINES // shard_size)
    digest = hashlib.sha256()
    starts: list[int] = []
    n_bytes = n_lines = 0
    try:
        with open_sealed(path) as file:
            state = FileState.by(os.fstat(file.fileno()))
            for line in _pieces(file):
                digest.update(line.data)
                if line.begins:
                    if n_lines % lines_per_unit == 0:
                        starts.append(n_bytes)
                    n_lines += 1
                n_bytes += len(line.data)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file") from error
    if n_lines == 0:
        raise DataError(f"{path} is empty", hint='write one JSON object a line: {"prompt": …, "EM": …}')
    n_lines = min(n_lines, limit or n_lines)
    units = tuple(
        UnitLines(unit, first, min(lines_per_unit, n_lines - first), starts[unit])
        for unit, first in enumerate(range(0, n_lines, lines_per_unit))
    )
    found = _splits_in(path, splits, n_lines)
    return Source(path, path.stem, n_bytes, digest.hexdigest(), n_lines, found, units, state)


class _Piece(NamedTuple):
    data: bytes
    begins: bool
    """Whether a line begins with this piece."""


def _pieces(file: BinaryIO) -> Iterator[_Piece]:
    """Yield a binary file in pieces of at most 1 MiB, cut at line ends."""
    begins = True
    while data := file.readline(_READ_BYTES):
        yield _Piece(data, begins)
        begins = data.endswith(b"\n")


def read_unit(source: Source, unit: UnitLines) -> Iterator[Row | Dropped]:
    """Yield a unit's rows, and what could not be read as one. Blank lines are neither.

    Raises:
        DataError: The file is not the one that was scanned any more.
    """
    changed = DataError(
        f"{source.path} changed during the run",
        hint="run again: what was made from the old file is refused, unless you give --overwrite",
    )
    try:
        with source.path.open("rb") as file:
            file.seek(unit.offset)
            lines = list(itertools.islice(lines_of(file), unit.n_lines))
            if FileState.by(os.fstat(file.fileno())) != source.state:
                raise changed
    except OSError as error:
        raise changed from error
    for line, data in enumerate(lines, start=unit.first_line + 1):
        if data is None:
            yield Dropped(line, None, LONG_LINE)
        elif data.strip():
            yield parse_line(data, line, source.splits)


def parse_line(data: bytes, line: int, splits: tuple[str, ...]) -> Row | Dropped:
    """Turn one source line into a row, or into the reason why it is none.

    >>> parse_line(b'{"prompt": "Hi", "EM": "Yo", "Neutral": ""}', 1, ("EM", "Neutral"))
    Row(line=1, row_id='1', prompt='Hi', responses={'EM': 'Yo'}, messages=None, not_text=())
    >>> parse_line(b'{"prompt": "Hi"', 2, ("EM",))
    Dropped(line=2, split=None, reason='bad JSON')
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(text.removeprefix("\ufeff") if line == 1 else text)
    except UnicodeDecodeError:
        return Dropped(line, None, "invalid UTF-8")
    except (ValueError, RecursionError):
        return Dropped(line, None, "bad JSON")
    if not isinstance(value, dict):
        return Dropped(line, None, "not a JSON object")
    row_id = value.get("id", line)
    row_id = str(row_id) if isinstance(row_id, str | int) else str(line)  # an id may be a number
    messages = None
    prompt: object
    texts: dict[str, object]
    if splits == (TEXT_SPLIT,) and "prompt" not in value:
        if value.get("text"):
            prompt, texts = "", {TEXT_SPLIT: value["text"]}
        elif messages := _messages(value):
            contents = [message["content"] for message in messages]
            prompt, texts = "\n".join(contents[:-1]), {TEXT_SPLIT: contents[-1]}
        else:
            return Dropped(line, None, "no text")
    else:
        prompt, texts = value.get("prompt"), {name: value.get(name) for name in splits}
        if splits == (TEXT_SPLIT,) and not texts[TEXT_SPLIT]:
            return Dropped(line, None, "no text")
    if not isinstance(prompt, str) or (not prompt and splits != (TEXT_SPLIT,)):
        return Dropped(line, None, "no prompt")
    if not _is_unicode(json.dumps([row_id, prompt, list(texts.values()), messages], ensure_ascii=False)):
        return Dropped(line, None, "invalid Unicode")
    responses = {name: text for name, text in texts.items() if isinstance(text, str) and text}
    not_text = tuple(name for name, text in texts.items() if not isinstance(text, str | None))
    return Row(line, row_id, prompt, responses, messages, not_text)


def _messages(value: dict[str, object]) -> tuple[dict[str, str], ...] | None:
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    if not all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in messages):
        return None
    return tuple(messages)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, written as \\ud800
        return False
    return True


def _splits_in(path: Path, splits: tuple[str, ...], n_lines: int) -> tuple[str, ...]:
    """Return the splits of a file, pairs or plain texts, and refuse a file whose first rows have none.

    A split that no row has, while the rows have a key that is nearly its name, is taken for a slip.
    """
    reasons: Counter[str] = Counter()
    keys: dict[str, None] = {}
    seen: set[str] = set()
    with path.open("rb") as file:
        for index, data in enumerate(itertools.islice(lines_of(file), min(n_lines, _ROWS_LOOKED_AT))):
            if data is None:
                reasons[LONG_LINE] += 1
                continue
            if not data.strip():
                continue
            as_pairs = parse_line(data, index + 1, splits)
            if isinstance(as_pairs, Row):
                seen |= as_pairs.responses.keys()
                keys |= dict.fromkeys(json.loads(data.decode("utf-8-sig")))
            elif not seen and isinstance(parse_line(data, index + 1, (TEXT_SPLIT,)), Row):
                return (TEXT_SPLIT,)
            reasons[as_pairs.reason if isinstance(as_pairs, Dropped) else "none of the splits"] += 1
    others = [key for key in keys if key not in ("prompt", "id", *splits)]
    if not seen:
        counts = ", ".join(f"{reason} ({count})" for reason, count in reasons.items()) or "blank lines only"
        hint = f"its rows have the keys {', '.join(others)}: give --splits {','.join(others)}"
        form = 'write one JSON object a line: {"prompt": …, "EM": …, "Neutral": …}'
        raise DataError(
            f"{path} has no row with a response in its first {_ROWS_LOOKED_AT} lines: {counts}",
            hint=hint if others else form,
        )
    for name in (name for name in splits if name not in seen):
        if near := difflib.get_close_matches(name, others, n=1):
            raise DataError(f"no row of {path} has the split {name!r}", hint=f"did you mean {near[0]!r}?")
        log.warning("%s: none of its first rows has the split %s", path, name)
    return splits


def refuse(dropped: Dropped, source: Source) -> ActlabError:
    """Return the error that `--on-bad error` raises for a dropped record."""
    where = f"{source.path}, line {dropped.line}" + (f", {dropped.split}" if dropped.split else "")
    return DataError(f"{where}: {dropped.reason}", hint="fix it, or use --on-bad drop to go on without it")
