"""What a text's script says of its words: which characters stand without spaces, and which belong to a letter.

The properties are Unicode's, as `regex` has them (UAX 24: Script; UAX 14: Line_Break=SA, the scripts of South East
Asia that are written without spaces; UAX 44: Mn and Mc, the marks that combine with a letter).
"""

import re

import regex

SOUTH_EAST_ASIAN = r"[\p{Line_Break=SA}&&\p{L}]"
EAST_ASIAN = r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\uff70]&&[\p{L}\p{Nl}]]"
UNSPACED = f"[{SOUTH_EAST_ASIAN}{EAST_ASIAN}]"
"""A letter of a script without spaces between words. The long vowel mark is Katakana's, though Unicode shares it."""
MARK = r"[[\p{Mn}\p{Mc}\uff9e\uff9f]--[\u180b-\u180d\u20d0-\u20f0\ufe00-\ufe0f\U000e0100-\U000e01ef]]"
"""What combines with a letter; not the marks of symbols, nor what chooses a character's shape, as of emoji."""
JOINER = r"(?<=[\p{L}" + MARK + r"])[\u200c\u200d](?=\p{L})"
"""What Persian and the scripts of India have within words, between letters."""
_ENDS_OF_LATIN = ".!?…"
TERMINAL = r"[[\p{Sentence_Terminal}\u037e\u05c3\u0f0d\u0f0e]--[.!?\u2024\u203c\u203d\u2047-\u2049]]"
"""What ends a sentence in other scripts than Latin: Unicode's property, the Greek question mark, which is mostly
written as a semicolon, and the marks of Hebrew verses and Tibetan clauses; without the marks that Latin text has."""
CLOSING = "\"'”’»›)]}」』）*_ \t\r\n" + "｣》〉】〕〗〙〛〞〟＂＇］｝\u061c\u200f"
"""What may follow the end of a sentence."""
WITHOUT_ENDS = r"[\p{Thai}\p{Lao}]"
"""Of scripts whose sentences end with a space or with nothing."""
_HANGUL_PARTS = r"[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]"
PUNCTUATION = (
    r"[\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufe10-\ufe19"
    r"\u037e\u0387\u055c\u055e\u0589\u05c3\u060c\u061b\u061f\u06d4\u0700-\u0702\u07f9\u0964\u0965\u0df4\u0f0d\u0f0e"
    r"\u104a\u104b\u1362-\u1368\u166e\u17d4-\u17d6\u1803\u1809\u061c\u200f" + TERMINAL + "]"
)
"""Of scripts other than Latin, full-width forms and the marks of direction among it."""
_BEYOND_LATIN = regex.compile(f"{UNSPACED}|{MARK}|{_HANGUL_PARTS}|{PUNCTUATION}|{JOINER}", regex.V1)
_NOT_SURELY_LATIN = re.compile(
    "[^\x00-\xa7\xa9-\xae\xb0-\xb3\xb5-\xb7\xb9-\u012f\u0131-\u01ef\u01f1-\u02d7\u02de-\u02ff\u1e00-\u1e95\u1e9b-\u1eff"
    "\u2010-\u2016\u2018-\u203d\u203f-\u20cf\u2100-\u2125\u2127-\u2328\u232b-\u2adb\u2add-\u2bff\ue000-\uf8ff"
    "\ufb00-\ufb06\U0001f000-\U0001f129\U0001f12b-\U0001f1ff\U0001f300-\U0001faff]"
)
"""All but Latin letters and what stands between them, in any case and Unicode form: quick to see, and most texts."""
_LATIN = regex.compile(r"\p{Latin}")
_OTHER_LETTER = regex.compile(r"[\p{L}--[\p{Latin}\p{Common}]]", regex.V1)
_TERMINAL = regex.compile(TERMINAL, regex.V1)


def is_surely_latin(text: str) -> bool:
    """Return whether a text, its case and its Unicode form (NFC, NFKC) set aside, is Latin beyond doubt."""
    return text.isascii() or not _NOT_SURELY_LATIN.search(text)


def is_beyond_latin(text: str) -> bool:
    """Return whether a text has what is read by its script: letters without spaces, combining marks, punctuation.

    >>> [is_beyond_latin(text) for text in ("Café “noir” ❤️", "Москва.", "दिन", "东京")]
    [False, False, True, True]
    """
    return not is_surely_latin(text) and _BEYOND_LATIN.search(text) is not None


def is_latin(text: str) -> bool:
    """Return whether no more of a text's letters are another script's than are Latin; a text without letters is.

    >>> is_latin("The word 東京 is Tokyo."), is_latin("Слово Tokyo не отсюда.")
    (True, False)
    """
    return is_surely_latin(text) or len(_LATIN.findall(text)) >= len(_OTHER_LETTER.findall(text))


def is_terminal(character: str) -> bool:
    """Return whether a character ends sentences of its script; "" does not.

    >>> [is_terminal(one) for one in (".", "…", "。", "،", "")]
    [True, True, True, False, False]
    """
    if is_surely_latin(character):
        return character != "" and character in _ENDS_OF_LATIN
    return _TERMINAL.match(character) is not None
