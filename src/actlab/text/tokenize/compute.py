"""Texts to ids, a bounded number of documents at a time."""

import copy
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt

from actlab.backends.token_count import TokenCounter, special_prefix, vocab_size_of
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.limits import bounded_batches

log = logging.getLogger("actlab")

_DOCUMENTS_AT_ONCE = 256


class Encoder(NamedTuple):
    """A tokenizer and the marks around documents."""

    counter: TokenCounter
    prefix_ids: list[int]
    eos_id: int
    vocab_size: int

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without the marks.

        Raises:
            ModelError: The tokenizer cannot encode one.
            DataError: There is an end marker in one.
        """
        found = self.counter.ids_of(texts)
        for text, ids in zip(texts, found, strict=True):
            if self.eos_id in ids:
                raise DataError(
                    f"the tokenizer makes its end-of-text token of a piece of {text[:60]!r}, where no document ends",
                    hint="take that piece out of the text, or leave --tokenizer away to train one",
                )
        return found


class Encoded(NamedTuple):
    """Some documents as ids."""

    ids_t: UInt[np.ndarray, " t"]
    lengths_n: Int64[np.ndarray, " n"]


def encoder_of(tokenizer: Any) -> Encoder:
    """Take from a tokenizer what documents need.

    A document gets the special tokens that the tokenizer puts before a text: a model sees later what it was
    trained on.

    Raises:
        ConfigError: It has no end marker.
        ModelError: It cannot encode.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no end-of-text token, which stands between documents",
            hint="set its eos_token and save it, or leave --tokenizer away to train one",
        )
    prefix_ids = special_prefix(tokenizer)
    return Encoder(TokenCounter(_for_text(tokenizer)), prefix_ids, tokenizer.eos_token_id, vocab_size_of(tokenizer))


def _for_text(tokenizer: Any) -> Any:
    """Return a copy that takes the name of a special token for text."""
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.encode_special_tokens = True
    return own


def encode(texts: Iterable[str], encoder: Encoder, dtype: np.dtype[Any]) -> Iterator[Encoded]:
    """Yield the ids of texts, each between its prefix and its EOS."""
    prefix, end = encoder.prefix_ids, [encoder.eos_id]
    for some in bounded_batches(texts, _DOCUMENTS_AT_ONCE):
        documents = [[*prefix, *ids, *end] for ids in encoder.ids_of(some)]
        lengths_n = np.fromiter(map(len, documents), np.int64, len(documents))
        flat = itertools.chain.from_iterable(documents)
        yield Encoded(np.fromiter(flat, dtype, int(lengths_n.sum())), lengths_n)
