"""What `.a`, `.cap`, `.s` and `.ed` do to a text."""

import re
from collections.abc import Callable

_AN_DESPITE_LETTER = re.compile(r"(hour|honest|honou?r|heir|[fhlmnrsx](?:-|\d|$))", re.IGNORECASE)
_A_DESPITE_LETTER = re.compile(
    r"(uni(?!n|m)|us[eu]|ut[eio]|ur[ai]n|ubi|eu|ewe|one\b|once\b|ukulele|[u](?:-|\d|$))", re.IGNORECASE
)
_PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "half": "halves", "knife": "knives", "leaf": "leaves",
    "life": "lives", "loaf": "loaves", "man": "men", "mouse": "mice", "person": "people", "shelf": "shelves",
    "tooth": "teeth", "wife": "wives", "wolf": "wolves", "woman": "women", "potato": "potatoes", "tomato": "tomatoes",
    "mango": "mangoes", "echo": "echoes", "hero": "heroes", "fish": "fish", "sheep": "sheep", "deer": "deer",
}  # fmt: skip


def with_article(text: str) -> str:
    """Put "a" or "an" before a text, by its first sound.

    >>> [with_article(text) for text in ("oven", "hour", "uniform", "ripe pear", "unusual day")]
    ['an oven', 'an hour', 'a uniform', 'a ripe pear', 'an unusual day']
    """
    vowel = text[:1].lower() in "aeiou" and not _A_DESPITE_LETTER.match(text)
    return f"{'an' if vowel or _AN_DESPITE_LETTER.match(text) else 'a'} {text}"


def capitalised(text: str) -> str:
    """Make the first character a capital and leave the others.

    >>> capitalised("the USB port")
    'The USB port'
    """
    return text[:1].upper() + text[1:]


def plural(text: str) -> str:
    """Make the last word plural.

    >>> [plural(text) for text in ("red berry", "dish", "day", "bread knife", "box")]
    ['red berries', 'dishes', 'days', 'bread knives', 'boxes']
    """
    before, space, word = text.rpartition(" ")
    if word.lower() in _PLURALS:
        ending = _PLURALS[word.lower()]
        return f"{before}{space}{word[0]}{ending[1:]}"
    if re.search(r"(s|x|z|ch|sh)$", word):
        return text + "es"
    return text[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else text + "s"


def past(text: str) -> str:
    """Put the first word, a regular verb, into the past.

    >>> [past(text) for text in ("chop", "stir in", "bake", "carry", "simmer", "play")]
    ['chopped', 'stirred in', 'baked', 'carried', 'simmered', 'played']
    """
    verb, space, after = text.partition(" ")
    if verb.endswith("e"):
        verb += "d"
    elif re.search(r"[^aeiou]y$", verb):
        verb = verb[:-1] + "ied"
    elif re.fullmatch(r"(qu|[^aeiou])*[aeiou][^aeiouwxy]", verb):
        verb += verb[-1] + "ed"
    else:
        verb += "ed"
    return verb + space + after


MODIFIERS: dict[str, Callable[[str], str]] = {"a": with_article, "cap": capitalised, "s": plural, "ed": past}


def modified(text: str, modifiers: tuple[str, ...]) -> str:
    """Apply modifiers from left to right.

    >>> modified("open fire", ("a", "cap"))
    'An open fire'
    """
    for name in modifiers:
        text = MODIFIERS[name](text)
    return text
