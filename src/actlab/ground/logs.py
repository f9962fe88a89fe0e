"""Log lines on stderr: ours and those of libraries."""

import logging

from actlab.ground.errors import scrubbed
from actlab.ground.printing import printable, printable_line


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
