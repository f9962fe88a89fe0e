"""A word's stem: light, so that two words share one only when they plainly belong together."""

import functools
import re

from actlab.text.words import latin_words_of, terms_of

_VOWEL = re.compile(r"[aeiouy]")


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Take off the endings of plural, past and -ing, and a last e.

    >>> [stem(word) for word in ("recipe", "recipes", "baking", "baked", "stories", "story", "history", "chopped")]
    ['recip', 'recip', 'bak', 'bak', 'stori', 'stori', 'histori', 'chop']
    """
    word = re.sub(r"['’]s$", "", word.lower())
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "i"
    if re.search(r"(s|x|z|ch|sh|o)es$", word) and len(word) > 4:
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        kept = word.removesuffix(ending)
        if kept != word and len(kept) > 2 and _VOWEL.search(kept):
            doubled = kept[-1] == kept[-2] and kept[-1] not in "lsz"
            word = kept[:-1] if doubled else kept
            break
    if word.endswith("y") and len(word) > 3 and word[-2] not in "aeiou":
        return word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def parts_of(text: str) -> list[str]:
    """Return a text's words, those with hyphens in their parts, in lower case.

    >>> parts_of("A poet's recipe-book")
    ['a', "poet's", 'recipe', 'book']
    """
    return [part for word in terms_of(text) for part in word.split("-")]


def stems_of(text: str) -> frozenset[str]:
    """Return the stems of a text's words."""
    return frozenset(map(stem, parts_of(text)))


def latin_parts_of(text: str) -> list[str]:
    """Return the same by Latin's rules, as in version 1 of the words, whatever the text's script."""
    return [part for word in latin_words_of(text) for part in word.split("-")]
