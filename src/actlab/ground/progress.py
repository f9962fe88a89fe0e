"""Progress for people: a bar where someone watches, a log line every so often where nobody does."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("actlab")

LOG_EVERY_S = 30.0


@contextmanager
def progress(label: str, *, total: int, unit: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Lend a function that is told how many more are done.

    A bar is drawn on stderr when it is a terminal (or in a notebook); otherwise a line is logged at most
    every 30 seconds. `quiet` shows nothing.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if quiet or not watched:
        yield _log_now_and_then(label, total, unit) if not quiet else (lambda more: None)
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True) as bar:

        def update(more: int) -> None:
            bar.update(more)

        yield update


def _log_now_and_then(label: str, total: int, unit: str) -> Callable[[int], None]:
    start = last = time.monotonic()
    done = 0

    def update(more: int) -> None:
        nonlocal done, last
        done += more
        now = time.monotonic()
        if now - last >= LOG_EVERY_S:
            last = now
            per_s = done / (now - start)
            left_s = (total - done) / per_s if per_s else float("nan")
            log.info("%s: %d of %d %ss, %.1f a second, %.0f s left", label, done, total, unit, per_s, left_s)

    return update
