"""A text as words, and the form in which two texts are the same."""

import hashlib
import re
import unicodedata

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case: runs of letters and digits, joined by apostrophes and hyphens.

    >>> words_of("Don't re-heat it, twice!")
    ["don't", 're-heat', 'it', 'twice']
    """
    return _WORD.findall(text.lower())


def normal_form(text: str) -> str:
    """Return a text without what two copies may differ in: Unicode form (NFKC), case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> str:
    """Return 32 hex digits that stand for a text's normal form.

    >>> text_hash("Boil the rice. ") == text_hash("boil  the\\nrice.") != text_hash("boil the rice")
    True
    """
    return hashlib.blake2b(normal_form(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
