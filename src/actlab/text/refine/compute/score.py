"""How well-formed a text is, from 0 to 1: a weighted geometric mean of parts that can each be seen.

It is a format check: of word order it knows only what repeats, see `shuffled.py`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import regex

from actlab.ground.scripts import PUNCTUATION, is_beyond_latin, is_latin, is_surely_latin, is_terminal
from actlab.text.refine import table
from actlab.text.refine.compute.repetition import most_repeated, repetition_fractions
from actlab.text.refine.subject import Topic
from actlab.text.templates.stems import stem
from actlab.text.words import (
    ends_sentence,
    has_no_ends,
    is_cut_by_script,
    is_unspaced,
    shorter_terms,
    terms_of,
    words_of,
)

_MARKS = frozenset('.,;:!?…—–()"“”')
_MARKS_BEYOND_LATIN = regex.compile(PUNCTUATION, regex.V1)
_QUOTES = ('"', "”")
_SYMBOLS = ("#", "...", "…")  # Gopher's


class Parts(NamedTuple):
    """What a score is made of, each from 0 (bad) to 1 (good)."""

    length: float
    punctuation: float
    relevance: float
    repetition: float
    variety: float
    form: float


def parts_of(text: str, n_tokens: int, preset: table.Preset, context: int, topic: Topic) -> Parts:
    """Return the parts of a text's score."""
    words = words_of(text)
    terms = terms_of(text) if is_beyond_latin(text) else words
    return Parts(
        length=_length(n_tokens, preset, context),
        punctuation=_punctuation(text, len(words)),
        relevance=_relevance(terms, topic),
        repetition=1 - min(1.0, 0.5 * most_repeated(repetition_fractions(text))[1]),
        variety=table.VARIETY(moving_variety(terms)),
        form=_form(text, words),
    )


def is_judged_by_script(text: str) -> bool:
    """Return whether gates, score or near-duplicates of a text may be others than Latin's rules would give."""
    return not is_surely_latin(text) and (not is_latin(text) or is_beyond_latin(text) or is_cut_by_script(text))


def score_of(parts: Parts) -> float:
    """Return the weighted geometric mean of the parts, so that one broken part sinks a text."""
    values = zip(table.WEIGHTS.values(), (getattr(parts, name) for name in table.WEIGHTS), strict=True)
    return math.exp(sum(weight * math.log(max(value, table.LEAST_PART)) for weight, value in values))


def with_judge(score: float, judged: float) -> float:
    """Return a score in which a judge's (0 to 1) has its share."""
    return float(score ** (1 - table.JUDGE_SHARE) * judged**table.JUDGE_SHARE)


def moving_variety(words: Sequence[str], window: int = table.VARIETY_WINDOW) -> float:
    """Return the mean share of distinct words over all windows of so many words; over the text where it is shorter.

    A word counts in those windows around it that reach back no further than behind its last occurrence, so one pass
    over the words is enough.
    """
    width = min(window, len(words))
    n_distinct = 0
    last: dict[str, int] = {}
    for place, word in enumerate(words):
        first_window = max(place - width + 1, last.get(word, -1) + 1)
        n_distinct += max(0, min(place, len(words) - width) - first_window + 1)
        last[word] = place
    return n_distinct / (width * (len(words) - width + 1)) if words else 0.0


def _length(n_tokens: int, preset: table.Preset, context: int) -> float:
    low, high = preset.longest_contexts
    return preset.length(n_tokens) * (1 - table.Ramp(low * context, high * context)(n_tokens))


def _punctuation(text: str, n_words: int) -> float:
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    is_latin_text = is_latin(text) and not is_beyond_latin(text)
    n_ended = sum(_ends_line(line, is_latin_text) for line in lines)
    per_word = _n_marks(text) / max(n_words, 1)
    enough = 1.0 if has_no_ends(text) else table.MARKS_PER_WORD(per_word)
    shares = table.PUNCTUATION_SHARES
    return (
        shares["end"] * ends_sentence(text)
        + shares["lines"] * table.LINES_WITH_END(n_ended / max(len(lines), 1))
        + shares["density"] * enough * (1 - table.TOO_MANY_MARKS(per_word))
    )


def _ends_line(line: str, is_latin_text: bool) -> bool:
    is_by_script = not is_latin_text and (is_beyond_latin(line) or not is_latin(line))
    return is_terminal(line[-1]) or line.endswith(_QUOTES) or (is_by_script and ends_sentence(line))


def _n_marks(text: str) -> int:
    n_other = len(_MARKS_BEYOND_LATIN.findall(text)) if is_beyond_latin(text) else 0
    return sum(map(_MARKS.__contains__, text)) + n_other


def _relevance(terms: Sequence[str], topic: Topic) -> float:
    """Return how much of the topic a text names: half of it the prompt's own words, half the domain's.

    Without a topic it is 1. Where only the prompt is known, a text that names none of its words gets a half: it
    can be about them all the same.
    """
    stems = [stem(term) for term in terms]
    in_text = frozenset(stems)
    in_text |= shorter_terms(topic.prompt_stems - in_text, in_text)
    of_domain = topic.keyword_stems | topic.vocabulary_stems
    prompt_share = _share(topic.prompt_stems, in_text, table.PROMPT_STEMS_ENOUGH)
    domain_share = _share(of_domain, in_text, table.DOMAIN_STEMS_ENOUGH) if of_domain else 1.0
    subject_share = prompt_share if topic.prompt_stems else domain_share
    density = sum(map((topic.prompt_stems | topic.keyword_stems).__contains__, stems)) / max(len(stems), 1)
    dense = sum(map(of_domain.__contains__, stems)) / max(len(stems), 1)
    is_text = (1 - table.TOO_MANY_KEYWORDS(density)) * (1 - table.TOO_MANY_DOMAIN_WORDS(dense))
    return (subject_share + domain_share) / 2 * is_text


def _share(wanted: frozenset[str], in_text: frozenset[str], enough: int) -> float:
    return min(1.0, len(wanted & in_text) / min(enough, len(wanted))) if wanted else 1.0


def _form(text: str, words: Sequence[str]) -> float:
    """Return how much a text's words look like running text: the geometric mean of four rules.

    The length of words and the stop words are Gopher's for English: text of another script is not asked for them.
    """
    n_words = max(len(words), 1)
    with_letters = sum(any(map(str.isalpha, word)) for word in words) / n_words
    symbols = sum(map(text.count, _SYMBOLS)) / n_words
    rules = [table.WORDS_WITH_LETTERS(with_letters), 1 - table.TOO_MANY_SYMBOLS(symbols)]
    if is_latin(text):
        rules = [_word_length(text, words), *rules, _stop_words(words)]
    return float(math.prod(rules) ** (1 / len(rules)))


def _word_length(text: str, words: Sequence[str]) -> float:
    spaced = [word for word in words if not is_unspaced(word)] if is_beyond_latin(text) else words
    mean_length = sum(map(len, spaced)) / max(len(spaced), 1)
    return table.WORD_LENGTH(mean_length) * (1 - table.TOO_LONG_WORDS(mean_length))


def _stop_words(words: Sequence[str]) -> float:
    """Return how many stop words there are of those that are enough; good short texts may have none."""
    enough = table.STOP_WORDS_ENOUGH_IF_SHORT if len(words) < table.SHORT_WORDS else table.STOP_WORDS_ENOUGH
    return min(1.0, (1 + len(table.GOPHER_STOP_WORDS.intersection(words))) / (1 + enough))
