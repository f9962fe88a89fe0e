"""Where a text that was cut last ended a sentence."""

import re

import regex

from actlab.ground.scripts import CLOSING, TERMINAL, WITHOUT_ENDS, is_latin

# End marks with their closing quotes and brackets; after those that Latin text has, there is a space or the end.
_CLOSERS = "[" + regex.escape("".join(one for one in CLOSING if one not in "\"'*_ \t\r\n")) + "]*"
_MARKED = (
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s|$)"""
    rf"""|(?:(?!\uff0e\p{{Nd}}){TERMINAL})+{_CLOSERS}(?:["']+(?=\s|$))?"""
)
_END = regex.compile(_MARKED, regex.V1)
_END_BY_SCRIPT = regex.compile(
    rf"""{_MARKED}|(?<![.!?…])[.!?…]++{_CLOSERS}+(?=\s|$)"""
    r"""|(?<=\p{Greek}\p{M}*);["'”’»)\]]*(?=\s|$)"""  # a question mark
    rf"""|(?<={WITHOUT_ENDS})(?=\s+{WITHOUT_ENDS})""",  # a space, which ends a sentence or a clause
    regex.V1,
)
_NO_END = re.compile(
    r"""(?:(?<!\w)(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|approx|e\.g|i\.e|cf|No|Fig|[A-Z])  # abbreviations and initials
        |(?:^|\n)\s*\d+  # the number of an item in a list
        )$""",
    re.VERBOSE,
)


def trim_to_sentence(text: str) -> str:
    """Cut a text after its last whole sentence; "" where it has none.

    A full stop after an abbreviation, an initial or a list's number ends nothing; nor does one after a digit
    where the text stops, which may be the middle of a number. In Thai and Lao, a space ends what may be kept.

    >>> trim_to_sentence('Stir for 2.5 minutes. Dr. Oker said: "Taste it!" Then add 3.')
    'Stir for 2.5 minutes. Dr. Oker said: "Taste it!"'
    """
    text = text.strip()
    ends = _END if is_latin(text) else _END_BY_SCRIPT
    for match in reversed(list(ends.finditer(text))):
        before = text[: match.start()]
        full_stop = match[0] in (".", "．")
        cut_number = full_stop and match.end() == len(text) and before[-1:].isdigit()
        if before.strip() and not cut_number and not (full_stop and _NO_END.search(before[-40:])):
            return text[: match.end()]
    return ""
