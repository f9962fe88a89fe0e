"""Positions: which of a text's states is saved. Adding one is adding a `Position` to the table."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from actlab.ground.variants import Table, Variant


class Spans(NamedTuple):
    """A tokenised text, cut into its parts. Each number is a token's index."""

    ids: list[int]
    n_leading: int
    """Special tokens that the tokenizer put in front."""
    prompt_stop: int
    """One past the prompt's last token."""
    response_start: int
    response_stop: int


@dataclass(frozen=True, kw_only=True)
class Position(Variant):
    """A place in a text."""

    saved: Callable[[Spans, str], tuple[int, int]]
    """From a text's spans and the name as it was given, from and to which token the saved state is the mean: one token
    for most positions, an empty range where there is none."""
    spelling: str | None = None
    """A regular expression for the ways to write it, where its name has a number in it."""

    def answers_to(self, name: str) -> bool:
        """Whether a name is this position's."""
        return re.fullmatch(self.spelling or re.escape(self.name), name) is not None


POSITIONS = Table(
    "position",
    Position(
        name="last",
        help="the last token",
        hint="every text has a last token: is the dataset empty?",
        saved=lambda spans, _: (len(spans.ids) - 1, len(spans.ids)),
    ),
    Position(
        name="prompt-last",
        help="the prompt's last token; the response is not run in causal models",
        hint='a prompt is needed: rows of {"prompt", …} have one, plain texts none',
        saved=lambda spans, _: (max(spans.n_leading, spans.prompt_stop - 1), spans.prompt_stop),
    ),
    Position(
        name="response-mean",
        help="the mean over the response's tokens",
        hint="choose another --position: every text has a last token",
        saved=lambda spans, _: (spans.response_start, spans.response_stop),
    ),
    Position(
        name="mean",
        help="the mean over all tokens, BOS included",
        hint="choose another --position: every text has a last token",
        saved=lambda spans, _: (0, len(spans.ids)),
    ),
    Position(
        name="-k",
        help="the k-th token from the end, as -2",
        hint="choose a smaller k, or another --position: every text has a last token",
        saved=lambda spans, given: (len(spans.ids) + int(given), len(spans.ids) + int(given) + 1),
        spelling=r"-[1-9]\d{0,5}",
    ),
)
