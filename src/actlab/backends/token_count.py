"""Text to ids and back to counts, exactly what a tokenizer gives and several times as fast."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import regex
from tokenizers import Tokenizer

from actlab.backends.hub import ModelFolder, fetch, local_folder
from actlab.backends.models import load_tokenizer
from actlab.backends.tokenizers import FastTokenizer
from actlab.ground.errors import ModelError, foreign_errors
from actlab.ground.limits import bounded_batches
from actlab.ground.log import log
from actlab.ground.manifest import fingerprint
from actlab.ground.temporary import saved_files

_PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
"""How GPT-2 cuts a text before it merges bytes: the `ByteLevel` pre-tokenizer of the tokenizers library."""
_ASCII_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)
"""The same for ASCII alone, in Python's own engine, which takes half the time."""
_MOST_CHARACTERS = 1 << 23
"""Of the pieces that are remembered, each with eight more: at most some 200 MB. Then it starts afresh, so that memory
does not grow with the text."""
_SAMPLE = (
    "",
    " ",
    "It's what they'd said: we'll see, I'm sure you've been there.",
    "Mix 250 g of flour,\t2 eggs\nand a pinch of salt.\r\n\r\n   Rest it for 30 minutes...  ",
    "naïve café — “quoted” ½ x² 北京 Ελλάδα 👩‍🍳 e\u0301 a\u00a0b\u2028c \u0558x",
    "def f(x): return {'a': [1, 2.5e-3]}  # snake_case != camelCase",
)
_TEXTS_AT_ONCE = 64
"""More at once are slower: an Encoding holds offsets, masks and words besides the ids."""


def find_tokenizer(name: str) -> FastTokenizer:
    """Load a tokenizer by the name that a user gives: `actlab/tiny`, a local folder, or a hub name.

    Raises:
        ModelError: There is none.
    """
    here = local_folder(name, hint="give --tokenizer a folder with a tokenizer.json")
    path = here or fetch(name, None, weights=False)
    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        inside = path / "tokenizer"
        hint = f"give {inside}" if inside.is_dir() else "give a folder that tokenizer.save_pretrained or a model made"
        raise ModelError(f"{name} has no tokenizer.json", hint=hint)
    tokenizer = load_tokenizer(ModelFolder(name, path))
    _end_dropout(tokenizer.backend_tokenizer)
    return tokenizer


def _end_dropout(tokenizer: Tokenizer) -> None:
    """Let a tokenizer merge all that it can, each time."""
    if rate := getattr(tokenizer.model, "dropout", None):
        log.warning("the tokenizer drops %g of its merges at random: not here, or no two runs were alike", rate)
        tokenizer.model.dropout = None


def tokenizer_sha256(tokenizer: FastTokenizer) -> str:
    """Return a hash of all that decides a fast tokenizer's ids, and of its end marker."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    decides = {key: value for key, value in content.items() if key not in ("truncation", "padding")}
    if decides["model"].get("dropout"):
        decides["model"]["dropout"] = None  # as it is used here
    return fingerprint([decides, tokenizer.eos_token])


def special_prefix(tokenizer: FastTokenizer) -> list[int]:
    """Return the special ids that a tokenizer puts before a text, such as one BOS.

    Raises:
        ModelError: The tokenizer cannot read a text.
    """
    with _read_by_library():
        encoding = tokenizer("a", return_special_tokens_mask=True, verbose=False)
    return list(encoding["input_ids"][: encoding["special_tokens_mask"].index(0)])


def vocab_size_of(tokenizer: FastTokenizer) -> int:
    """Return how many ids a model needs: one more than the largest, for there may be gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def saved_tokenizer(tokenizer: FastTokenizer) -> dict[str, bytes]:
    """Return the files that a tokenizer is loaded from, by name."""
    return dict(saved_files(tokenizer.save_pretrained))


class TokenCounter:
    """Gives the ids of texts and counts them, without special tokens around them.

    A byte-level BPE without a normaliser never merges across its pre-tokens, so each piece of text is merged
    once and remembered. That holds character by character only where Python's Unicode tables and the
    tokenizer's agree, which is checked for every new character; a text with another one, with a special token
    written out in it, or of another kind of tokenizer goes through the tokenizer itself.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        """Take a fast tokenizer.

        Raises:
            ModelError: It makes nothing of any text.
        """
        backend = tokenizer.backend_tokenizer
        self._own = Tokenizer.from_str(backend.to_str())  # nobody else can set truncation on it
        _end_dropout(self._own)
        self._own.no_truncation()
        self._own.no_padding()
        self._own.encode_special_tokens = backend.encode_special_tokens
        content = json.loads(self._own.to_str())
        self._cache = _Pieces(self._encode)
        self._known = {chr(code) for code in range(128)}
        self._odd = [token["content"] for token in content["added_tokens"]]
        self._odd_pattern = _any_of(self._odd)
        self.is_cached = _merges_within_pieces(content)
        """Whether pieces are remembered; the ids are the same either way."""
        if self.is_cached:
            self._learn(self._known)
            self.is_cached = all(self.ids(text) == self._encode(text) for text in _SAMPLE)
        if self._is_silent():
            raise ModelError("this tokenizer makes no token of any text", hint="give another --tokenizer")
        if not self.is_cached:
            log.info("this tokenizer is no plain byte-level BPE: its tokens are counted the slow way")

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text.

        Raises:
            ModelError: The tokenizer has none for it, nor one for what it does not know.
        """
        if not self._is_plain(text):
            return self._encode(text)
        return list(chain.from_iterable(map(self._cache.__getitem__, _cut(text))))

    def count(self, text: str) -> int:
        """Return the number of a text's tokens.

        Raises:
            ModelError: As for `ids`.
        """
        if not self._is_plain(text):
            return len(self._encode(text))
        return sum(map(len, map(self._cache.__getitem__, _cut(text))))

    def ids_of(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each of some texts.

        Raises:
            ModelError: As for `ids`.
        """
        if self.is_cached:
            return [self.ids(text) for text in texts]
        found: list[list[int]] = []
        for some in bounded_batches(texts, _TEXTS_AT_ONCE):
            with _read_by_library():
                found += [one.ids for one in self._own.encode_batch(some, add_special_tokens=False)]
        return found

    def _encode(self, text: str) -> list[int]:
        with _read_by_library():
            return list(self._own.encode(text, add_special_tokens=False).ids)

    def _is_silent(self) -> bool:
        try:
            return not any(map(self._encode, _SAMPLE))
        except ModelError:  # a closed vocabulary, which may know the words of the texts that come
            return False

    def _is_plain(self, text: str) -> bool:
        if not self.is_cached:
            return False
        if not text.isascii() and (new := set(text) - self._known):
            self._learn(new)
        return self._odd_pattern is None or self._odd_pattern.search(text) is None

    def _learn(self, characters: Iterable[str]) -> None:
        """Ask the tokenizer how it cuts around each character, and set aside those that are cut otherwise here."""
        odd = []
        for one in characters:
            probe = f"a{one}1{one}!{one} {one}{one} b"
            spans = [span for _, span in self._own.pre_tokenizer.pre_tokenize_str(probe)]
            if _cut(probe) != [probe[start:stop] for start, stop in spans]:
                odd.append(one)
        self._known.update(characters)
        if odd:
            self._odd += odd
            self._odd_pattern = _any_of(self._odd)


class _Pieces(dict[str, tuple[int, ...]]):
    """The ids of the pieces seen so far."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode
        self._n_characters = 0

    def __missing__(self, piece: str) -> tuple[int, ...]:
        if self._n_characters >= _MOST_CHARACTERS:
            self.clear()
            self._n_characters = 0
        self._n_characters += len(piece) + 8
        ids = self[piece] = tuple(self._encode(piece))
        return ids


def _read_by_library() -> AbstractContextManager[None]:
    """Say whose fault it is where the tokenizers library cannot read a text."""
    return foreign_errors(
        "the tokenizer cannot read a text", hint="give a --tokenizer with a token for what it does not know"
    )


def _cut(text: str) -> list[str]:
    found: list[str] = (_ASCII_PIECES if text.isascii() else _PIECES).findall(text)
    return found


def _merges_within_pieces(content: Mapping[str, Any]) -> bool:
    """Whether a tokenizer's description is that of a byte-level BPE that cuts as GPT-2's and changes no text."""
    cut = content["pre_tokenizer"] or {}
    return (
        content["normalizer"] is None
        and content["model"]["type"] == "BPE"
        and cut.get("type") == "ByteLevel"
        and cut.get("use_regex", True)
        and not cut.get("add_prefix_space", True)
    )


def _any_of(texts: Sequence[str]) -> regex.Pattern[str] | None:
    return regex.compile("|".join(regex.escape(text) for text in texts)) if texts else None
