"""Servers that speak OpenAI's API: vLLM, llama.cpp, LM Studio, transformers serve, and OpenAI's own."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from actlab.backends.servers.calls import CUT, Dialect, Endpoint, Piece, Request, ServerError, ServerFacts, Warmth
from actlab.backends.servers.questions import ask, error_text
from actlab.backends.servers.wire import CallError

_START = "start it, or say where it is: --base-url http://host:port/v1"


def payload(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return the body of a request for a text."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": request.prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed & 0x7FFFFFFF,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        schema = {"name": "reply", "strict": True, "schema": dict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the data of each server-sent event; comments and other fields are passed over."""
    data: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"{"):
            data.append(line)  # an error in mid-stream as some servers send it: bare
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


def pieces(lines: Iterable[bytes]) -> Iterator[Piece]:
    """Read a stream of events; the reason to stop is the end marker, the count of tokens comes after it.

    Raises:
        CallError: An event is no JSON object.
    """
    end: str | None = None
    n_tokens: int | None = None
    try:
        for data in events(lines):
            if data.strip() == b"[DONE]":
                break
            fields = _object(data)
            if "error" in fields:
                yield Piece(error=error_text(fields))
                return
            n_tokens = (fields.get("usage") or {}).get("completion_tokens") or n_tokens
            for choice in (fields.get("choices") or [])[:1]:
                delta = choice.get("delta") or {}
                thought = bool(delta.get("reasoning_content") or delta.get("reasoning"))
                end = choice.get("finish_reason") or end
                yield Piece(delta.get("content") or "", thought=thought)
            if end and n_tokens is not None:
                break
    except CallError:
        if end is None:  # after the end marker only the count can be lost
            raise
    if end is not None:
        yield Piece(done_reason=end, n_tokens=n_tokens)


def _object(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise CallError(CUT, "a torn event")
    return fields


def preflight(endpoint: Endpoint) -> ServerFacts:
    """Look whether the server is there and lets us in.

    A list of models that fails, or that does not have the model, refuses nothing: some servers load what they
    do not list. The first request shows.

    Raises:
        ServerError: It is not, or it does not.
    """
    listed = ask(endpoint, "/models", within_s=endpoint.limits.preflight_s, hint=_START)
    if listed.status in (401, 403):
        raise ServerError(
            f"{endpoint.base_url} does not let us in ({listed.status})",
            hint="set OPENAI_API_KEY to a key of this server",
        )
    return ServerFacts(version="", model=endpoint.model, digest="", capabilities=(), context=None)


def warm_up(endpoint: Endpoint) -> Warmth:
    """Ask for one token, which makes the server load the model.

    Raises:
        ServerError: It does not have the model, or not within the limit for loading.
    """
    body = payload(endpoint, Request(k=0, prompt="Hello", seed=0, max_tokens=1, temperature=0.0))
    body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    started = time.monotonic()
    hint = "check the name of the model and the server's log"
    loaded = ask(endpoint, "/chat/completions", body, within_s=endpoint.limits.load_s, hint=hint)
    if loaded.status != 200:
        reason = error_text(loaded.json, secret=endpoint.api_key)
        raise ServerError(f"{endpoint.base_url} refuses {endpoint.model!r}: {loaded.status} {reason}", hint=hint)
    return Warmth(time.monotonic() - started, on_gpu=None)


OPENAI = Dialect("openai", "/chat/completions", payload, pieces, preflight, warm_up)
