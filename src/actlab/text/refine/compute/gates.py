"""What the gates that come with actlab find wrong with a document."""

import re
from collections.abc import Collection
from typing import NamedTuple

from actlab.formats.documents import BROKEN, Document
from actlab.text.refine.compute.repetition import most_repeated, repetition_fractions
from actlab.text.refine.gates import GATES
from actlab.text.refine.table import Preset
from actlab.text.refusals import QUOTED, REFUSALS
from actlab.text.words import ends_sentence

_C = "[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_TWICE_ENCODED = re.compile(f"[Â-ÅÎ-Ñ]{_C}|[âï]{_C}{{2}}|ðŸ{_C}{{2}}|(?:[à-î]{_C}{{2}}){{2,}}")
"""What UTF-8's bytes look like when they are read as Windows-1252 (Latin-1 leaves U+0080 to U+009F, which are broken):
Latin, Greek and Cyrillic letters; punctuation; emoji; two letters of other scripts, for one may be "allé…»"."""
_AFTER_A_WORD = frozenset("‘’“”‚„‹›«»…–—²³¹·°±")
"""What may stand after a capital letter as it is: the end of a quotation, and the square of an "Å"."""
_OPENER = r"\A\W*(sure( thing)?|certainly|of course|absolutely|great question)"
_OFFER = r"(here(['’]s| is) (an?|the|your|my|some|another|how|what)|here are|below (is|are)|i['’]d be (glad|happy))\b"
_PHRASES = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"{_OPENER}[,!.:]+\s+{_OFFER}",
        rf"{_OPENER}[!:][*_ \t]*\n",
        r"\A\W*(here is|here are|here's|here’s|below is)\b[^\n]{0,120}:\s*$",
        *REFUSALS,
        r"\bword count\s*:\s*\d",
        r"(\A|[.!?:]\s+|\n[^\w\n]*)(let me know if (you|this|there)|i hope this (helps|meets))\b[^\n]{0,200}\s*\Z",
    )
)
"""What language models say about their text rather than in it, in English: openings, refusals, counts, farewells.
Nothing counts that somebody in the text says, in quotation marks."""
_MARKERS = re.compile(r"</?think>|<\|[a-z_]+\|>|\[/?INST\]", re.IGNORECASE)
"""Of chat formats, which are in no text."""
_CODE_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_MOST_SHOWN = 40


class Failed(NamedTuple):
    """Why a document is rejected."""

    reason: str
    detail: str


def failed_gate(document: Document, preset: Preset, named: Collection[str] = ()) -> Failed | None:
    """Return the first gate that a document does not pass, of those that come with actlab and those named, or None."""
    for gate in (*GATES.shipped, *(gate for gate in GATES if gate.name in named)):
        if (detail := gate.finds(document, preset)) is not None:
            return Failed(gate.name, detail)
    return None


def empty(document: Document, _preset: Preset) -> str | None:
    """Find a text of white space alone."""
    return None if document.text.strip() else "nothing but white space"


def mojibake(document: Document, _preset: Preset) -> str | None:
    """Find what no text has that was read as it was written."""
    if broken := BROKEN.search(document.text):
        return f"U+{ord(broken[0]):04X} at character {broken.start()}"
    for found in () if document.text.isascii() else _TWICE_ENCODED.finditer(document.text):
        if (meant := _meant(found)) is not None:
            return f"{found[0]!r} for {meant!r} at character {found.start()}"
    return None


def _meant(found: re.Match[str]) -> str | None:
    """Return what was encoded twice, or None where it was not: "IRMÃ»" may be a word and a quotation's end."""
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    if len(found[0]) == 2 and found[0][1] in _AFTER_A_WORD and not (before.islower() or after.isalpha()):
        return None
    try:
        return found[0].encode("cp1252").decode("utf-8")
    except UnicodeError:
        return None


def artefact(document: Document, preset: Preset) -> str | None:
    """Find what a teacher says about its text."""
    text = document.text
    found = _MARKERS.search(text) or (None if preset.may_have_code else _CODE_FENCE.search(text))
    if found is None:
        unquoted = QUOTED.sub("", text)
        found = next((match for phrase in _PHRASES if (match := phrase.search(unquoted))), None)
    return found and found[0].strip().lstrip(".!?: ")[:_MOST_SHOWN]


def too_short(document: Document, preset: Preset) -> str | None:
    """Find a document of too few tokens."""
    fewest = preset.fewest_tokens
    return f"{document.n_tokens} tokens of at least {fewest}" if document.n_tokens < fewest else None


def unfinished(document: Document, preset: Preset) -> str | None:
    """Find an end that is no sentence's."""
    if not preset.needs_end or ends_sentence(document.text):
        return None
    return f"ends with {document.text.rstrip()[-_MOST_SHOWN:]!r}"


def repetition(document: Document, _preset: Preset) -> str | None:
    """Find what repeats more than Gopher's limits allow."""
    name, share = most_repeated(repetition_fractions(document.text))
    return f"{name} is {share:.2f} of its limit" if share > 1 else None
