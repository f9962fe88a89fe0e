"""What goes to a terminal: a model, a file or a server may have written a part of it."""

import re
from collections.abc import Sequence

_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, other ends of lines, what turns the direction of writing around, and
halves of surrogate pairs, which no stream takes. Joiners, which scripts need, are none of them."""


def printable(text: str) -> str:
    r"""Return a text that a terminal shows as it is: characters that would act on it are escaped, as JSON has them.

    >>> print(printable("a \x1b[31mred\u202e word\n"), end="")
    a \u001b[31mred\u202e word
    """
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable_line(text: str) -> str:
    r"""Return a text in one line that a terminal shows as it is.

    >>> print(printable_line("one\nWRONG two"))
    one\u000aWRONG two
    """
    return printable(text).replace("\n", "\\u000a")


def first_of(names: Sequence[str], most: int = 3) -> str:
    """Return the first of several names for an error, and how many more there are.

    >>> first_of(["a", "b", "c", "d", "e"]), first_of(["a"])
    ('a, b, c and 2 more', 'a')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def format_bytes(count: float) -> str:
    """Return a number of bytes for people.

    >>> format_bytes(614_400)
    '614.4 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
