"""Documents as JSON lines: one text each, with its tokens counted and its labels kept."""

import codecs
import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple, TypeVar

from actlab.ground.errors import ConfigError, DataError
from actlab.ground.integrity import open_sealed
from actlab.ground.limits import LONG_LINE, LONG_TEXT, SHORTER_HINT, is_too_long, lines_of, refuse_pipe

KIND = "text"
FILE_NAME = "documents.jsonl"

_HINT = 'each line is a JSON object with at least "text": a string that is not empty'
MAKE_ONE = "make one with: actlab generate-text PROMPT --output DIR"
_A = {str: "text", int: "a whole number", dict: "an object"}
Field = TypeVar("Field", str, int, dict[str, object])
_MOST_TOKENS = 2**53
"""What JSON's other readers still count exactly; no text is so long."""


BROKEN = re.compile("[\ufffd\ufffe\uffff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no text has that was read as it was written: control characters other than tabs and ends of lines, and what
stands for letters that could not be read."""
UNPRINTABLE = re.compile(f"{BROKEN.pattern[:-1]}\u202d\u202e]")
"""That, and what turns the direction of all that follows: in a terminal it shows what is not there."""


class Document(NamedTuple):
    """A text and what is known of it."""

    id: str
    text: str
    n_tokens: int
    """In the tokens of the student's tokenizer; 0 where nobody counted."""
    source: str
    """What made it: "template", "ollama", "openai"; "file" where the row does not say."""
    labels: dict[str, object]


def document_line(doc: Document) -> bytes:
    r"""Write a document as one line of JSON.

    >>> document_line(Document("0", "Stir well.", 3, "template", {}))
    b'{"id": "0", "text": "Stir well.", "n_tokens": 3, "source": "template", "labels": {}}\n'
    """
    return (json.dumps(doc._asdict(), ensure_ascii=False, allow_nan=False) + "\n").encode()


def find_documents(path: Path) -> Path:
    """Return the file of documents that a path names, by itself or by its folder.

    Raises:
        ConfigError: There is none.
    """
    file = _file(path)
    if not file.is_file():
        refuse_pipe(file)
        what = f"{path} holds no {FILE_NAME}" if path.is_dir() else f"there is no file {path}"
        raise ConfigError(what, hint=f"name a folder with {FILE_NAME}, or a JSONL file; {MAKE_ONE}")
    return file


def read_documents(path: Path, *, allow_empty: bool = False) -> Generator[Document, None, None]:
    """Read the documents of a file, or of the `documents.jsonl` in a folder, one after the other.

    A row with `text` alone gets its line's number (from 1) as id, no tokens, no labels and the source "file". Line
    ends in texts become line feeds. Blank lines are passed over; a text of nothing but white space is an error
    unless `allow_empty`. Whoever stops early closes it, as `open_sealed` says.

    Raises:
        DataError: The file is not there, or a line (which the message names) is no such row.
        StorageError: The file is a sealed dataset's and not as it was written; seen at its end at the latest.
    """
    file = _file(path)
    try:
        with open_sealed(file) as lines:
            for number, line in enumerate(lines_of(lines), start=1):
                if line is None:
                    raise DataError(f"{file}: line {number} is a {LONG_LINE}", hint=SHORTER_HINT)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield _document(line, number, f"{file}: line {number}", allow_empty)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", hint=MAKE_ONE) from None


def _file(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


def _document(line: bytes, number: int, where: str, allow_empty: bool) -> Document:
    row = _row(line, where)
    doc = Document(
        id=_field(row, "id", str(number), where),
        text=_field(row, "text", "", where).replace("\r\n", "\n").replace("\r", "\n"),
        n_tokens=_field(row, "n_tokens", 0, where),
        source=_field(row, "source", "file", where),
        labels=_field(row, "labels", {}, where),
    )
    if not doc.text.strip() and not (allow_empty and "text" in row):
        raise DataError(f"{where} has no text", hint=_HINT)
    if is_too_long(doc.text):
        raise DataError(f"{where} has a {LONG_TEXT}", hint=SHORTER_HINT)
    if not 0 <= doc.n_tokens <= _MOST_TOKENS:
        raise DataError(
            f"{where} has n_tokens {doc.n_tokens}"[:300], hint="a count is zero or more, and no more than a text has"
        )
    _refuse_unwritable(doc, where)
    return doc


def _row(line: bytes, where: str) -> dict[str, object]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8, from byte {error.start} on", hint="write the file again in UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {' '.join(str(error).split())[:200]}", hint=_HINT) from None
    if not isinstance(row, dict):
        raise DataError(f"{where} holds a {type(row).__name__}, not an object", hint=_HINT)
    return row


def _field(row: dict[str, object], name: str, default: Field, where: str) -> Field:
    value = row.get(name, default)
    if isinstance(value, type(default)) and not isinstance(value, bool):
        return value
    raise DataError(f"{where} has {name} {value!r}"[:300], hint=f"{name} is {_A[type(default)]}; {_HINT}")


def _refuse_unwritable(doc: Document, where: str) -> None:
    """Refuse what JSON's reader takes and its writer cannot say again, wherever in the document it is.

    Raises:
        DataError: There is half a surrogate pair, or a number that is NaN or infinite.
    """
    try:
        document_line(doc)
    except UnicodeEncodeError:
        raise DataError(f"{where} has half a surrogate pair", hint="write the file again in UTF-8") from None
    except (ValueError, RecursionError):
        raise DataError(
            f"{where} has labels that are no JSON", hint="leave out NaN, Infinity and what is nested hundreds of times"
        ) from None
