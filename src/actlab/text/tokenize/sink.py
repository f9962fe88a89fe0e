"""The files of a token dataset."""

import functools
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from actlab.backends.token_count import saved_tokenizer
from actlab.formats.tokens import SPLITS, TOKENIZER, VERSION, TokenFolder, dtype_for, little_endian
from actlab.ground.storage import NewFile
from actlab.text.tokenize.compute import Encoder, encode
from actlab.text.tokenize.source import Source


class TokenFiles:
    """Writes the streams, and knows their sizes when they are written."""

    def __init__(self, source: Source, encoder: Encoder, more: Callable[[int], None]) -> None:
        self._source = source
        self._encoder = encoder
        self._more = more
        self._dtype = dtype_for(encoder.vocab_size)
        self._lengths: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}

    def files(self) -> Iterator[NewFile]:
        """Yield the stream of each split, its ends, which are known once the stream is written, and the tokenizer."""
        for split in SPLITS:
            yield NewFile(f"{split}.bin", functools.partial(self._write, split))
            ends = np.cumsum(np.concatenate([np.empty(0, np.int64), *self._lengths[split]]))
            yield NewFile(f"{split}.idx", ends.astype("<u8").tobytes(), len(ends))
        for name, data in saved_tokenizer(self._encoder.tokenizer).items():
            yield NewFile(f"{TOKENIZER}/{name}", data)

    def _write(self, split: str, file: BinaryIO) -> None:
        for encoded in encode(self._source.texts(split), self._encoder, little_endian(self._dtype)):
            file.write(encoded.ids_t.tobytes())
            self._lengths[split].append(encoded.lengths_n)
            self._more(len(encoded.lengths_n))

    def facts(self) -> TokenFolder:
        """Return what `metadata.json` says of the streams, when they are written."""
        return TokenFolder(
            version=VERSION,
            dtype=self._dtype,
            vocab_size=self._encoder.vocab_size,
            eos_id=self._encoder.eos_id,
            prefix_ids=self._encoder.prefix_ids,
            n_tokens={split: int(sum(some.sum() for some in parts)) for split, parts in self._lengths.items()},
            n_docs={split: sum(map(len, parts)) for split, parts in self._lengths.items()},
            tokenizer_sha256=self._encoder.sha256,
            text_sha256=self._source.text_sha256,
        )
