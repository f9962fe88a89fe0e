"""Every token's residual of a stream of texts, shuffled."""

# t token, d model width

import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.reader import Reader, TokenSpan, read_tokens
from actlab.formats.tables import read_table
from actlab.ground.errors import ConfigError, DataError, foreign_errors
from actlab.ground.integrity import open_sealed
from actlab.ground.limits import LONG_LINE, LONG_TEXT, is_too_long, lines_of, refuse_pipe
from actlab.ground.log import log
from actlab.ground.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BUFFER_TOKENS = 1 << 16
"""Tokens that are shuffled together."""
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a pair, as JSON's \\ud800: no tokenizer takes it."""
_TEXTS_A_READ = 64
_HINT = 'write JSONL rows of {"text": …}, or a CSV with a text column'


def read_texts(path: str | Path, *, text_column: str, limit: int | None) -> list[str]:
    """Read texts from JSONL (every text value of a row, joined) or a CSV column.

    Raises:
        ConfigError: There is no such file or column.
        DataError: It holds no text.
    """
    file = Path(path)
    if not file.is_file():
        refuse_pipe(file)
        raise ConfigError(f"there is no file {path}", hint="give --input a JSONL or a CSV with texts")
    texts = _from_csv(file, text_column, limit) if file.suffix.lower() in (".csv", ".tsv") else _from_jsonl(file, limit)
    whole = [text for text in texts if not is_too_long(text)]
    if len(whole) < len(texts):
        log.warning("left out of %s: %d times a %s", path, len(texts) - len(whole), LONG_TEXT)
    if broken := [text for text in whole if _SURROGATE.search(text)]:
        log.warning("left out of %s: %d times a text with half a surrogate pair", path, len(broken))
    texts = [text for text in whole if text.strip() and not _SURROGATE.search(text)]
    if not texts:
        raise DataError(f"{path} holds no text", hint=_HINT)
    return texts


def _from_csv(file: Path, column: str, limit: int | None) -> list[str]:
    table = read_table(file, limit)
    table.require(column, "--text-column")
    return [fields[column] for fields in table.rows if fields is not None]


def _from_jsonl(file: Path, limit: int | None) -> list[str]:
    texts = []
    with (
        foreign_errors(f"cannot read {file}", hint=_HINT, kind=DataError),
        io.TextIOWrapper(open_sealed(file), encoding="utf-8-sig") as lines,
    ):
        for number, line in enumerate(itertools.islice(lines_of(lines), limit)):
            if line is None:
                log.warning("left out: %s, line %d is a %s", file, number + 1, LONG_LINE)
                continue
            row = json.loads(line) if line.strip() else {}
            if not isinstance(row, dict):
                raise DataError(f"{file}, line {number + 1} is no JSON object", hint=_HINT)
            texts.append("\n".join(value for key, value in row.items() if isinstance(value, str) and key != "id"))
    return texts


def tokenise(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], max_tokens: int) -> list[TokenSpan]:
    """Turn texts into tokens, cut at `max_tokens`; special tokens in front are run and not read."""
    made = []
    for text in texts:
        with foreign_errors(f"cannot tokenise {text[:60]!r}", hint="is it text?", kind=DataError):
            encoding = tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids, special = encoding["input_ids"][:max_tokens], encoding["special_tokens_mask"][:max_tokens]
        own = [place for place, is_special in enumerate(special) if not is_special]
        if own:
            made.append(TokenSpan(tuple(ids), own[0], own[-1] + 1))
    if not made:
        raise DataError("the texts have no token", hint="give longer texts, or raise --max-length")
    return made


def residual_batches(
    reader: Reader, texts: Sequence[TokenSpan], *, batch_size: int, seed: int
) -> Iterator[Float[Tensor, "t d"]]:
    """Yield batches of residuals of one layer without end, texts in a new order every pass.

    Texts whose residuals fit the buffer are run once; more are streamed through it.
    """
    draw = torch.Generator().manual_seed(derive_seed(seed, "order"))
    n_tokens = sum(text.stop - text.start for text in texts)
    fits = n_tokens <= _BUFFER_TOKENS
    stream = _stream(reader, texts, draw)
    buffer_td = _filled(next(stream), stream, min(n_tokens, _BUFFER_TOKENS))
    while True:
        order_t = torch.randperm(len(buffer_td), generator=draw)
        n_usable = len(buffer_td) if fits else len(buffer_td) // 2
        for used in range(batch_size, max(batch_size, n_usable) + 1, batch_size):
            yield buffer_td[order_t[used - batch_size : used]]
        if not fits:  # half of it is used up
            buffer_td = _filled(buffer_td[order_t[used:]], stream, _BUFFER_TOKENS)


def _filled(buffer_td: Tensor, stream: Iterator[Tensor], wanted: int) -> Tensor:
    while len(buffer_td) < wanted:
        buffer_td = torch.cat([buffer_td, next(stream)])
    return buffer_td


def _stream(reader: Reader, texts: Sequence[TokenSpan], draw: torch.Generator) -> Iterator[Tensor]:
    """Yield the residuals of some texts after the other, without end."""
    while True:
        order = torch.randperm(len(texts), generator=draw).tolist()
        for start in range(0, len(order), _TEXTS_A_READ):
            some = [texts[place] for place in order[start : start + _TEXTS_A_READ]]
            yield torch.cat([states_ltd[0] for states_ltd in read_tokens(reader, some)])
