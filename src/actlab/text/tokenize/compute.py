"""Texts to ids, a bounded number of documents at a time."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt

from actlab.backends.token_count import TokenCounter, special_prefix
from actlab.ground.errors import ConfigError

_DOCUMENTS_AT_ONCE = 256


class Encoder(NamedTuple):
    """A tokenizer and the marks around documents."""

    counter: TokenCounter
    prefix_ids: list[int]
    eos_id: int
    vocab_size: int


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
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no end-of-text token, which stands between documents",
            hint="set its eos_token and save it, or leave --tokenizer away to train one",
        )
    return Encoder(TokenCounter(tokenizer), special_prefix(tokenizer), tokenizer.eos_token_id, len(tokenizer))


def encode(texts: Iterable[str], encoder: Encoder, dtype: np.dtype[Any]) -> Iterator[Encoded]:
    """Yield the ids of texts, each between its prefix and its EOS."""
    prefix, end = encoder.prefix_ids, [encoder.eos_id]
    every = iter(texts)
    while some := list(itertools.islice(every, _DOCUMENTS_AT_ONCE)):
        documents = [[*prefix, *ids, *end] for ids in encoder.counter.ids_of(some)]
        lengths_n = np.fromiter(map(len, documents), np.int64, len(documents))
        flat = itertools.chain.from_iterable(documents)
        yield Encoded(np.fromiter(flat, dtype, int(lengths_n.sum())), lengths_n)
