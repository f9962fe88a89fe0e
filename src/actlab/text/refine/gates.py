"""Gates: what makes a text unusable, whatever its score. Adding one is adding a `Gate` to the table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actlab.ground.later import Later
from actlab.ground.variants import Table, Variant
from actlab.text.refine.table import Preset

if TYPE_CHECKING:
    from actlab.formats.documents import Document

Finds = Callable[["Document", Preset], str | None]
"""Returns what is wrong with a document, or None; the preset says what its kind of text needs."""


@dataclass(frozen=True, kw_only=True)
class Gate(Variant):
    """A hard filter, applied before the score; its name is the reason in `rejects.jsonl`."""

    finds: Finds


def _check(name: str) -> Finds:
    """Return a function of `compute/gates.py`, imported when the first document is looked at."""
    finds: Later[[Document, Preset], str | None] = Later(f"actlab.text.refine.compute.gates:{name}")
    return finds


GATES = Table(
    "gate",
    Gate(
        name="empty",
        help="nothing but white space",
        hint="is this the right file? none of its texts says anything",
        finds=_check("empty"),
    ),
    Gate(
        name="mojibake",
        help="characters that no text has, or UTF-8 that was read as Windows-1252",
        hint="read the text again in the encoding that it was written in, save it as UTF-8, and take out control "
        "characters",
        finds=_check("mojibake"),
    ),
    Gate(
        name="teacher artefact",
        help="what a language model says about its text, a chat format's markers, or a code fence (not with web)",
        hint="take away what the model says about its text, or ask it for the text alone",
        finds=_check("artefact"),
    ),
    Gate(
        name="too short",
        help="fewer tokens than the preset's least: 8 (short), 40 (story), 65 (web)",
        hint="try another --preset, or make longer documents",
        finds=_check("too_short"),
    ),
    Gate(
        name="unfinished",
        help="it does not end a sentence (not with web)",
        hint="let each text end a sentence, or give --preset web, which does not ask for that",
        finds=_check("unfinished"),
    ),
    Gate(
        name="repetition",
        help="more than a limit of Gopher's repeats: runs of words, lines or paragraphs",
        hint="make the text again with another seed, a higher temperature or another model",
        finds=_check("repetition"),
    ),
)
"""In the order in which they are asked."""
