"""What `.a`, `.cap`, `.s` and `.ed` do to a text."""

import re
import unicodedata
from collections.abc import Callable

_AN = re.compile(
    r"(?i:hour|honest|honou?r|heir)"
    r"|(?i:[fhlmnrsx])(?:-|\d|$)"
    r"|[FHLMNRSX][B-DF-HJ-NP-TV-Z]+\b|(?:FBI|LED|MRI|NGO|SUV)\b"  # spelled out
    r"|8|18\d\d(?!\d)|1[18](?:,?\d{3})*(?!\d)"  # eight, a year, eleven and eighteen
)
_A = re.compile(
    r"(?i:uni(?!n|m|deal|dent|ll|ro|rr|ss)|unanim|unesco|us[aeu]|ut[eio]|utah|ur[aei]n|urug|ubi|ugand|ukr|uk[eu]lele|uvul)"
    r"|(?i:eu|ewe|one\b|once\b|ouija|u(?:-|\d|$))"
    r"|U[A-Z]+\b"  # US, UFO
)
_PLURALS = {
    "calf": "calves", "child": "children", "crisis": "crises", "deer": "deer", "echo": "echoes", "elf": "elves",
    "epoch": "epochs", "fish": "fish", "foot": "feet", "goose": "geese", "half": "halves", "hero": "heroes",
    "hoof": "hooves", "knife": "knives", "leaf": "leaves", "life": "lives", "loaf": "loaves", "man": "men",
    "mango": "mangoes", "monarch": "monarchs", "mouse": "mice", "ox": "oxen", "patriarch": "patriarchs",
    "person": "people", "potato": "potatoes", "quiz": "quizzes", "scarf": "scarves", "self": "selves",
    "series": "series", "sheep": "sheep", "shelf": "shelves", "species": "species", "stomach": "stomachs",
    "thief": "thieves", "tomato": "tomatoes", "tooth": "teeth", "torpedo": "torpedoes", "veto": "vetoes",
    "volcano": "volcanoes", "wife": "wives", "wolf": "wolves", "woman": "women", "yourself": "yourselves",
}  # fmt: skip
_DOUBLES_ITS_LAST = re.compile(
    r"(ad|com|e|o|per|re|sub|trans)mit|(con|de|in|pre|re|trans)fer|(con|in|oc|re)cur|(com|dis|ex|im|pro|re)pel"
    r"|(un)?(clip|pin|plug|wrap|zip)|abhor|acquit|allot|control|deter|equip|format|kidnap|patrol|rebel|regret"
)
_ONE_SYLLABLE = re.compile(r"(qu|[^aeiou])*[aeiou][^aeiouwxy]")


def with_article(text: str) -> str:
    """Put "a" or "an" before a text, by its first sound, as far as letters tell it.

    >>> [with_article(text) for text in ("oven", "hour", "uniform", "ripe pear", "unusual day", "11 pears", "US map")]
    ['an oven', 'an hour', 'a uniform', 'a ripe pear', 'an unusual day', 'an 11 pears', 'a US map']
    """
    vowel = unicodedata.normalize("NFD", text)[:1].lower() in tuple("aeiou") and not _A.match(text)
    return f"{'an' if vowel or _AN.match(text) else 'a'} {text}"


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
        return f"{before}{space}{word[0]}{_PLURALS[word.lower()][1:]}"
    if re.search(r"(s|x|z|ch|sh)$", word):
        return text + "es"
    return text[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else text + "s"


def past(text: str) -> str:
    """Put the first word, a regular verb, into the past.

    Of verbs with several syllables only some known ones double the last letter (admitted; travelled is not among them).

    >>> [past(text) for text in ("chop", "stir in", "bake", "carry", "simmer", "play", "panic")]
    ['chopped', 'stirred in', 'baked', 'carried', 'simmered', 'played', 'panicked']
    """
    verb, space, after = text.partition(" ")
    rules = (
        (verb.endswith("e"), verb + "d"),
        (re.search(r"[^aeiou]y$", verb), verb[:-1] + "ied"),
        (re.search(r"[aeiou]c$", verb), verb + "ked"),
        (_ONE_SYLLABLE.fullmatch(verb) or _DOUBLES_ITS_LAST.fullmatch(verb), verb + verb[-1:] + "ed"),
    )
    return next((made for holds, made in rules if holds), verb + "ed") + space + after


MODIFIERS: dict[str, Callable[[str], str]] = {"a": with_article, "cap": capitalised, "s": plural, "ed": past}


def modified(text: str, modifiers: tuple[str, ...]) -> str:
    """Apply modifiers from left to right.

    >>> modified("open fire", ("a", "cap"))
    'An open fire'
    """
    for name in modifiers:
        text = MODIFIERS[name](text)
    return text
