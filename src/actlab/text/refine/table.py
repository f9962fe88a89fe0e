"""Every weight and threshold of the score, a format check, with where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Part = Literal["length", "punctuation", "relevance", "repetition", "variety", "form"]

WEIGHTS: Final[Mapping[Part, float]] = {
    "length": 0.15,
    "punctuation": 0.15,
    "relevance": 0.20,
    "repetition": 0.25,
    "variety": 0.10,
    "form": 0.15,
}
"""Of the parts in the score's geometric mean: they sum to 1. Set by hand on good and spoilt short documents."""
LEAST_PART: Final = 0.01
"""A part counts as at least so much, so that the score of a broken text says which one is more broken."""

# Gopher (Rae et al., 2021), table A1: the largest fraction that a document may have.
TOP_NGRAM_LIMITS: Final[Mapping[int, float]] = {2: 0.20, 3: 0.18, 4: 0.16}
"""Characters in the most frequent run of n words, where it occurs at least twice: in a document of 24 words a run of
four that occurs once holds over 16 % of the characters, and nearly half of all good ones would be rejected."""
DUPLICATE_NGRAM_LIMITS: Final[Mapping[int, float]] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Characters in runs of n words that have occurred before."""
DUPLICATE_PIECE_LIMITS: Final[Mapping[str, float]] = {
    "duplicate_lines": 0.30,
    "duplicate_line_characters": 0.20,
    "duplicate_paragraphs": 0.30,
    "duplicate_paragraph_characters": 0.20,
}
"""Lines and paragraphs that have occurred before, and the characters in them."""


class Ramp(NamedTuple):
    """A slope from 0 at `low` to 1 at `high`."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """Return where a value lies on it, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


# Punctuation: C4 (Raffel et al., 2020) keeps lines that end in a terminal mark; FineWeb (Penedo et al., 2024) keeps
# documents in which at least 0.12 of the lines do.
PUNCTUATION_SHARES: Final = {"end": 0.5, "lines": 0.3, "density": 0.2}
LINES_WITH_END: Final = Ramp(0.0, 0.5)
MARKS_PER_WORD, TOO_MANY_MARKS = Ramp(0.01, 0.05), Ramp(0.35, 0.70)

# Relevance: distinct stems, and a cap on how many words may be keywords, so that a list of keywords gains nothing.
PROMPT_STEMS_ENOUGH, DOMAIN_STEMS_ENOUGH = 2, 3
TOO_MANY_KEYWORDS: Final = Ramp(0.35, 0.70)
TOO_MANY_DOMAIN_WORDS: Final = Ramp(0.50, 0.85)
"""Of all words that are used in a domain: in good documents on cooking they are up to 0.46 of the words (measured)."""

# Lexical variety: the mean share of distinct words in a moving window (MATTR: Covington and McFall, 2010), as the
# share in a whole text falls with its length.
VARIETY_WINDOW: Final = 25
VARIETY: Final = Ramp(0.3, 0.7)

# Form: Gopher's rules (mean word of 3 to 10 letters, 0.8 of the words with a letter, 0.1 symbols a word, two of eight
# stop words), as slopes that end or begin there.
WORD_LENGTH, TOO_LONG_WORDS = Ramp(2.0, 3.0), Ramp(8.0, 10.0)
WORDS_WITH_LETTERS: Final = Ramp(0.6, 0.8)
TOO_MANY_SYMBOLS: Final = Ramp(0.05, 0.10)
GOPHER_STOP_WORDS: Final = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
STOP_WORDS_ENOUGH, STOP_WORDS_ENOUGH_IF_SHORT, SHORT_WORDS = 2, 1, 30

# A judge sees only what the score leaves open, and then has an equal say.
UNCERTAIN: Final = (0.35, 0.80)
JUDGE_SHARE: Final = 0.5

# Selection: what is new in a document is its runs of so many words that none before it has.
NEW_RUN_WORDS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What depends on the kind of text."""

    fewest_tokens: int
    """Shorter documents are rejected."""
    length: Ramp
    """From hardly a text to a whole one, in tokens."""
    longest_contexts: Ramp = field(default=Ramp(2.0, 4.0))
    """From where on a document is too long, in contexts of the student: windows cut it in pieces."""
    needs_end: bool = True
    """Whether a document that does not end a sentence is rejected."""
    may_have_code: bool = False
    """Whether a code fence is the text's own rather than a teacher's."""


PRESETS: Final[Mapping[Literal["short", "story", "web"], Preset]] = {
    # Documents of a few sentences: the web's least of 50 words rejects all of them.
    "short": Preset(fewest_tokens=8, length=Ramp(8, 24)),
    # TinyStories (Eldan and Li, 2023): three or four paragraphs, under 200 words.
    "story": Preset(fewest_tokens=40, length=Ramp(40, 120)),
    # Gopher: 50 to 100,000 words, about 1.3 tokens a word. Pages are no windows: they may be long.
    "web": Preset(
        fewest_tokens=65,
        length=Ramp(65, 130),
        longest_contexts=Ramp(500, 1000),
        needs_end=False,
        may_have_code=True,
    ),
}
