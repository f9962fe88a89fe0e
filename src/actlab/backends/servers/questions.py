"""Small questions to a server before a run: one JSON answer each."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from actlab.backends.servers.calls import Endpoint, ServerError
from actlab.backends.servers.wire import CallError, OpenCalls, Watch, answer_to


class Answered(NamedTuple):
    """A status and the JSON that came with it; None where it was none."""

    status: int
    json: Any


def ask(
    endpoint: Endpoint,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    within_s: float,
    hint: str,
    clock: Callable[[], float] = time.monotonic,
) -> Answered:
    """Ask one thing and read the whole answer.

    Raises:
        ServerError: There was none, with `hint` for what to do.
    """
    limits = replace(endpoint.limits, first_token_s=within_s, idle_s=within_s, total_s=within_s)
    try:
        with answer_to(endpoint, path, body, watch=Watch(limits, clock), calls=OpenCalls()) as answer:
            content = answer.body()
    except CallError as error:
        raise ServerError(f"{endpoint.base_url} does not answer: {error}", hint=hint) from error
    try:
        return Answered(answer.status, json.loads(content))
    except ValueError:
        return Answered(answer.status, None)


def error_text(body: Any, *, secret: str = "") -> str:
    """Return what an error's body says, in one line and without the key."""
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and name in body:
            return error_text(body[name], secret=secret)
    text = " ".join((body if isinstance(body, str) else json.dumps(body)).split())
    return (text.replace(secret, "***") if secret else text)[:300]
