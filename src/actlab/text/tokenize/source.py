"""Documents, and the side of the split that each of them is on."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt64

from actlab.formats.documents import FILE_NAME, read_documents
from actlab.ground.errors import ConfigError, DataError


class Source(NamedTuple):
    """Documents that were read once: which of them are held out, and what they are."""

    path: Path
    is_val: Bool[np.ndarray, " n"]
    text_sha256: str

    def texts(self, split: str) -> Iterator[str]:
        """Yield the texts of one side, in their order; they are read again, not kept."""
        for document, is_val in zip(read_documents(self.path), self.is_val, strict=True):
            if is_val == (split == "val"):
                yield document.text


def find_documents(name: str) -> Path:
    """Return the file of documents that a user names, by itself or by its folder.

    Raises:
        ConfigError: There is none.
    """
    path = Path(os.path.expanduser(name))
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"there is no file {file}", hint="name a folder with documents.jsonl, or a JSONL file")
    return file


def read_source(path: Path, *, validation: float, near_duplicates: float) -> Source:
    """Read all documents once and choose a side for each; 8 bytes a document are kept, and MinHash's signatures.

    Raises:
        DataError: There is no document, or they cannot be parted.
    """
    digest = hashlib.sha256()
    keys = np.fromiter(_keys(path, digest), np.uint64)
    if not len(keys):
        raise DataError(f"{path} has no document", hint="make some with actlab generate-text PROMPT --output DIR")
    if validation and near_duplicates:
        keys = _of_clusters(path, keys, near_duplicates)
    return Source(path, choose_sides(keys, validation), digest.hexdigest())


def _keys(path: Path, digest: "hashlib._Hash") -> Iterator[int]:
    """Yield the key of each document, its text added to a hash."""
    for document in read_documents(path):
        digest.update(document.text.encode() + b"\0")
        yield text_key(document.text)


def text_key(text: str) -> int:
    """Return a number that depends on a text alone, whatever its case, its spaces and its compatibility forms."""
    normalised = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return int.from_bytes(hashlib.blake2b(normalised.encode(), digest_size=8).digest(), "big")


def choose_sides(keys: UInt64[np.ndarray, " n"], validation: float) -> Bool[np.ndarray, " n"]:
    """Hold out the documents whose key is among the smallest share of all keys; each side gets at least one key.

    A key's side does not depend on the other documents, so a text stays held out when more text comes.

    Raises:
        DataError: All documents have one key.
    """
    if not validation:
        return np.zeros(len(keys), bool)
    if keys.min() == keys.max():
        raise DataError(
            "the documents cannot be split: they are all (near) duplicates of each other",
            hint="give more text, or --validation 0",
        )
    is_val = keys < np.uint64(validation * 2**64)
    if not is_val.any():
        return np.asarray(keys == keys.min())
    return np.asarray(keys < keys.max()) if is_val.all() else is_val


def _of_clusters(path: Path, keys: UInt64[np.ndarray, " n"], threshold: float) -> UInt64[np.ndarray, " n"]:
    """Give every document the smallest key of its cluster of near duplicates."""
    from actlab.text.near_duplicates import near_duplicate_clusters

    texts = [document.text for document in read_documents(path)]
    _, cluster_n = np.unique(np.asarray(near_duplicate_clusters(texts, threshold)), return_inverse=True)
    smallest = np.full(cluster_n.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, cluster_n, keys)
    _, same_n = np.unique(keys, return_inverse=True)  # exact copies, whatever MinHash says of very short texts
    of_copies = np.full(same_n.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(of_copies, same_n, smallest[cluster_n])
    return of_copies[same_n]
