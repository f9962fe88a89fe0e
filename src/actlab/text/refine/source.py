"""What is refined: documents, and what their dataset's metadata says of them."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from actlab.formats.documents import FILE_NAME, Document, read_documents
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.manifest import METADATA, file_entry, read_json
from actlab.text.words import words_of

log = logging.getLogger("actlab")

_MAKE_ONE = "make one with: actlab generate-text PROMPT --output DIR"


class Input(NamedTuple):
    """Documents on disk."""

    file: Path
    metadata: dict[str, Any]
    """Of the dataset that the file is in; empty where it is in none."""
    entry: dict[str, Any]
    """As a manifest names it."""


class Read(NamedTuple):
    """The documents of an input."""

    documents: list[Document]
    n_counted_here: int
    """Documents whose tokens nobody had counted: their words count instead."""


def find_input(path: Path) -> Input:
    """Find the documents that a path names, by the folder or by the file.

    Raises:
        ConfigError: There are none.
        StorageError: The metadata beside them is damaged.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        what = f"{path} holds no {FILE_NAME}" if path.is_dir() else f"there is no {path}"
        raise ConfigError(what, hint=_MAKE_ONE)
    beside = file.parent / METADATA
    metadata = read_json(beside) if file.name == FILE_NAME and beside.is_file() else {}
    return Input(file, metadata if isinstance(metadata, dict) else {}, file_entry("documents", file))


def read_all(source: Input, tokenizer: str | None) -> Read:
    """Read the documents into memory, tokens counted (or else words) where they do not say how many they have.

    Raises:
        DataError: A line is no document, or there is none.
        ModelError: There is no such tokenizer.
    """
    documents = list(read_documents(source.file))
    if not documents:
        raise DataError(f"{source.file} holds no document", hint=_MAKE_ONE)
    n_uncounted = sum(document.n_tokens == 0 for document in documents)
    if not n_uncounted:
        return Read(documents, 0)
    if tokenizer is None:
        log.warning("%d documents do not say how many tokens they have: words count; see --tokenizer", n_uncounted)
    return Read(list(_counted(documents, _counter(tokenizer))), n_uncounted)


def _counted(documents: Iterable[Document], count: Callable[[str], int]) -> Iterator[Document]:
    for document in documents:
        yield document if document.n_tokens else document._replace(n_tokens=count(document.text))


def _counter(tokenizer: str | None) -> Callable[[str], int]:
    if tokenizer is None:
        return lambda text: len(words_of(text))
    from actlab.backends.token_count import TokenCounter, find_tokenizer  # torch, which nothing else here needs

    return TokenCounter(find_tokenizer(tokenizer)).count
