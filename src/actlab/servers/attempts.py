"""One attempt at a request, and the attempts after it."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from actlab.ground.seeds import derive_seed
from actlab.servers.calls import (
    CUT,
    EMPTY,
    ERROR,
    LENGTH,
    REFUSED,
    STOP,
    THOUGHT,
    TIMEOUT,
    UNREACHABLE,
    CallError,
    Endpoint,
    Piece,
    Reply,
    Request,
    Timings,
)
from actlab.servers.dialect import Dialect
from actlab.servers.fields import lines_of, refusal_text, shown
from actlab.servers.pauses import AGAIN, BUSY, LONGEST_RETRY_AFTER_S, N_RETRIES, retry_after_s, wait_before
from actlab.servers.sentences import trim_to_sentence
from actlab.servers.thoughts import ALONE, UNCLOSED, split_thoughts
from actlab.servers.wire import Answer, OpenCalls, Watch, answer_to

_CHARACTERS_A_TOKEN, _CHARACTERS_MORE = 32, 1000
"""A text of more a token was not held to its limit: long words have 32 characters, and are several tokens."""

SECRET = "secret"
"""How a reply fails that no file may hold."""


class Attempt(NamedTuple):
    """What one attempt gave."""

    reply: Reply
    again: bool = False
    """Whether the same request may do better in a moment."""
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
    asked, throttled, attempts = request, 0, 0
    while True:
        reply, again, pause_s = attempt(dialect, endpoint, asked, calls=calls, clock=clock)
        attempts += 1
        throttled += reply.throttled
        is_over = bool(reply.text) or reply.done_reason in (STOP, LENGTH)
        if not is_over and reply.done_reason == TIMEOUT and asked is request and request.max_tokens > 1:
            asked = replace(request, max_tokens=request.max_tokens // 2)
        elif is_over or not again or attempts > N_RETRIES or pause_s > LONGEST_RETRY_AFTER_S:
            return replace(reply, attempts=attempts, throttled=throttled)
        else:
            wait_before(attempts, pause_s, calls=calls, rng=rng)


def attempt(
    dialect: Dialect, endpoint: Endpoint, request: Request, *, calls: OpenCalls, clock: Callable[[], float]
) -> Attempt:
    """Ask once. A text that goes on far beyond its limit is cut there, as by length.

    Raises:
        CancelledCallError: `calls` was closed.
    """
    calls.take_turn()
    watch = Watch(endpoint.limits, clock)
    most = _CHARACTERS_A_TOKEN * request.max_tokens + _CHARACTERS_MORE
    received, thought = "", False
    last, reason, problem = Piece(), CUT, "ended without its end marker"
    try:
        body = endpoint.as_sent(dialect.payload(endpoint, request))
        with answer_to(endpoint, dialect.path, body, watch=watch, calls=calls) as answer:
            if answer.status != 200:
                return _refusal(request, answer, watch, endpoint)
            for piece in dialect.pieces(lines_of(answer.lines())):
                if piece.text or piece.thought:
                    watch.saw_token()
                received += piece.text
                thought |= piece.thought
                if len(received) > most:
                    received = received[:most]
                    reason, problem = LENGTH, f"more than {most} characters for {request.max_tokens} tokens"
                    break
                if piece.error or piece.done_reason:
                    last, reason, problem = piece, piece.done_reason or ERROR, shown(endpoint.hidden(piece.error))
                    break
    except CallError as error:
        reason, problem = error.reason, endpoint.hidden(str(error))
    said = split_thoughts(received)
    text = usable(said.text, reason, prose=request.schema is None)
    if (thought or said.thought) and not said.text.strip() and reason in (STOP, LENGTH):
        reason, problem = THOUGHT, UNCLOSED if said.unclosed or reason == LENGTH else ALONE
    elif reason == STOP and not text:
        reason, problem = EMPTY, "an end marker and no text"
    if endpoint.hidden(text) != text:
        text, reason, problem = "", SECRET, "the reply repeats the key or the login that was sent"
    again = reason == UNREACHABLE or (reason == ERROR and _runner_stopped(problem))
    return Attempt(_reply(request, watch, reason, problem, text, last), again)


def usable(text: str, done_reason: str, *, prose: bool) -> str:
    """Return what may be used of a text: all of a finished one, the whole sentences of another.

    Half of what is no prose is worth nothing. Halves of a surrogate pair, which two pieces may bring, are joined;
    a lone one, which no file can hold, becomes U+FFFD.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if done_reason == STOP:
        return text.strip()
    return trim_to_sentence(text) if prose else ""


def _refusal(request: Request, answer: Answer, watch: Watch, endpoint: Endpoint) -> Attempt:
    status, is_passing = answer.status, answer.status in AGAIN
    problem = refusal_text(status, answer.body(), answer.headers, hidden=endpoint.hidden)
    reply = _reply(request, watch, ERROR if status >= 500 or is_passing else REFUSED, problem, "", Piece())
    again = is_passing or (status == 500 and _runner_stopped(problem))
    pause_s = retry_after_s(answer.headers, now=time.time()) if is_passing else 0.0
    return Attempt(replace(reply, throttled=int(status in BUSY)), again, pause_s)


def _runner_stopped(problem: str) -> bool:
    """Whether Ollama says that the model's process died: the next request starts it anew."""
    return "runner" in problem and "stopped" in problem


def _reply(request: Request, watch: Watch, reason: str, problem: str, text: str, last: Piece) -> Reply:
    """Return what one attempt gave; `last` is the piece with the server's counts."""
    return Reply(
        k=request.k,
        text=text,
        done_reason=reason,
        problem=problem,
        n_tokens_teacher=last.n_tokens,
        timings=Timings(
            total_s=watch.elapsed_s,
            first_token_s=watch.first_token_s,
            load_s=last.load_s,
            eval_s=last.eval_s,
            queue_s=last.queue_s,
        ),
    )
