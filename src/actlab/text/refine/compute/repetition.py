"""How much of a text says again what it has said: the fractions of Gopher's table A1."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from actlab.text.refine.table import (
    DUPLICATE_NGRAM_LIMITS,
    DUPLICATE_PIECE_LIMITS,
    TOP_NGRAM_LIMITS,
)
from actlab.text.words import written_words

LIMITS: Final[Mapping[str, float]] = {
    **{f"top_{n}gram": limit for n, limit in TOP_NGRAM_LIMITS.items()},
    **{f"duplicate_{n}gram": limit for n, limit in DUPLICATE_NGRAM_LIMITS.items()},
    **DUPLICATE_PIECE_LIMITS,
}
"""The largest fraction of each kind that a document may have."""


def repetition_fractions(text: str) -> dict[str, float]:
    """Return the fractions of a text that repeat, those that are not 0, by the names of `LIMITS`.

    Words stand between white space; where a script has none, two or three of its letters stand for one
    (`words.written_words`). A fraction of characters is of the words' characters. `top_3gram` is the
    fraction in the most frequent run of three words, of equally frequent ones the one that covers most; 0 where none
    occurs twice. `duplicate_5gram` is the fraction in runs of five words that have occurred before, their first
    occurrence not counted. A character counts once, however many runs it is in.

    >>> repetition_fractions("one two one two")
    {'top_2gram': 1.0}
    """
    words, per_word = written_words(text)
    lengths = [len(word) for word in words]
    found = {}
    for n in range(min(TOP_NGRAM_LIMITS), max(DUPLICATE_NGRAM_LIMITS) + 1):
        n_written = n * per_word
        runs = list(zip(*(words[place:] for place in range(n_written)), strict=False))
        if len(set(runs)) == len(runs):  # what is longer does not repeat either
            break
        if n in TOP_NGRAM_LIMITS:
            found[f"top_{n}gram"] = _top(runs, n_written, lengths) / sum(lengths)
        else:
            found[f"duplicate_{n}gram"] = _covered(_repeats(runs), n_written, lengths) / sum(lengths)
    if "\n" in text:
        found |= _repeated_pieces(text.split("\n"), "line")
        found |= _repeated_pieces(text.split("\n\n"), "paragraph")
    return {name: fraction for name, fraction in found.items() if fraction}


def most_repeated(fractions: Mapping[str, float]) -> tuple[str, float]:
    """Return which fraction is the most of its limit, and how much of it; ("", 0.0) where nothing repeats."""
    of_limit = ((name, value / LIMITS[name]) for name, value in fractions.items())
    return max(of_limit, key=lambda pair: pair[1], default=("", 0.0))


def _top(runs: Sequence[tuple[str, ...]], n: int, lengths: Sequence[int]) -> int:
    """Return the characters that the most frequent run covers."""
    counts = Counter(runs)
    most = max(counts.values())
    starts: dict[tuple[str, ...], list[int]] = {run: [] for run, count in counts.items() if count == most}
    for place, run in enumerate(runs):
        if run in starts:
            starts[run].append(place)
    return max(_covered(places, n, lengths) for places in starts.values())


def _repeats(runs: Iterable[tuple[str, ...]]) -> list[int]:
    """Return where runs begin that have occurred before."""
    first: dict[tuple[str, ...], int] = {}
    return [place for place, run in enumerate(runs) if first.setdefault(run, place) != place]


def _covered(starts: Iterable[int], n: int, lengths: Sequence[int]) -> int:
    """Return the characters in the runs of n words that begin at these places, ascending; each counts once."""
    n_characters = end = 0
    for start in starts:
        n_characters += sum(lengths[max(start, end) : start + n])
        end = start + n
    return n_characters


def _repeated_pieces(pieces: Sequence[str], kind: str) -> dict[str, float]:
    """Return the fraction of the pieces, and of their characters, that have occurred before."""
    whole = [stripped for piece in pieces if (stripped := piece.strip())]
    first = set(whole)
    n_characters = sum(map(len, whole))
    if not n_characters:
        return {}
    return {
        f"duplicate_{kind}s": 1 - len(first) / len(whole),
        f"duplicate_{kind}_characters": 1 - sum(map(len, first)) / n_characters,
    }
