"""Join prompt and response, tokenise them once, cut what is too long, and find the state to save."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from actlab.activations.config import ExtractConfig
from actlab.activations.source import Dropped, Row
from actlab.ground.errors import DataError, ModelError

log = logging.getLogger("actlab")

EMPTY = "empty after tokenisation"
TOO_LONG = "the response alone is too long"
NO_SUCH_TOKEN = "no token at the position asked for"
NOT_IN_TEMPLATE = "the chat template does not keep the prompt and response"


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


class Spans(NamedTuple):
    """A tokenised text, cut into its parts. Each number is a token's index."""

    ids: list[int]
    n_leading: int
    """Special tokens that the tokenizer put in front."""
    prompt_stop: int
    """One past the prompt's last token."""
    response_start: int
    response_stop: int


class Tokens:
    """Turns rows into examples, by one tokenizer and one set of settings."""

    def __init__(self, tokenizer: Any, config: ExtractConfig, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        """Most tokens of an example: the smallest of --max-length and the model's and tokenizer's limits."""
        self._tokenizer = tokenizer
        self._config = config
        if config.chat_template and not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "--chat-template: this model's tokenizer has none",
                hint="leave the flag away, or use a chat model",
            )

    def examples(self, rows: Iterable[Row]) -> Iterator[Example | Dropped]:
        """Yield an example, or why there is none, for each split of each row, in order.

        Raises:
            DataError: An example is too long and `--truncate error` is set.
        """
        pairs = [(row, split) for row in rows for split in row.responses]
        joined = [self._join(row, split) for row, split in pairs]
        encoded = iter(self._encode([one.text for one in joined if one is not None]))
        for (row, split), one in zip(pairs, joined, strict=True):
            if one is None:
                yield Dropped(row.line, split, NOT_IN_TEMPLATE)
                continue
            spans = _find_spans(one, *next(encoded), self._tokenizer.bos_token_id)
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

    def _join(self, row: Row, split: str) -> Joined | None:
        response = row.responses[split]
        if not self._config.chat_template:
            text = f"{row.prompt}\n{response}" if row.prompt else response
            return Joined(text, len(row.prompt), len(text) - len(response), len(text))
        messages = row.messages or (
            *([{"role": "user", "content": row.prompt}] if row.prompt else []),
            {"role": "assistant", "content": response},
        )
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False)
        except (TemplateError, TypeError, KeyError) as error:
            log.debug("line %d: the chat template refuses: %s", row.line, error)
            return None
        start = text.rfind(response.strip())
        has_prompt = row.messages is not None or row.prompt.strip() in text[: max(start, 0)]
        if start < 0 or not has_prompt:
            return None
        return Joined(text, start, start, start + len(response.strip()))

    def _encode(self, texts: Sequence[str]) -> Iterable[tuple[list[int], list[tuple[int, int]]]]:
        """Tokenise whole texts: special tokens are the tokenizer's own, or the chat template's."""
        if not texts:
            return
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=not self._config.chat_template,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        bos = self._tokenizer.bos_token_id
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if bos is not None and ids[:2] == [bos, bos]:  # the text brought a BOS of its own
                ids, offsets = ids[1:], offsets[1:]
            yield ids, offsets

    def _make(self, row: Row, split: str, spans: Spans) -> Example | str:
        """Cut and place one example, or say why there is none."""
        if spans.response_start == spans.response_stop:
            return EMPTY
        n_over = max(0, len(spans.ids) - self.max_tokens)
        if n_over:
            if self._config.truncate == "error":
                raise DataError(
                    f"line {row.line}, {split}: {len(spans.ids)} tokens, and the limit is {self.max_tokens}",
                    hint="raise --max-length (the model's own limit stays), or choose another --truncate",
                )
            shorter = _cut(spans, n_over, self._config.truncate)
            if shorter is None:
                return TOO_LONG
            spans = shorter
        start, stop = _saved_tokens(spans, self._config.position)
        if not 0 <= start < stop:
            return NO_SUCH_TOKEN
        return Example(row, split, tuple(spans.ids), start, stop, n_over)


def _saved_tokens(spans: Spans, position: str) -> tuple[int, int]:
    """Return from and to which token the saved state is the mean; an empty range where there is none."""
    n_tokens = len(spans.ids)
    match position:
        case "last":
            return n_tokens - 1, n_tokens
        case "prompt-last":
            return max(spans.n_leading, spans.prompt_stop - 1), spans.prompt_stop
        case "response-mean":
            return spans.response_start, spans.response_stop
        case "mean":
            return 0, n_tokens
        case from_end:
            return n_tokens + int(from_end), n_tokens + int(from_end) + 1


def _find_spans(joined: Joined, ids: list[int], offsets: list[tuple[int, int]], bos: int | None) -> Spans:
    """Say which tokens are the prompt's and which the response's, by where in the text they lie.

    The prompt ends at the last token that begins inside it; a token that reaches over the boundary is the
    prompt's. The response's tokens are the others that reach into it, so a newline of its own between the
    two is neither's.
    """
    real = [i for i, (start, end) in enumerate(offsets) if end > start]
    if not real:
        return Spans(ids, len(ids), len(ids), len(ids), len(ids))
    n_leading = real[0]
    if n_leading == 0 and ids[0] == bos:  # a chat template writes its BOS as text
        n_leading = 1
    prompt_stop = 1 + max((i for i in real if offsets[i][0] < joined.prompt_end), default=n_leading - 1)
    response = [
        i
        for i in real
        if i >= prompt_stop and offsets[i][1] > joined.response_start and offsets[i][0] < joined.response_end
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
