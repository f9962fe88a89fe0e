"""How many requests at a time: as many as make it faster."""

from dataclasses import dataclass, replace
from typing import NamedTuple

GROWS_BY = 1.10
"""One more request has to make the whole this much faster, or it is only one more in the queue."""
MOST_QUEUE = 0.20
"""Share of the replies' time that may be waiting for a slot."""


class Window(NamedTuple):
    """What was measured since the last change."""

    n_replies: int = 0
    n_tokens: int = 0
    queue_s: float = 0.0
    total_s: float = 0.0
    throttled: bool = False

    def full(self, limit: int) -> bool:
        """Whether it is enough to judge by: two rounds."""
        return self.throttled or self.n_replies >= 2 * limit


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The requests at a time, and what is known of fewer."""

    cap: int
    limit: int = 1
    best: float | None = None
    """Tokens a second at the limit before this one."""
    settled: bool = False


def next_pace(pace: Pace, window: Window, elapsed_s: float) -> Pace:
    """Return the pace that a full window of `elapsed_s` seconds suggests.

    A server that turned a request away, or let replies wait in its queue, gets half as many; one more is given
    while the tokens a second grow by a tenth, and taken back when they do not.
    """
    if window.throttled:
        return replace(pace, limit=max(1, pace.limit // 2), best=None, settled=False)
    if pace.limit > 1 and window.queue_s > MOST_QUEUE * window.total_s:
        return replace(pace, limit=pace.limit // 2, best=None, settled=True)
    if pace.settled:
        return pace
    per_s = window.n_tokens / max(elapsed_s, 1e-9)
    if pace.best is not None and per_s < GROWS_BY * pace.best:
        return replace(pace, limit=max(1, pace.limit - 1), settled=True)
    return replace(pace, limit=min(pace.cap, pace.limit + 1), best=per_s, settled=pace.limit >= pace.cap)
