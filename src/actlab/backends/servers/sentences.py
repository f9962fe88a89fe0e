"""Where a text that was cut last ended a sentence."""

import re

# End marks with their closing quotes and brackets; what follows is a space or the end, except after CJK marks.
_END = re.compile(r"""(?:[.!?…]+["'”’»)\]]*(?=\s|$)|[。！？]+[」』”’）]*)""")
_NO_END = re.compile(
    r"""(?:(?<!\w)(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|approx|e\.g|i\.e|cf|No|Fig|[A-Z])  # abbreviations and initials
        |(?:^|\n)\s*\d+  # the number of an item in a list
        )$""",
    re.VERBOSE,
)


def trim_to_sentence(text: str) -> str:
    """Cut a text after its last whole sentence; "" where it has none.

    A full stop after an abbreviation, an initial or a list's number ends nothing; nor does one after a digit
    where the text stops, which may be the middle of a number.

    >>> trim_to_sentence('Stir for 2.5 minutes. Dr. Oker said: "Taste it!" Then add 3.')
    'Stir for 2.5 minutes. Dr. Oker said: "Taste it!"'
    """
    text = text.strip()
    for match in reversed(list(_END.finditer(text))):
        before = text[: match.start()]
        full_stop = match[0] == "."
        cut_number = full_stop and match.end() == len(text) and before[-1:].isdigit()
        if before.strip() and not cut_number and not (full_stop and _NO_END.search(before[-40:])):
            return text[: match.end()]
    return ""
