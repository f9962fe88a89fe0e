"""Documents, and the side of the split that each of them is on."""

import contextlib
import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from actlab.formats.documents import read_documents
from actlab.ground.errors import DataError
from actlab.ground.manifest import InputEntry, measured_entry
from actlab.text.near_duplicates import mixed, near_duplicate_clusters
from actlab.text.words import text_hash

ROLE = "documents"


class Source(NamedTuple):
    """Documents that were read once: which of them are held out, and what they are."""

    path: Path
    is_val: Bool[np.ndarray, " n"]
    text_sha256: str

    def texts(self, split: str) -> Iterator[str]:
        """Yield the texts of one side, in their order; they are read again, not kept: see `refuse_changed`."""
        with contextlib.closing(read_documents(self.path)) as documents:
            for document, is_val in zip(documents, self.is_val, strict=False):
                if is_val == (split == "val"):
                    yield document.text


def refuse_changed(path: Path, entry: InputEntry) -> None:
    """Compare a file that was read several times with its entry in the manifest.

    Raises:
        DataError: It is no longer what it was.
    """
    if not path.is_file() or measured_entry(ROLE, path) != entry:
        raise DataError(
            f"{path} changed while it was read", hint="run the same command again when nothing else writes to it"
        )


def read_source(
    path: Path,
    *,
    validation: float,
    near_duplicates: float,
    ids_of: Callable[[Sequence[str]], list[list[int]]] | None = None,
) -> Source:
    """Read all documents once and choose a side for each.

    Texts with the same ids are one text to a model, so where a tokenizer may change texts, `ids_of` is asked for
    them. 16 bytes a document are kept, and what looking for near duplicates takes: see `near_duplicate_clusters`.

    Raises:
        DataError: There is no document, or they cannot be parted.
    """
    digest = hashlib.sha256()
    keys, ids_keys = array("Q"), array("Q")

    def texts() -> Iterator[str]:
        with contextlib.closing(read_documents(path)) as documents:
            for document in documents:
                digest.update(document.text.encode() + b"\0")
                keys.append(text_key(document.text))
                if validation and ids_of is not None:
                    ids_keys.append(_ids_key(*ids_of([document.text])))
                yield document.text

    near = near_duplicate_clusters(texts(), near_duplicates if validation else 0)
    if not keys:
        raise DataError(f"{path} has no document", hint="make some with actlab generate-text PROMPT --output DIR")
    key_n = np.array(keys, np.uint64)
    cluster_n = clusters_of(key_n, np.array(near), *([np.array(ids_keys, np.uint64)] if ids_keys else []))
    return Source(path, choose_sides(cluster_keys(key_n, cluster_n), validation), digest.hexdigest())


def text_key(text: str) -> int:
    """Return a number that depends on a text's normal form alone."""
    return int(text_hash(text)[:16], 16)


def _ids_key(ids: list[int]) -> int:
    return int.from_bytes(hashlib.blake2b(array("Q", ids), digest_size=8).digest(), "big")


def clusters_of(*labels: UInt64[np.ndarray, " n"] | Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the number of each document's cluster: those with a label in common, directly or by way of others.

    >>> clusters_of(np.array([7, 7, 8, 9]), np.array([1, 2, 2, 3])).tolist()
    [0, 0, 0, 1]
    """
    n = len(labels[0])
    firsts = []
    for label_n in labels:
        _, first, which_n = np.unique(label_n, return_index=True, return_inverse=True)
        firsts.append(first[which_n])
    pairs = np.tile(np.arange(n), len(labels)), np.concatenate(firsts)
    joined = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(n, n))
    return np.asarray(connected_components(joined, directed=False)[1])


def cluster_keys(key_n: UInt64[np.ndarray, " n"], cluster_n: Int[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Give every document its cluster's key: the smallest of its members', mixed.

    The smallest of many is small: as it is, it would put all large clusters on the side of the small keys.
    """
    smallest = np.full(cluster_n.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, cluster_n, key_n)
    return np.asarray(mixed(smallest)[cluster_n])


def choose_sides(keys: UInt64[np.ndarray, " n"], validation: float) -> Bool[np.ndarray, " n"]:
    """Hold out the documents whose key is among the smallest share of all keys; each side gets at least one key.

    But for that, a key's side does not depend on the other keys: a cluster stays on its side when more text comes,
    unless that joins it to another cluster or brings it a smaller key.

    Raises:
        DataError: All documents have one key.
    """
    if not validation:
        return np.zeros(len(keys), bool)
    if keys.min() == keys.max():
        what = "there is only one document" if len(keys) == 1 else "they are all (near) duplicates of each other"
        raise DataError(f"the documents cannot be split: {what}", hint="give more text, or --validation 0")
    is_val = keys < np.uint64(validation * 2**64)
    if not is_val.any():
        return np.asarray(keys == keys.min())
    return np.asarray(keys < keys.max()) if is_val.all() else is_val
