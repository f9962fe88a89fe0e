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
        wait_before(attempts, done.retry_after_s, calls=calls, rng=rng)
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
    """Ask once. A text that goes on far beyond its limit is cut there, as by length.

    Raises:
        CancelledCallError: `calls` was closed.
    """
    calls.take_turn()
    watch = Watch(endpoint.limits, clock)
    most = _CHARACTERS_A_TOKEN * request.max_tokens + _CHARACTERS_MORE
    texts: list[str] = []
    n_characters, thought = 0, False
    last, reason, problem = Piece(), CUT, "ended without its end marker"
    try:
        body = endpoint.as_sent(dialect.payload(endpoint, request))
        with answer_to(endpoint, dialect.path, body, watch=watch, calls=calls) as answer:
            if answer.status != 200:
                return _refusal(answer, watch, endpoint)
            for piece in dialect.pieces(lines_of(answer.lines())):
                if piece.text or piece.thought:
                    watch.saw_token()
                    texts.append(piece.text[: most - n_characters])
                    n_characters += len(piece.text)
                    thought |= piece.thought
                if n_characters > most:
                    reason, problem = LENGTH, f"more than {most} characters for {request.max_tokens} tokens"
                    break
                if piece.error:
                    reason, problem = piece.done_reason or ERROR, shown(endpoint.hidden(piece.error))
                    last = piece
                elif piece.done_reason:
                    last, reason, problem = piece, piece.done_reason, ""
                    break
    except CallError as error:
        reason, problem = error.reason, endpoint.hidden(str(error))
    said = split_thoughts("".join(texts))
    text = usable(said.text, reason, prose=request.schema is None)
    if (thought or said.thought) and not said.text.strip() and reason in (STOP, LENGTH):
        reason, problem = THOUGHT, UNCLOSED if said.unclosed or reason == LENGTH else ALONE
    elif reason == STOP and not text:
        reason, problem = EMPTY, "an end marker and no text"
    if endpoint.hidden(text) != text:
        text, reason, problem = "", SECRET, "the reply repeats the key or the login that was sent"
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


def _refusal(answer: Answer, watch: Watch, endpoint: Endpoint) -> Attempt:
    status = answer.status
    problem = refusal_text(status, answer.body(), answer.headers, hidden=endpoint.hidden)
    return Attempt(
        "",
        ERROR if status >= 500 or status in AGAIN else REFUSED,
        _timings(watch, Piece()),
        problem,
        again=status in AGAIN or (status == 500 and _runner_stopped(problem)),
        busy=status in BUSY,
        retry_after_s=retry_after_s(answer.headers, now=time.time()) if status in AGAIN else 0.0,
    )


def _runner_stopped(problem: str) -> bool:
    """Whether Ollama says that the model's process died: the next request starts it anew."""
    return "runner" in problem and "stopped" in problem


def _timings(watch: Watch, last: Piece) -> Timings:
    return Timings(
        total_s=watch.elapsed_s,
        first_token_s=watch.first_token_s,
        load_s=last.load_s,
        eval_s=last.eval_s,
        queue_s=last.queue_s,
    )
