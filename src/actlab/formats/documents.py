"""Documents as JSON lines: one text each, with its tokens counted and its labels kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from actlab.ground.errors import DataError

KIND = "text"
FILE_NAME = "documents.jsonl"

_HINT = 'each line is a JSON object with at least "text": a string that is not empty'


class Document(NamedTuple):
    """A text and what is known of it."""

    id: str
    text: str
    n_tokens: int
    """In the tokens of the student's tokenizer; 0 where nobody counted."""
    source: str
    """What made it: "template", "ollama", "openai"; "file" where the row does not say."""
    labels: dict[str, Any]


def document_line(doc: Document) -> bytes:
    r"""Write a document as one line of JSON.

    >>> document_line(Document("0", "Stir well.", 3, "template", {}))
    b'{"id": "0", "text": "Stir well.", "n_tokens": 3, "source": "template", "labels": {}}\n'
    """
    return (json.dumps(doc._asdict(), ensure_ascii=False) + "\n").encode()


def read_documents(path: Path) -> Iterator[Document]:
    """Read the documents of a file, or of the `documents.jsonl` in a folder, one after the other.

    A row with `text` alone gets its line's number (from 1) as id, no tokens, no labels and the source "file". Line
    ends in texts become line feeds.

    Raises:
        DataError: The file is not there, or a line (which the message names) is no such row.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield _document(line, number, where=f"{file}: line {number}")
    except OSError as error:
        raise DataError(
            f"cannot read {file}: {error.strerror}", hint="make one with: actlab generate-text PROMPT --output DIR"
        ) from None


def _document(line: bytes, number: int, *, where: str) -> Document:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {' '.join(str(error).split())[:200]}", hint=_HINT) from None
    if not isinstance(row, dict):
        raise DataError(f"{where} holds a {type(row).__name__}, not an object", hint=_HINT)
    doc = Document(
        id=_field(row, "id", str(number), str, where),
        text=_field(row, "text", "", str, where).replace("\r\n", "\n"),
        n_tokens=_field(row, "n_tokens", 0, int, where),
        source=_field(row, "source", "file", str, where),
        labels=_field(row, "labels", {}, dict, where),
    )
    if not doc.text.strip():
        raise DataError(f"{where} has no text", hint=_HINT)
    if doc.n_tokens < 0:
        raise DataError(f"{where} has n_tokens {doc.n_tokens}", hint="a count is zero or more")
    return doc


def _field(row: dict[str, Any], name: str, default: Any, kind: type, where: str) -> Any:
    value = row.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where} has {name} {value!r}"[:300], hint=f"{name} is a {kind.__name__}; {_HINT}")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where} has a {name} with half a surrogate pair", hint="write the file again in UTF-8")
    return value
