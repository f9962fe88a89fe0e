"""One attempt at a request, and the attempts after it."""

import email.utils
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from actlab.backends.servers.calls import (
    CUT,
    EMPTY,
    ERROR,
    LENGTH,
    REFUSED,
    STOP,
    TIMEOUT,
    UNREACHABLE,
    Dialect,
    Endpoint,
    Piece,
    Reply,
    Request,
    Timings,
)
from actlab.backends.servers.questions import error_text
from actlab.backends.servers.sentences import trim_to_sentence
from actlab.backends.servers.wire import Answer, CallError, OpenCalls, Watch, answer_to
from actlab.ground.seeds import derive_seed

N_RETRIES = 3
BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
LONGEST_RETRY_AFTER_S = 120.0
"""A server that wants a longer pause counts as failed: there are templates."""
_BUSY = (429, 503)
_AGAIN = (*_BUSY, 502)


class Attempt(NamedTuple):
    """What one attempt gave."""

    text: str
    done_reason: str
    timings: Timings
    problem: str = ""
    n_tokens: int | None = None
    again: bool = False
    """Whether the same request may do better in a moment."""
    busy: bool = False
    retry_after_s: float = 0.0


def generate(
    dialect: Dialect,
    endpoint: Endpoint,
    request: Request,
    *,
    calls: OpenCalls,
    clock: Callable[[], float] = time.monotonic,
) -> Reply:
    """Ask for a text until it is there or more attempts are no use.

    What passes by itself (too many requests, a lost connection, a runner that stopped) is tried again up to three
    times, after a pause drawn between nothing and a doubling bound, or as long as the server says; a time-out once
    more with half the tokens. A text that arrived before a failure ends it: asking again would give two.

    Raises:
        CancelledCallError: `calls` was closed.
    """
    rng = random.Random(derive_seed(request.seed, "retry", request.k))
    asked, throttled, halved, attempts = request, 0, False, 0
    while True:
        done = attempt(dialect, endpoint, asked, calls=calls, clock=clock)
        attempts += 1
        throttled += done.busy
        if done.text or done.done_reason in (STOP, LENGTH):
            break
        if done.done_reason == TIMEOUT and not halved and request.max_tokens > 1:
            asked, halved = replace(request, max_tokens=request.max_tokens // 2), True
            continue
        if not done.again or attempts > N_RETRIES or done.retry_after_s > LONGEST_RETRY_AFTER_S:
            break
        bound_s = min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** (attempts - 1))
        calls.sleep(max(rng.uniform(0, bound_s), done.retry_after_s))
    return Reply(
        k=request.k,
        text=done.text,
        done_reason=done.done_reason,
        problem=done.problem,
        n_tokens_teacher=done.n_tokens,
        timings=done.timings,
        attempts=attempts,
        throttled=throttled,
    )


def attempt(
    dialect: Dialect, endpoint: Endpoint, request: Request, *, calls: OpenCalls, clock: Callable[[], float]
) -> Attempt:
    """Ask once.

    Raises:
        CancelledCallError: `calls` was closed.
    """
    watch = Watch(endpoint.limits, clock)
    texts: list[str] = []
    last, reason, problem = Piece(), CUT, "ended without its end marker"
    try:
        with answer_to(endpoint, dialect.path, dialect.payload(endpoint, request), watch=watch, calls=calls) as answer:
            if answer.status != 200:
                return _refusal(answer, watch, secret=endpoint.api_key)
            for piece in dialect.pieces(answer.lines()):
                if piece.text or piece.thought:
                    watch.saw_token()
                texts.append(piece.text)
                if piece.error:
                    reason, problem = ERROR, piece.error
                elif piece.done_reason:
                    last, reason, problem = piece, piece.done_reason, ""
                    break
    except CallError as error:
        reason, problem = error.reason, str(error)
    text = usable("".join(texts), reason, prose=request.schema is None)
    if reason == STOP and not text:
        reason, problem = EMPTY, "an end marker and no text"
    return Attempt(
        text,
        reason,
        _timings(watch, last),
        problem,
        n_tokens=last.n_tokens,
        again=reason == UNREACHABLE or (reason == ERROR and _runner_stopped(problem)),
    )


def usable(text: str, done_reason: str, *, prose: bool) -> str:
    """Return what may be used of a text: all of a finished one, the whole sentences of another.

    Half of what is no prose is worth nothing. Halves of a surrogate pair, which two pieces may bring, are joined;
    a lone one, which no file can hold, becomes U+FFFD.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if done_reason == STOP:
        return text.strip()
    return trim_to_sentence(text) if prose else ""


def _refusal(answer: Answer, watch: Watch, *, secret: str) -> Attempt:
    body = answer.body()
    try:
        problem = error_text(json.loads(body), secret=secret)
    except ValueError:
        problem = error_text(body.decode(errors="replace"), secret=secret)
    status = answer.status
    return Attempt(
        "",
        ERROR if status >= 500 or status in _AGAIN else REFUSED,
        _timings(watch, Piece()),
        f"{status} {problem}".strip(),
        again=status in _AGAIN or (status == 500 and _runner_stopped(problem)),
        busy=status in _BUSY,
        retry_after_s=retry_after_s(answer.headers, now=time.time()) if status in _AGAIN else 0.0,
    )


def _runner_stopped(problem: str) -> bool:
    """Whether Ollama says that the model's process died: the next request starts it anew."""
    return "runner" in problem and "stopped" in problem


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


def _timings(watch: Watch, last: Piece) -> Timings:
    return Timings(
        total_s=watch.elapsed_s,
        first_token_s=watch.first_token_s,
        load_s=last.load_s,
        eval_s=last.eval_s,
        queue_s=last.queue_s,
    )
