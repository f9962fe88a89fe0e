"""Servers that speak OpenAI's API: vLLM, llama.cpp, LM Studio, transformers serve, and OpenAI's own."""

import time
from collections.abc import Iterable, Iterator
from itertools import chain

from actlab.ground.errors import ConfigError
from actlab.servers.calls import (
    CUT,
    REFUSAL,
    UNREACHABLE,
    CallError,
    Endpoint,
    Piece,
    Request,
    ServerError,
    ServerFacts,
    Warmth,
)
from actlab.servers.dialect import Dialect
from actlab.servers.environment import ServerEnvironment, login_of, openai_url
from actlab.servers.fields import (
    Fields,
    as_count,
    as_fields,
    as_objects,
    as_text,
    error_text,
    fields_of,
    json_of,
    shown,
)
from actlab.servers.limits import TimeoutLimits
from actlab.servers.pauses import AGAIN
from actlab.servers.questions import Answered, ask, ask_once, refuse_page
from actlab.servers.wire import OpenCalls

_START = "start it, or say where it is: --base-url http://host:port/v1"
_LET_IN = "set OPENAI_API_KEY to a key of this server"
_ADDRESS = "check --base-url"
_WHOLE_CHECK = "check the name of the model, --base-url and the server's log"
_ITS_LOG = "see the server's log, and that of a proxy before it; run again once it is fixed"
_CLOSED = (401, 403)
_UNFIT = (400, 422)
_SENT = ("max_tokens", "temperature", "seed")
_LATER_NAME = "max_completion_tokens"
"""Of max_tokens, which OpenAI's reasoning models refuse (OpenAI's API reference, chat completions)."""
_DONE = b"[DONE]"
_MOST_LINES = 1000
"""Of an event: they have one."""
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
"""Of DeepSeek, llama.cpp and SGLang; vLLM and Ollama's /v1; OpenRouter; and LiteLLM."""
_NO_THOUGHTS = (
    "turn thinking off at the server (vLLM: --default-chat-template-kwargs '{\"enable_thinking\": false}'; "
    "llama.cpp: --reasoning-budget 0) and run again with --retry-failed, or give it room for thought and text "
    "(generate-text has --max-tokens)"
)
_TEXTS = ("text", "output_text")
"""The types of a content's parts that are text; Mistral's reasoning models send thoughts as others."""


def endpoint_of(
    model: str, limits: TimeoutLimits, environment: ServerEnvironment, base_url: str | None, _context: int
) -> Endpoint:
    """Return a model at an OpenAI-compatible server, which settles its context when it starts.

    Raises:
        ConfigError: There is no address, or it is none.
    """
    if base_url is None:
        raise ConfigError("an OpenAI-compatible server needs an address", hint="give --base-url")
    return Endpoint(
        base_url=openai_url(base_url),
        login=login_of(base_url),
        model=model,
        limits=limits,
        api_key=environment.api_key,
    )


def payload(endpoint: Endpoint, request: Request) -> dict[str, object]:
    """Return the body of a request for a text."""
    body: dict[str, object] = {
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
    """Yield the data of each server-sent event; comments and other fields are passed over.

    Some servers leave out the empty line between two events, or send an error, or the whole answer, without "data:".

    Raises:
        CallError: An event does not end.
    """
    data: list[bytes] = []
    for line in chain(lines, [b""]):
        is_data = line.startswith((b"data:", b"{"))
        if data and (not line or (is_data and _is_whole(data))):
            yield b"\n".join(data)
            data = []
        if is_data:
            data.append(line.removeprefix(b"data:").removeprefix(b" "))
        if len(data) > _MOST_LINES:  # each time all of them are looked at
            raise CallError(CUT, "an event without end")


def _is_whole(data: list[bytes]) -> bool:
    whole = b"\n".join(data)
    return whole.strip() == _DONE or json_of(whole) is not None


def pieces(lines: Iterable[bytes]) -> Iterator[Piece]:
    """Read a stream of events, or the one object that some servers answer in its place.

    The reason to stop is the end marker, the count of tokens comes after it.

    A refusal, which arrives in pieces of its own, is told whole, in place of the reason to stop.

    Raises:
        CallError: An event is no JSON object, or its text no text.
    """
    end: str | None = None
    refusal = ""
    n_tokens: int | None = None
    in_deltas = False
    try:
        for data in events(lines):
            if data.strip() == _DONE:
                break
            fields = fields_of(data)
            if error := _error_of(fields):
                yield Piece(error=error)
                return
            n_tokens = as_count(as_fields(fields.get("usage")).get("completion_tokens")) or n_tokens
            for choice in as_objects(fields.get("choices"))[:1]:
                in_deltas |= bool(choice.get("delta"))
                end = shown(as_text(choice.get("finish_reason"))) or end
                message = as_fields(choice.get("delta" if in_deltas else "message"))
                refusal += _refusal(message)
                yield _piece(message)
            if end and n_tokens is not None:
                break
    except CallError:
        if end is None:  # after the end marker only the count can be lost
            raise
    if refusal:
        yield Piece(error=f"refused: {refusal}", done_reason=REFUSAL, n_tokens=n_tokens)
    elif end is not None:
        yield Piece(done_reason=end, n_tokens=n_tokens)


def _error_of(fields: Fields) -> str:
    """Return what an event says that went wrong; "" where nothing did."""
    said = fields.get("error") is not None or fields.get("object") == "error"
    if said or ("choices" not in fields and any(fields.get(name) for name in ("message", "detail"))):
        return error_text(fields) or "an error without words"
    return ""


def _piece(message: Fields) -> Piece:
    """Return a message's text, or what it has of a thought, under any of the names that are in use.

    Raises:
        CallError: The text is none.
    """
    parts = [part for part in _parts(message) if part.get("type") != REFUSAL]
    texts = [as_text(part.get("text")) for part in parts if part.get("type", "text") in _TEXTS]
    thought = len(texts) < len(parts) or any(message.get(name) for name in _THOUGHTS)
    return Piece("".join(texts), thought=thought)


def _parts(message: Fields) -> list[Fields]:
    content = message.get("content")
    return as_objects(content) if isinstance(content, list) else [{"text": content}]


def _refusal(message: Fields) -> str:
    """Return what a message says of a refusal, in the field of that name or in parts of that type.

    Raises:
        CallError: It is no text.
    """
    said = [part.get(REFUSAL) for part in _parts(message) if part.get("type") == REFUSAL]
    return "".join(map(as_text, [message.get(REFUSAL), *said]))


def preflight(endpoint: Endpoint, calls: OpenCalls) -> ServerFacts:
    """Look whether the server is there and lets us in.

    A list of models that fails, or is late, or does not have the model, refuses nothing: some servers load what
    they do not list. The first request shows.

    Raises:
        ServerError: It is not, or it does not.
    """
    try:
        status = ask_once(endpoint, "/models", within_s=endpoint.limits.preflight_s, calls=calls).status
    except CallError as error:
        if error.reason == UNREACHABLE:
            raise ServerError(f"{endpoint.base_url} does not answer: {error}", hint=_START) from error
        status = 0
    if status in _CLOSED:
        raise ServerError(f"{endpoint.base_url} does not let us in ({status})", hint=_LET_IN)
    return ServerFacts(endpoint.model, "")


def warm_up(endpoint: Endpoint, temperature: float, calls: OpenCalls) -> Warmth:
    """Ask for one token, which makes the server load the model, and shows what it wants a request's fields named.

    Raises:
        ServerError: It does not have the model, or refuses how it is asked, or not within the limit for loading.
    """
    body = payload(endpoint, Request(k=0, prompt="Hello", seed=0, max_tokens=1, temperature=temperature))
    body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    started = time.monotonic()

    def asked() -> Answered:
        sent, limit_s = endpoint.as_sent(body), endpoint.limits.load_s
        return ask(endpoint, "/chat/completions", sent, within_s=limit_s, hint=_WHOLE_CHECK, calls=calls)

    loaded = asked()
    if loaded.status in _UNFIT and _LATER_NAME in loaded.problem:
        endpoint.renamed["max_tokens"] = _LATER_NAME
        loaded = asked()
    refuse_page(endpoint, "/chat/completions", loaded, hint=_ADDRESS)
    if loaded.status != 200:
        raise _refused(endpoint, loaded)
    return Warmth(time.monotonic() - started, on_gpu=None)


def _refused(endpoint: Endpoint, loaded: Answered) -> ServerError:
    """Return what to say of a server that did not load the model: what is the server's is not blamed on the model."""
    refuses = f"{endpoint.base_url} refuses {endpoint.model!r}: {loaded.problem}"
    named = [name for name in _SENT if name in loaded.problem]
    if loaded.status in _UNFIT and named:
        hint = f"actlab sends {', '.join(_SENT)}, and this model refuses {' and '.join(named)}: choose another model"
        if "temperature" in named:
            hint += ", or a temperature that it takes (generate-text has --temperature)"
        return ServerError(refuses, hint=hint)
    if 400 <= loaded.status < 500 and loaded.status not in (*_CLOSED, *AGAIN):
        return ServerError(refuses, hint=_WHOLE_CHECK)
    hint = _LET_IN if loaded.status in _CLOSED else _ADDRESS if loaded.status < 400 else _ITS_LOG
    return ServerError(f"{endpoint.base_url} answers {loaded.problem}", hint=hint)


OPENAI = Dialect(
    name="openai",
    path="/chat/completions",
    no_thoughts=_NO_THOUGHTS,
    endpoint=endpoint_of,
    payload=payload,
    pieces=pieces,
    preflight=preflight,
    warm_up=warm_up,
)
