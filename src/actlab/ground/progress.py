"""Progress for people: a bar where someone watches, a log line every so often where nobody does."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger("actlab")

LOG_EVERY_S = 30.0


class More(Protocol):
    """Told how many more are done, and perhaps what else to show."""

    def __call__(self, more: int, note: str = "") -> None:
        """Show it."""


@contextmanager
def progress(label: str, *, total: int, unit: str, quiet: bool = False) -> Iterator[More]:
    """Lend a function that is told how many more are done.

    A bar is drawn on stderr when it is a terminal (or in a notebook); otherwise a line is logged at most
    every 30 seconds. `quiet` shows nothing.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if quiet or not watched:
        yield _log_now_and_then(label, total, unit) if not quiet else (lambda more, note="": None)
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True) as bar:

        def update(more: int, note: str = "") -> None:
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update(more)

        yield update


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
