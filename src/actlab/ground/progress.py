"""Progress for people: a bar where someone watches, a log line every so often where nobody does."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from actlab.ground.log import log
from actlab.ground.printing import printable_line

LOG_EVERY_S = 30.0


class More(Protocol):
    """Told how many more are done, and perhaps what else to show."""

    def __call__(self, more: int, note: str = "", /) -> None:
        """Show it."""


@contextmanager
def progress(label: str, *, total: int, unit: str, quiet: bool = False) -> Iterator[More]:
    """Yield a callback that advances the progress display.

    A bar is drawn on stderr when it is a terminal (or in a notebook); otherwise a line is logged at most
    every 30 seconds. `quiet` shows nothing. What others write to stderr meanwhile, log lines and warnings
    of any library, stands on lines of its own above the bar.
    """
    label = printable_line(label)
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if quiet or not watched:
        yield _log_now_and_then(label, total, unit) if not quiet else (lambda more, note="": None)
        return
    from tqdm.auto import tqdm

    with (
        _lines_above_bars() as terminal,
        tqdm(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True, file=terminal) as bar,
    ):

        def update(more: int, note: str = "") -> None:
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update(more)

        yield update


class _AboveBars:
    """A terminal's stream on which each line clears the bars, stands above them, and has them drawn again."""

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal
        self._begun = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self.terminal, name)

    def write(self, text: str) -> int:
        """Write the lines that are whole; the rest waits for its end, or for the bars'."""
        from tqdm import tqdm

        if text.startswith("\r"):  # a bar of someone else
            return self.terminal.write(text)
        with tqdm.get_lock():  # type: ignore[no-untyped-call]
            whole, newline, self._begun = (self._begun + text).rpartition("\n")
            if newline:
                tqdm.write(whole, file=self.terminal)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them one after another, as they are."""
        self.write("".join(lines))

    def end(self) -> None:
        """Write what is left; the bars are gone."""
        self.terminal.write(self._begun)
        self._begun = ""


@contextmanager
def _lines_above_bars() -> Iterator[TextIO | None]:
    """Put a stream in stderr's place that keeps clear of bars, and lend stderr itself to draw a bar on.

    Logging's handlers keep the stream that they were made with, so theirs is exchanged as well. Lends nothing
    (tqdm finds its own way) where stderr is no terminal, as in a notebook.
    """
    terminal = sys.stderr
    if isinstance(terminal, _AboveBars):
        yield terminal.terminal
        return
    if not terminal.isatty():
        yield None
        return
    above: Any = _AboveBars(terminal)
    _exchange(terminal, above)
    try:
        yield terminal
    finally:
        _exchange(above, terminal)
        above.end()


def _exchange(old: TextIO, new: TextIO) -> None:
    """Give stderr, and every handler of logging that writes to it, another stream."""
    if sys.stderr is old:
        sys.stderr = new
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):  # a place in the tree without a logger has none
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                handler.setStream(new)


def _log_now_and_then(label: str, total: int, unit: str) -> More:
    start = last = time.monotonic()
    done = 0

    def update(more: int, note: str = "") -> None:
        nonlocal done, last
        done += more
        now = time.monotonic()
        if now - last >= LOG_EVERY_S:
            last = now
            per_s = done / (now - start)
            left_s = (total - done) / per_s if per_s else float("nan")
            noted = note and f"; {note}"
            log.info("%s: %d of %d %ss, %.1f a second, %.0f s left%s", label, done, total, unit, per_s, left_s, noted)

    return update
