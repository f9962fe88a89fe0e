"""Which answers are worth another attempt, and how long to wait before it."""

import email.utils
import random
from collections.abc import Mapping

from actlab.ground.log import log
from actlab.servers.wire import OpenCalls

N_RETRIES = 3
BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
LONGEST_RETRY_AFTER_S = 120.0
"""A server that wants a longer pause counts as failed: there are templates."""
BUSY = (429, 503)
AGAIN = (*BUSY, 502)
_LONG_S = 5.0
"""A pause that is worth a word: shorter ones pass before anybody wonders."""


def wait_before(retry: int, wanted_s: float, *, calls: OpenCalls, rng: random.Random) -> None:
    """Wait before a retry, the first being 1: a time between nothing and a doubling bound, or what the server wants.

    Raises:
        CancelledCallError: `calls` was closed.
    """
    pause_s = max(rng.uniform(0, min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** (retry - 1))), wanted_s)
    if pause_s > _LONG_S:
        log.info("the server is not ready: it is asked again in %.0f s", pause_s)
    calls.sleep(pause_s)


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float:
    """Return the pause that a server asks for: seconds, or the time until a date; 0 where it says none.

    >>> retry_after_s({"Retry-After": "Thu, 01 Jan 1970 00:01:30 GMT"}, now=60.0)
    30.0
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return 0.0
