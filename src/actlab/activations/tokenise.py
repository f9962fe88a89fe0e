"""Join prompt and response, tokenise them once, cut what is too long, and find the state to save."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from actlab.activations.config import ExtractConfig
from actlab.activations.positions import POSITIONS, Spans
from actlab.activations.source import Dropped, Row
from actlab.ground.errors import ModelError, foreign_errors
from actlab.ground.limits import LONG_TEXT, bounded_batches, is_too_long
from actlab.ground.log import log

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMPTY = "empty after tokenisation"
TOO_LONG = "the response alone is too long"
NO_SUCH_TOKEN = "no token at the position asked for"
NOT_IN_TEMPLATE = "the chat template does not keep the prompt and response"
CUT_AWAY = "truncation leaves nothing of the response"
OVER_LIMIT = "longer than the limit"
NOT_TEXT = "the response is not text"
NOT_FINITE = "NaN or inf in its states"
_STAND_IN = "zqResponseStandInqz"
"""Rendered in the response's stead, to see what the template writes around it."""
_CLOCK_READ = re.compile(r"""strftime_now\(\s*(?:format\s*=\s*)?((['"]).*?\2)""")
_STOPPED_CLOCK = """\
{%- macro strftime_now(format) -%}
{%- if format not in actlab_today -%}{{ raise_exception("it makes up a format for the date") }}{%- endif -%}
{{ actlab_today[format] }}
{%- endmacro %}
"""
"""Put before a chat template, it takes the clock's place: transformers hands no function into a template."""


@dataclass(frozen=True)
class Example:
    """One text as the model sees it, and which of its states is saved."""

    row: Row
    split: str
    ids: tuple[int, ...]
    start: int
    """The saved state is the mean over the tokens from `start` to `stop` - 1; one token for most positions."""
    stop: int
    n_truncated: int
    """Tokens that were cut."""


class Joined(NamedTuple):
    """A prompt and a response as one text."""

    text: str
    prompt_end: int
    """Characters that belong to the prompt: with a chat template, all that comes before the response."""
    response_start: int
    response_end: int

    def has_in_prompt(self, start: int, end: int) -> bool:
        """Whether a token of this span is the prompt's: it begins there, and keeps out of the response.

        Between a prompt and a response that a newline joins, a token may hold the newline too; a token that
        reaches from a chat template into the response is the response's, so that the prompt's last token
        does not depend on the response.
        """
        return start < self.prompt_end and (end <= self.prompt_end or self.prompt_end < self.response_start)


def asks_the_clock(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a tokenizer's chat template writes the date or the time."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None))


class Tokens:
    """Turns rows into examples, by one tokenizer and one set of settings."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", config: ExtractConfig, max_tokens: int, today: str | None = None
    ) -> None:
        self.max_tokens = max_tokens
        """Most tokens of an example: the smallest of --max-length and the model's and tokenizer's limits."""
        self.today = today
        """The day, as "2026-07-31", that a chat template takes for today."""
        self._tokenizer = tokenizer
        self._config = config
        if config.chat_template and not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "--chat-template: this model's tokenizer has none",
                hint="omit the flag, or use a chat model",
            )
        if config.chat_template:
            tried = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            with foreign_errors("the chat template cannot render a question and an answer", hint="omit the flag"):
                self._render(tried)

    def examples(self, rows: Iterable[Row]) -> Iterator[Example | Dropped]:
        """Yield an example, or why there is none, for each split of each row, in order."""
        rows = list(rows)
        yield from (Dropped(row.line, split, NOT_TEXT) for row in rows for split in row.not_text)
        pairs = [(row, split) for row in rows for split in row.responses]
        joined = [self._join(row, split) for row, split in pairs]
        encoded = self._encode([one.text for one in joined if isinstance(one, Joined)])
        for (row, split), one in zip(pairs, joined, strict=True):
            if isinstance(one, str):
                yield Dropped(row.line, split, one)
                continue
            spans = _find_spans(one, *next(encoded))
            made = self._make(row, split, spans)
            yield Dropped(row.line, split, made) if isinstance(made, str) else made

    def mark(self, example: Example) -> str:
        """Return an example's text as the model sees it, the saved tokens between ⟦ and ⟧."""
        before, saved, after = (
            self._tokenizer.decode(list(ids), skip_special_tokens=False)
            for ids in (
                example.ids[: example.start],
                example.ids[example.start : example.stop],
                example.ids[example.stop :],
            )
        )
        return f"{before}⟦{saved}⟧{after}"

    def token_text(self, token_id: int) -> str:
        """Return one token's text."""
        return str(self._tokenizer.decode([token_id]))

    def _render(self, messages: Sequence[dict[str, str]]) -> str:
        """Return a conversation as the chat template writes it, with a clock that stands still."""
        kept: dict[str, object] = {}
        if self.today is not None:
            template = self._tokenizer.get_chat_template()
            day = datetime.fromisoformat(self.today)
            kept["chat_template"] = _STOPPED_CLOCK + template
            formats = {ast.literal_eval(quoted) for quoted, _ in _CLOCK_READ.findall(template)}
            kept["actlab_today"] = {one: day.strftime(one) for one in formats}
        return str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, **kept))

    def _join(self, row: Row, split: str) -> Joined | str:
        """Make one text of a prompt and a response, or say why there is none."""
        response = row.responses[split]
        text = f"{row.prompt}\n{response}" if row.prompt else response
        if is_too_long(text):
            return LONG_TEXT
        if not self._config.chat_template:
            return Joined(text, len(row.prompt), len(text) - len(response), len(text))
        messages = row.messages or (
            *([{"role": "user", "content": row.prompt}] if row.prompt else []),
            {"role": "assistant", "content": response},
        )
        stand_in = (*messages[:-1], {**messages[-1], "content": _STAND_IN})
        try:
            with foreign_errors("the chat template refuses", hint=""):
                text, around = (self._render(one) for one in (messages, stand_in))
        except ModelError as error:
            log.debug("line %d: %s", row.line, error)
            return NOT_IN_TEMPLATE
        if is_too_long(text):  # with all that a template writes besides, such as calls of tools
            return LONG_TEXT
        before, found, behind = around.rpartition(_STAND_IN)
        start, end = len(before), len(text) - len(behind)
        is_around = found and start <= end and text.startswith(before) and text.endswith(behind)
        has_prompt = row.messages is not None or row.prompt.strip() in before
        if not is_around or not has_prompt or response.strip() not in text[start:end]:
            return NOT_IN_TEMPLATE
        return Joined(text, start, start, end)

    def _encode(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[tuple[int, int]], list[int]]]:
        """Tokenise whole texts: special tokens are the tokenizer's own, or the chat template's."""
        for some in bounded_batches(texts, most=len(texts)):
            yield from self._encode_at_once(some)

    def _encode_at_once(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[tuple[int, int]], list[int]]]:
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=not self._config.chat_template,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        bos = self._tokenizer.bos_token_id
        columns = (encoded[key] for key in ("input_ids", "offset_mapping", "special_tokens_mask"))
        for ids, offsets, special in zip(*columns, strict=True):
            if bos is not None and ids[:2] == [bos, bos]:  # the text brought a BOS of its own
                ids, offsets, special = ids[:1] + ids[2:], offsets[:1] + offsets[2:], special[:1] + special[2:]
            if ids[:1] == [bos]:
                special[0] = 1  # also where a chat template wrote it as text
            yield ids, offsets, special

    def _make(self, row: Row, split: str, spans: Spans) -> Example | str:
        """Cut and place one example, or say why there is none."""
        if spans.response_start == spans.response_stop:
            return EMPTY
        n_over = max(0, len(spans.ids) - self.max_tokens)
        if n_over:
            if self._config.truncate == "error":
                return OVER_LIMIT
            shorter = _cut(spans, n_over, self._config.truncate)
            if shorter is None:
                return TOO_LONG
            spans = shorter
            if spans.response_start >= spans.response_stop:
                return CUT_AWAY
        start, stop = POSITIONS[self._config.position].saved(spans, self._config.position)
        if not 0 <= start < stop <= len(spans.ids):
            return NO_SUCH_TOKEN
        return Example(row, split, tuple(spans.ids), start, stop, n_over)


def _find_spans(joined: Joined, ids: list[int], offsets: list[tuple[int, int]], special: list[int]) -> Spans:
    """Say which tokens are the prompt's and which the response's, by where in the text they lie.

    The response's tokens are those behind the prompt's that reach into it, so a newline of its own between
    the two is neither's. Some tokenizers leave whitespace out of their spans: such a token is no wider than
    a point, and counts where the point lies.
    """
    real = [i for i, is_special in enumerate(special) if not is_special]
    if not real:
        return Spans(ids, len(ids), len(ids), len(ids), len(ids))
    n_leading = real[0]
    prompt_stop = 1 + next((i for i in reversed(real) if joined.has_in_prompt(*offsets[i])), n_leading - 1)
    is_at_end = joined.response_end == len(joined.text)
    response = [
        i
        for i in real
        if i >= prompt_stop
        and offsets[i][1] > joined.response_start
        and (is_at_end or offsets[i][0] < joined.response_end)
    ]
    if not response:
        return Spans(ids, n_leading, prompt_stop, prompt_stop, prompt_stop)
    return Spans(ids, n_leading, prompt_stop, response[0], response[-1] + 1)


def _cut(spans: Spans, n_over: int, side: str) -> Spans | None:
    """Cut so many tokens from a side; None where the response alone does not fit.

    Special tokens in front stay, and so does what stands behind the response.
    """
    first, last = spans.n_leading, spans.response_stop - n_over
    start = last if side == "right" else first
    uncut = {"prompt": spans.response_start, "left": spans.response_stop - 1, "right": spans.response_stop}
    if start < first + (side == "right") or start + n_over > uncut[side]:
        return None

    def moved(index: int) -> int:
        return index - min(max(index - start, 0), n_over)

    return Spans(
        spans.ids[:start] + spans.ids[start + n_over :],
        spans.n_leading,
        *(moved(index) for index in (spans.prompt_stop, spans.response_start, spans.response_stop)),
    )
