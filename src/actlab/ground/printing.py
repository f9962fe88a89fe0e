"""What goes to a terminal: a model, a file or a server may have written a part of it."""

import logging
import re

from actlab.ground.errors import scrubbed

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


class LineFormatter(logging.Formatter):
    """Formats a record as one line, and below it a traceback if it has one: without secrets, as a terminal shows it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record with all that belongs to it."""
        return printable(scrubbed(super().format(record)))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the record's message."""
        return printable_line(scrubbed(super().formatMessage(record)))


class _AsLines(logging.Filter):
    """Passes every record, and sees that its handler writes lines, whatever formatter it was given meanwhile."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self.handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True."""
        formatter = self.handler.formatter
        if not isinstance(formatter, LineFormatter):
            self.handler.setFormatter(LineFormatter(getattr(formatter, "_fmt", None)))
        return True


class _LineLogger(logging.Logger):
    """A logger whose handlers write lines, whoever adds them."""

    def addHandler(self, handler: logging.Handler) -> None:  # noqa: N802 - logging's own name
        """Add a handler."""
        handler.addFilter(_AsLines(handler))
        super().addHandler(handler)


def lines_of_libraries(*names: str) -> None:
    """Let libraries with handlers of their own, which they add when they are imported, write lines as we do."""
    kind = logging.getLoggerClass()
    logging.setLoggerClass(_LineLogger)
    try:
        for name in names:
            for handler in logging.getLogger(name).handlers:
                handler.addFilter(_AsLines(handler))
    finally:
        logging.setLoggerClass(kind)
