"""Small questions to a server before a run: one JSON answer each."""

import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from actlab.servers.calls import CallError, Endpoint, ServerError
from actlab.servers.fields import json_of, refusal_text, shown
from actlab.servers.pauses import AGAIN, LONGEST_RETRY_AFTER_S, N_RETRIES, retry_after_s, wait_before
from actlab.servers.wire import OpenCalls, Watch, answer_to

_OBJECT_OR_STREAM = ("{", "data:", "event:", ":")


class Answered(NamedTuple):
    """A status and what came with it."""

    status: int
    json: object
    """None where it was none."""
    problem: str
    """What a refusal says, in one line."""
    retry_after_s: float
    begins: str
    """Its first words, in one line."""


def ask(
    endpoint: Endpoint,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    within_s: float,
    hint: str,
    calls: OpenCalls,
) -> Answered:
    """Ask one thing and read the whole answer; a server that is busy is asked again, as for a text.

    Raises:
        ServerError: There was none, with `hint` for what to do.
        CancelledCallError: `calls` was closed.
    """
    rng = random.Random(path)
    try:
        for retry in range(1, N_RETRIES + 1):
            answered = ask_once(endpoint, path, body, within_s=within_s, calls=calls)
            if answered.status not in AGAIN or answered.retry_after_s > LONGEST_RETRY_AFTER_S:
                return answered
            wait_before(retry, answered.retry_after_s, calls=calls, rng=rng)
        return ask_once(endpoint, path, body, within_s=within_s, calls=calls)
    except CallError as error:
        raise ServerError(f"{endpoint.base_url} does not answer: {error}", hint=hint) from error


def ask_once(
    endpoint: Endpoint, path: str, body: Mapping[str, object] | None = None, *, within_s: float, calls: OpenCalls
) -> Answered:
    """Ask one thing and read the whole answer.

    Raises:
        CallError: There was none.
        CancelledCallError: `calls` was closed.
    """
    limits = replace(endpoint.limits, first_token_s=within_s, idle_s=within_s, total_s=within_s)
    with answer_to(endpoint, path, body, watch=Watch(limits), calls=calls) as answer:
        content = answer.body()
    problem = refusal_text(answer.status, content, answer.headers, hidden=endpoint.hidden)
    begins = shown(endpoint.hidden(content[:1000].decode(errors="replace")), 60)
    return Answered(answer.status, json_of(content), problem, retry_after_s(answer.headers, now=time.time()), begins)


def refuse_page(endpoint: Endpoint, path: str, answered: Answered, *, hint: str) -> None:
    """Refuse what answers with success and is no API, as the page of a login or of a proxy.

    Raises:
        ServerError: It is so.
    """
    if answered.status == 200 and answered.json is None and not answered.begins.startswith(_OBJECT_OR_STREAM):
        said = f"{path} begins {answered.begins!r}" if answered.begins else f"{path} answers nothing"
        raise ServerError(f"{endpoint.base_url} is not this API: {said}", hint=hint)
