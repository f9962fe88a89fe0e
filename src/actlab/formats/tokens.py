"""Token datasets: a folder of headerless token streams, one for training and one for validation.

    train.bin, val.bin    the ids of all documents end to end, little-endian uint16 or uint32
    train.idx, val.idx    where each document ends, little-endian uint64, in tokens
    tokenizer/            the tokenizer's files
    metadata.json         what the numbers mean

`np.memmap("train.bin", dtype=np.uint16, mode="r")`, as nanoGPT reads its data, reads a stream of uint16.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_type_hints

import numpy as np
from jaxtyping import UInt

from actlab.ground.errors import DataError
from actlab.ground.integrity import check_sealed, read_sealed_json
from actlab.ground.manifest import METADATA
from actlab.ground.shapes import fits

KIND = "tokens"
VERSION = 1
SPLITS = ("train", "val")
TOKENIZER = "tokenizer"
_MOST_OF_UINT16 = 1 << 16
_PIECE = 1 << 22
"""Tokens that are checked at a time."""
_AGAIN = "make it again with actlab tokenize-text --overwrite"


@dataclass(frozen=True)
class TokenFolder:
    """What a token dataset's metadata says of it."""

    version: int
    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    eos_id: int
    """Stands after every document."""
    prefix_ids: list[int]
    """Stand before every document: what the tokenizer puts before a text, such as one BOS."""
    n_tokens: dict[str, int]
    """By split, the marks around documents included."""
    n_docs: dict[str, int]
    tokenizer_sha256: str
    text_sha256: str
    """Of the documents' texts in their order, each ended by a zero byte."""


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """Return the smallest type that holds a vocabulary's ids.

    >>> dtype_for(65_536), dtype_for(65_537)
    ('uint16', 'uint32')
    """
    return "uint16" if vocab_size <= _MOST_OF_UINT16 else "uint32"


def little_endian(dtype: str) -> np.dtype[np.unsignedinteger]:
    """Return the type as it lies on disk."""
    return np.dtype(dtype).newbyteorder("<")


def read_token_folder(folder: Path) -> TokenFolder:
    """Read what a token dataset's metadata says, and compare its files' sizes with it.

    Raises:
        DataError: It is no token dataset, is of another version, or a file is not as long as it says.
    """
    content = read_sealed_json(folder / METADATA) if (folder / METADATA).is_file() else None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise DataError(f"{folder} is no token dataset", hint="make one with actlab tokenize-text DIR --output DIR")
    if content.get("version") != VERSION:
        raise DataError(f"{folder} is a token dataset of version {content.get('version')}, not {VERSION}", hint=_AGAIN)
    for name, hint in get_type_hints(TokenFolder).items():
        _refuse(not fits(content.get(name), hint), name, folder, content)
    facts = TokenFolder(**{name: content[name] for name in TokenFolder.__dataclass_fields__})
    for name, is_right in _BOUNDS.items():
        _refuse(not is_right(facts), name, folder, content)
    width = little_endian(facts.dtype).itemsize
    streams = {f"{split}.bin": width * facts.n_tokens[split] for split in SPLITS}
    ends = {f"{split}.idx": 8 * facts.n_docs[split] for split in SPLITS}
    for name, n_bytes in (streams | ends).items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != n_bytes:
            there = "is missing" if found is None else f"has {found} bytes, not {n_bytes}"
            raise DataError(f"{folder / name} {there}", hint=_AGAIN)
    return facts


def _refuse(is_wrong: bool, name: str, folder: Path, content: Mapping[str, object]) -> None:
    if is_wrong:
        said = f"has {name} {content[name]!r}"[:200] if name in content else f"lacks {name}"
        raise DataError(f"{folder / METADATA} {said}", hint=_AGAIN)


def _are_counts(value: Mapping[str, int]) -> bool:
    return all(0 <= value.get(split, -1) < 1 << 63 for split in SPLITS)


_BOUNDS: dict[str, Callable[[TokenFolder], bool]] = {
    "vocab_size": lambda facts: 1 <= facts.vocab_size <= 1 << 8 * np.dtype(facts.dtype).itemsize,
    "eos_id": lambda facts: 0 <= facts.eos_id < facts.vocab_size,
    "prefix_ids": lambda facts: all(0 <= one < facts.vocab_size for one in facts.prefix_ids),
    "n_tokens": lambda facts: _are_counts(facts.n_tokens),
    "n_docs": lambda facts: _are_counts(facts.n_docs),
}
"""What a key of `metadata.json` may be, where its type alone does not say so."""


def refuse_other_tokenizer(folder: Path, facts: TokenFolder, sha256: str) -> None:
    """Refuse a tokenizer that is not the one whose ids a dataset holds.

    Raises:
        DataError: It is another one.
    """
    if sha256 != facts.tokenizer_sha256:
        raise DataError(
            f"{folder} holds the ids of another tokenizer ({facts.tokenizer_sha256[:12]}, not {sha256[:12]})",
            hint=f"use the one in {folder / TOKENIZER}, or tokenise the text again with yours",
        )


def map_tokens(folder: Path, facts: TokenFolder, split: str) -> UInt[np.ndarray, " t"]:
    """Map a split's ids into memory, where they are read when they are used."""
    return _map(folder / f"{split}.bin", little_endian(facts.dtype))


def map_ends(folder: Path, split: str) -> UInt[np.ndarray, " n"]:
    """Map where each document of a split ends: one past its EOS."""
    return _map(folder / f"{split}.idx", np.dtype("<u8"))


def _map(path: Path, dtype: np.dtype[np.unsignedinteger]) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # the system maps no empty file
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a plain view of it is indexed faster


def refuse_strange_ids(folder: Path, facts: TokenFolder, split: str) -> None:
    """Read a split once, in bounded pieces, and refuse an id that the vocabulary lacks, or ends that do not fit.

    Raises:
        DataError: There is one.
        StorageError: A file is not as it was sealed.
    """
    for path in (folder / f"{split}.bin", folder / f"{split}.idx"):
        check_sealed(path)
    tokens, ends = map_tokens(folder, facts, split), map_ends(folder, split)
    for start in range(0, len(tokens), _PIECE):
        most = int(tokens[start : start + _PIECE].max())
        if most >= facts.vocab_size:
            last = facts.vocab_size - 1
            raise DataError(f"{folder / split}.bin has the id {most}, and the vocabulary ends at {last}", hint=_AGAIN)
    last = 0
    for start in range(0, len(ends), _PIECE):
        piece = ends[start : start + _PIECE].astype(np.int64)
        if piece[0] <= last or (np.diff(piece) <= 0).any():
            raise DataError(f"{folder / split}.idx does not ascend", hint=_AGAIN)
        last = int(piece[-1])
    if last != len(tokens):
        raise DataError(f"{folder / split}.idx ends at token {last}, not {len(tokens)}", hint=_AGAIN)
