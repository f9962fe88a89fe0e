"""What is refined: documents, and what their dataset's metadata says of them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from actlab.formats.documents import FILE_NAME, MAKE_ONE, Document, find_documents, read_documents
from actlab.ground.errors import DataError
from actlab.ground.integrity import input_entry, read_sealed_object
from actlab.ground.log import log
from actlab.ground.manifest import METADATA, InputEntry
from actlab.ground.options import as_path
from actlab.text.words import words_of


class Input(NamedTuple):
    """Documents on disk."""

    file: Path
    metadata: Mapping[str, object]
    """Of the dataset that the file is in; empty where it is in none."""
    entries: list[InputEntry]
    """Both as a manifest names them."""


class Counting(NamedTuple):
    """A tokenizer that counts."""

    count: Callable[[str], int]
    """Returns the number of a text's tokens."""
    name: str
    """Of a folder only its own name, so that it can be anywhere."""
    sha256: str
    """Of all that decides its ids."""


class Read(NamedTuple):
    """The documents of an input."""

    documents: list[Document]
    in_words: bool
    """Whether nobody had counted tokens: words count instead."""


def find_input(path: Path) -> Input:
    """Find the documents that a path names, by the folder or by the file.

    Raises:
        ConfigError: There are none.
        StorageError: The metadata beside them is damaged.
    """
    file = find_documents(path)
    beside = file.parent / METADATA
    entries = [input_entry("documents", file)]
    if file.name != FILE_NAME or not beside.is_file():
        return Input(file, {}, entries)
    return Input(file, read_sealed_object(beside), [*entries, input_entry("metadata", beside)])


def find_counting(name: str | None) -> Counting | None:
    """Load the tokenizer that a user names, if one is named.

    Raises:
        ModelError: There is none.
    """
    if name is None:
        return None
    from actlab.backends import token_count  # torch, which nothing else here needs

    tokenizer, folder = token_count.find_tokenizer(name), as_path(name)
    own_name = folder.resolve().name if folder.is_dir() else name
    return Counting(token_count.TokenCounter(tokenizer).count, own_name, token_count.tokenizer_sha256(tokenizer))


def read_all(source: Input, counting: Counting | None) -> Read:
    """Read the documents into memory, all counted in one unit: with the tokenizer, as they say themselves, or in words.

    Raises:
        DataError: A line is no document, there is none, or some say how many tokens they have and others do not.
    """
    documents = list(read_documents(source.file, allow_empty=True))
    if not documents:
        raise DataError(f"{source.file} holds no document", hint=MAKE_ONE)
    if counting is not None:
        return Read(_counted(documents, counting.count), False)
    n_uncounted = sum(document.n_tokens == 0 and bool(document.text.strip()) for document in documents)
    if not n_uncounted:
        return Read(documents, source.metadata.get("counted_in") == "words")
    if any(document.n_tokens for document in documents):
        raise DataError(
            f"{n_uncounted} of {len(documents)} documents do not say how many tokens they have, and the others do",
            hint="give --tokenizer to count all of them with one",
        )
    log.warning("no document says how many tokens it has: words count; see --tokenizer")
    return Read(_counted(documents, lambda text: len(words_of(text))), True)


def _counted(documents: Iterable[Document], count: Callable[[str], int]) -> list[Document]:
    return [document._replace(n_tokens=count(document.text)) for document in documents]
