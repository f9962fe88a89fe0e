"""Whether the score sees word order: the AUROC of texts against the same texts with their words shuffled."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from actlab.ground.seeds import derive_seed
from actlab.text.refine.compute.score import parts_of, score_of
from actlab.text.refine.compute.verdicts import Scored, Settings
from actlab.text.refine.table import PRESETS
from actlab.text.words import with_words

_MOST_TEXTS = 500
"""Of which the standard error of an AUROC is below 0.02 (Hanley and McNeil, 1982)."""
_SEED = 0
_DIGITS = 6


class AgainstShuffled(NamedTuple):
    """How well a score tells texts from their shuffled copies."""

    auroc: float | None
    """0.5 where it cannot tell them, 1 where every text scores higher than every copy; None of no text."""
    n_documents: int


def against_shuffled(scored: Sequence[Scored], settings: Settings) -> AgainstShuffled:
    """Score shuffled copies of texts that passed the gates, those with the smallest hashes, at most 500.

    A copy has the marks, the white space and the number of tokens of its text: it differs by word order alone. The
    scores are those without a judge.
    """
    some = sorted(scored, key=lambda one: one.hash)[:_MOST_TEXTS]
    if not some:
        return AgainstShuffled(None, 0)
    preset = PRESETS[settings.preset]
    copies = [
        parts_of(shuffled(one.document.text, one.hash), one.document.n_tokens, preset, settings.context, settings.topic)
        for one in some
    ]
    value = auroc([score_of(one.parts) for one in some], list(map(score_of, copies)))
    return AgainstShuffled(round(value, _DIGITS), len(some))


def shuffled(text: str, name: str) -> str:
    """Return a text with its words in another order, which depends on its name alone; all else stays in place."""

    def in_another_order(words: list[str]) -> list[str]:
        random.Random(derive_seed(_SEED, "shuffled words", name)).shuffle(words)
        return words

    return with_words(text, in_another_order)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the chance that a positive is higher than a negative, a tie being half of one (Mann and Whitney, 1947).

    >>> auroc([2.0, 1.0], [1.0, 0.0])
    0.875
    """
    ascending = np.sort(np.array(negative))
    n_below, n_not_above = (np.searchsorted(ascending, positive, side) for side in ("left", "right"))
    return float((n_below + n_not_above).mean() / 2 / len(ascending))
