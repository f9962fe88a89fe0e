"""A text as words, its sentences' ends, and the form in which two texts are the same.

What a word is depends on the script. Text of which nothing is beyond Latin's rules (`ground.scripts`) is cut by them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import regex

from actlab.formats.documents import read_documents
from actlab.ground.errors import DataError
from actlab.ground.scripts import (
    CLOSING,
    EAST_ASIAN,
    JOINER,
    MARK,
    SOUTH_EAST_ASIAN,
    UNSPACED,
    WITHOUT_ENDS,
    is_beyond_latin,
    is_latin,
    is_surely_latin,
    is_terminal,
)

VERSION = 2
"""Of what words and sentences' ends are beyond Latin; in 1 they were as in Latin text."""

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_LETTER = rf"[[\p{{L}}\p{{N}}]--[{UNSPACED}\uff9e\uff9f]]"
_PART = f"{_LETTER}(?:{_LETTER}|{MARK}|{JOINER})*"
_WORD_BY_SCRIPT = regex.compile(rf"{UNSPACED}{MARK}*|{_PART}(?:['’\-]{_PART})*", regex.V1)
_RUN = regex.compile(rf"(?P<unspaced>(?:{UNSPACED}{MARK}*)+)|{_PART}(?:['’\-]{_PART})*", regex.V1)
_CHARACTER = regex.compile(f"{UNSPACED}{MARK}*", regex.V1)
_WRITTEN = regex.compile(f"{UNSPACED}{MARK}*|[^{UNSPACED}]+", regex.V1 | regex.DOTALL)
_EAST, _SOUTH_EAST = regex.compile(EAST_ASIAN, regex.V1), regex.compile(SOUTH_EAST_ASIAN, regex.V1)
_EAST_PER_WORD, _SOUTH_EAST_PER_WORD = 2, 3
"""Characters that stand for a word where a rule counts words: about a Chinese or Japanese word's, and a Thai one's."""

_WITHOUT_ENDS = regex.compile(WITHOUT_ENDS)
_GREEK = regex.compile(r"\p{Greek}")
_LAST_IN_THAI = "\u0e5b"
"""The mark that ends a chapter."""
_UNMARKED = frozenset(("Lo", "Lm", "Lu", "Ll", "Lt", "Mn", "Mc", "Me", "Nd", "Nl", "No", "So", "Sk"))
"""Letters, marks, numbers and pictures, with which a sentence ends that has no mark at its end."""


class Written(NamedTuple):
    """A text cut where it has white space, and around the letters that stand without it."""

    words: list[str]
    per_word: int
    """How many of them stand for a word: 1 where words stand between white space."""

    @property
    def separator(self) -> str:
        """What stands between them."""
        return " " if self.per_word == 1 else ""


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case: runs of letters and digits, joined by apostrophes and hyphens.

    Marks belong to their letter, in composed form (NFC). Of scripts without spaces, each letter is a word.

    >>> words_of("Don't re-heat it, twice!"), words_of("हिन्दी"), words_of("东京 2020年")
    (["don't", 're-heat', 'it', 'twice'], ['हिन्दी'], ['东', '京', '2020', '年'])
    """
    text = text.lower()
    if not is_beyond_latin(text):
        return _WORD.findall(text)
    return _WORD_BY_SCRIPT.findall(unicodedata.normalize("NFC", text))


def with_words(text: str, changed: Callable[[list[str]], list[str]]) -> str:
    """Return a text with other words in the places of its own, as many; what stands between them stays.

    >>> with_words("Boil it, now!", lambda words: words[::-1])
    'now it, Boil!'
    """
    rule: re.Pattern[str] | regex.Pattern[str] = _WORD
    if is_beyond_latin(text):
        text, rule = unicodedata.normalize("NFC", text), _WORD_BY_SCRIPT
    words = iter(changed(rule.findall(text)))
    return rule.sub(lambda _: next(words), text)


def terms_of(text: str) -> list[str]:
    """Return what tells a text's subject: its words, but of scripts without spaces all runs of two letters or three.

    >>> terms_of("Boil it."), terms_of("煮米饭。")
    (['boil', 'it'], ['煮米', '米饭'])
    """
    text = text.lower()
    return list(_terms(unicodedata.normalize("NFC", text))) if is_beyond_latin(text) else _WORD.findall(text)


def written_words(text: str) -> Written:
    """Return a text's words as they are written, with case and punctuation.

    >>> written_words("Boil the rice."), written_words("煮 米饭。").words
    (Written(words=['Boil', 'the', 'rice.'], per_word=1), ['煮', '米', '饭', '。'])
    """
    if not is_beyond_latin(text):
        return Written(text.split(), 1)
    words = [word for part in text.split() for word in _WRITTEN.findall(part)]
    n_east, n_south_east = len(_EAST.findall(text)), len(_SOUTH_EAST.findall(text))
    if 2 * (n_east + n_south_east) <= len(words):
        return Written(words, 1)
    return Written(words, _EAST_PER_WORD if n_east >= n_south_east else _SOUTH_EAST_PER_WORD)


def is_unspaced(word: str) -> bool:
    """Return whether a word is of a script without spaces.

    >>> is_unspaced("京"), is_unspaced("Kyoto")
    (True, False)
    """
    return not word.isascii() and _CHARACTER.match(word) is not None


def ends_sentence(text: str) -> bool:
    """Return whether a text ends with a sentence's end, quotation marks and brackets after it aside.

    Scripts without such a mark end anywhere.

    >>> [ends_sentence(text) for text in ('She said: "Wait!"', "and then he", "「本当？」", "สวัสดี")]
    [True, False, True, True]
    """
    text = text.rstrip(CLOSING)
    return is_terminal(text[-1:]) or (not text.isascii() and _ends_by_script(text))


def has_no_ends(text: str) -> bool:
    """Return whether a text's last letter is of a script that does not mark the ends of sentences."""
    return not text.isascii() and _WITHOUT_ENDS.match(_last_letter(text)) is not None


def _ends_by_script(text: str) -> bool:
    if text.endswith(";"):
        return _GREEK.match(_last_letter(text)) is not None and not is_latin(text)
    return has_no_ends(text) and (text[-1] == _LAST_IN_THAI or unicodedata.category(text[-1]) in _UNMARKED)


def _last_letter(text: str) -> str:
    return next(filter(str.isalpha, reversed(text)), "")


def shorter_terms(wanted: Iterable[str], terms: Iterable[str]) -> set[str]:
    """Return those of some terms without spaces that are too short for a run, and stand within one of a text's.

    >>> sorted(shorter_terms(["狗", "猫", "鱼汤"], terms_of("小狗喝鱼汤")))
    ['狗']
    """
    short = [one for one in wanted if is_unspaced(one) and len(_CHARACTER.findall(one)) < _per_run(one)]
    return {one for one in short if any(one in term for term in terms)}


def _terms(text: str) -> Iterator[str]:
    for found in _RUN.finditer(text):
        letters = _CHARACTER.findall(found["unspaced"] or "")
        if letters:
            length = _per_run(letters[0])
            yield from ("".join(letters[start : start + length]) for start in range(max(1, len(letters) - length + 1)))
        else:
            yield found[0]


def _per_run(term: str) -> int:
    return _EAST_PER_WORD if _EAST.match(term) else _SOUTH_EAST_PER_WORD


def normal_form(text: str) -> str:
    """Return a text without what two copies may differ in: Unicode form (NFKC), case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> str:
    """Return 32 hex digits that stand for a text's normal form.

    >>> text_hash("Boil the rice. ") == text_hash("boil  the\\nrice.") != text_hash("boil the rice")
    True
    """
    return hashlib.blake2b(normal_form(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_cut_by_script(text: str) -> bool:
    """Return whether the words of a text's normal form are others than Latin's rules would make of it.

    >>> is_cut_by_script("Don´t cut cafés."), is_cut_by_script("别切。")
    (False, True)
    """
    normal = "" if is_surely_latin(text) else normal_form(text).lower()
    return is_beyond_latin(normal) and words_of(normal) != _WORD.findall(normal)


def latin_words_of(text: str) -> list[str]:
    """Return a text's words by Latin's rules, as in version 1, whatever its script."""
    return _WORD.findall(text.lower())


def versions_of_prompt(prompt: str | None) -> dict[str, int]:
    """Return the version of the words by which texts are compared with a prompt: nothing where they are those of 1.

    >>> [versions_of_prompt(prompt) for prompt in ("recipes！", "दाल", None)]
    [{}, {'words': 2}, {}]
    """
    return {"words": VERSION} if prompt and terms_of(prompt) != latin_words_of(prompt) else {}


def versions_of_documents(path: Path, is_by_script: Callable[[str], bool]) -> dict[str, int]:
    """Return the version of the words that decide what is made of documents: nothing where all is as it was in 1.

    `is_by_script` is asked of the texts. A file that cannot be read says nothing here: whoever reads it for its texts
    says why.

    Raises:
        StorageError: The file is a sealed dataset's and not as it was written.
    """
    try:
        with closing(read_documents(path, allow_empty=True)) as documents:
            return {"words": VERSION} if any(is_by_script(one.text) for one in documents) else {}
    except DataError:
        return {}
