"""What makes a text unusable, whatever else is good about it."""

import re
from collections.abc import Callable
from typing import NamedTuple

from actlab.formats.documents import Document
from actlab.text.refine.compute.repetition import most_repeated, repetition_fractions
from actlab.text.refine.table import Preset

_CLOSING = "\"'”’»)]}*_ \t\r\n"
_TERMINAL = (".", "!", "?", "…")
_BROKEN = re.compile("[\ufffd\ufffe\uffff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_TWICE_ENCODED = re.compile("[ÂÃâÐÑ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]+")
_ARTEFACTS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\A\W*(sure|certainly|of course|absolutely|great question)\s*[,!.:]",
        r"\A\W*(here is|here are|here's|here’s|below is)\b[^\n]{0,120}:\s*$",
        r"\bas an? (ai|language model|large language model)\b",
        r"\A\W*i(['’]m| am) sorry, but i (can|am)\b",
        r"\A\W*i (cannot|can['’]t) (help|assist|fulfil|provide|create|write)\b",
        r"\bword count\s*:",
        r"\b(let me know if|i hope this (helps|meets))\b",
        r"</?think>|<\|[a-z_]+\|>|\[/?INST\]",
    )
)
"""What language models say about their text rather than in it: openings, refusals, counts, markers of chat formats."""
_CODE_FENCE = re.compile(r"^\s*```", re.MULTILINE)
_MOST_SHOWN = 40


class Failed(NamedTuple):
    """Why a document is rejected."""

    reason: str
    detail: str


Gate = Callable[[Document, Preset], str | None]
"""Returns what is wrong with a document, or None."""


def ends_sentence(text: str) -> bool:
    """Return whether a text ends with a sentence's end, quotation marks and brackets after it aside.

    >>> ends_sentence('She said: "Wait!"'), ends_sentence("and then he")
    (True, False)
    """
    return text.rstrip(_CLOSING).endswith(_TERMINAL)


def failed_gate(document: Document, preset: Preset) -> Failed | None:
    """Return the first gate that a document does not pass, or None."""
    for reason, gate in GATES.items():
        detail = gate(document, preset)
        if detail is not None:
            return Failed(reason, detail)
    return None


def _empty(document: Document, _preset: Preset) -> str | None:
    return None if document.text.strip() else "nothing but white space"


def _mojibake(document: Document, _preset: Preset) -> str | None:
    broken = _BROKEN.search(document.text)
    if broken:
        return f"U+{ord(broken[0]):04X} at character {broken.start()}"
    for found in () if document.text.isascii() else _TWICE_ENCODED.finditer(document.text):
        for end in (2, 3):  # so many bytes has a letter that was read as Windows-1252 (Latin-1 leaves U+0080 to U+009F)
            try:
                meant = found[0][:end].encode("cp1252").decode("utf-8")
            except UnicodeError:
                continue
            return f"{found[0][:end]!r} for {meant!r} at character {found.start()}"
    return None


def _artefact(document: Document, preset: Preset) -> str | None:
    patterns = _ARTEFACTS if preset.may_have_code else (*_ARTEFACTS, _CODE_FENCE)
    found = next((match for pattern in patterns if (match := pattern.search(document.text))), None)
    return found and found[0].strip()[:_MOST_SHOWN]


def _too_short(document: Document, preset: Preset) -> str | None:
    fewest = preset.fewest_tokens
    return f"{document.n_tokens} tokens of at least {fewest}" if document.n_tokens < fewest else None


def _unfinished(document: Document, preset: Preset) -> str | None:
    if not preset.needs_end or ends_sentence(document.text):
        return None
    return f"ends with {document.text.rstrip()[-_MOST_SHOWN:]!r}"


def _repetition(document: Document, _preset: Preset) -> str | None:
    name, share = most_repeated(repetition_fractions(document.text))
    return f"{name} is {share:.2f} of its limit" if share > 1 else None


GATES: dict[str, Gate] = {
    "empty": _empty,
    "mojibake": _mojibake,
    "teacher artefact": _artefact,
    "too short": _too_short,
    "unfinished": _unfinished,
    "repetition": _repetition,
}
"""In the order in which they are asked."""
