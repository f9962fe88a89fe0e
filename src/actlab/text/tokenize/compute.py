"""Texts to ids, a bounded number of documents at a time."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from actlab.backends.token_count import TokenCounter, special_prefix, tokenizer_sha256, vocab_size_of
from actlab.backends.tokenizers import FastTokenizer
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.limits import bounded_batches

_DOCUMENTS_AT_ONCE = 256


class Encoder(NamedTuple):
    """A tokenizer and the marks around documents."""

    tokenizer: FastTokenizer
    sha256: str
    """Of all that decides the tokenizer's ids."""
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


def encoder_of(tokenizer: FastTokenizer) -> Encoder:
    """Take from a tokenizer what documents need.

    A document gets the special tokens that the tokenizer puts before a text: a model sees later what it was
    trained on. Within a text, the name of a special token is text.

    Raises:
        ConfigError: It has no end marker.
        ModelError: It cannot encode.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no end-of-text token, which stands between documents",
            hint="set its eos_token and save it, or leave --tokenizer away to train one",
        )
    for_text = copy.deepcopy(tokenizer)
    for_text.backend_tokenizer.encode_special_tokens = True
    return Encoder(
        tokenizer=tokenizer,
        sha256=tokenizer_sha256(tokenizer),
        counter=TokenCounter(for_text),
        prefix_ids=special_prefix(tokenizer),
        eos_id=tokenizer.eos_token_id,
        vocab_size=vocab_size_of(tokenizer),
    )


def encode(texts: Iterable[str], encoder: Encoder) -> Iterator[list[list[int]]]:
    """Yield the ids of texts, each between its prefix and its EOS, some texts at a time."""
    for some in bounded_batches(texts, _DOCUMENTS_AT_ONCE):
        yield [[*encoder.prefix_ids, *ids, encoder.eos_id] for ids in encoder.ids_of(some)]
