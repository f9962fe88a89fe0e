"""The files of a token dataset."""

import functools
import itertools
from array import array
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
        self._lengths = {split: array("Q") for split in SPLITS}

    def files(self) -> Iterator[NewFile]:
        """Yield the stream of each split, its ends, which are known once the stream is written, and the tokenizer."""
        for split in SPLITS:
            yield NewFile(f"{split}.bin", functools.partial(self._write, split))
            ends = np.cumsum(self._lengths[split], dtype="<u8")
            yield NewFile(f"{split}.idx", ends.tobytes(), len(ends))
        for name, data in saved_tokenizer(self._encoder.tokenizer).items():
            yield NewFile(f"{TOKENIZER}/{name}", data)

    def _write(self, split: str, file: BinaryIO) -> None:
        for documents in encode(self._source.texts(split), self._encoder):
            file.write(np.fromiter(itertools.chain.from_iterable(documents), little_endian(self._dtype)).tobytes())
            self._lengths[split].extend(map(len, documents))
            self._more(len(documents))

    def facts(self) -> TokenFolder:
        """Return what `metadata.json` says of the streams, when they are written."""
        return TokenFolder(
            version=VERSION,
            dtype=self._dtype,
            vocab_size=self._encoder.vocab_size,
            eos_id=self._encoder.eos_id,
            prefix_ids=self._encoder.prefix_ids,
            n_tokens={split: sum(lengths) for split, lengths in self._lengths.items()},
            n_docs={split: len(lengths) for split, lengths in self._lengths.items()},
            tokenizer_sha256=self._encoder.sha256,
            text_sha256=self._source.text_sha256,
        )
