"""Ollama's own API, which alone can set the context's length and keep a model loaded.

Request and reply as Ollama's docs/api.md and its server/routes.go have them: counts and reasons that are zero or
empty are left out of a reply, and durations are nanoseconds.
"""

import time
from collections.abc import Iterable, Iterator

from actlab.servers.calls import STOP, Endpoint, Piece, Request, ServerError, ServerFacts, Warmth
from actlab.servers.dialect import Dialect
from actlab.servers.environment import ServerEnvironment, login_of, ollama_url
from actlab.servers.fields import (
    Fields,
    as_count,
    as_fields,
    as_objects,
    as_seconds,
    as_text,
    error_text,
    fields_of,
    shown,
)
from actlab.servers.limits import TimeoutLimits
from actlab.servers.questions import Answered, ask, refuse_page
from actlab.servers.wire import OpenCalls

KEEP_ALIVE = "30m"
"""Longer than the pause between two requests of any run; Ollama's own 5 minutes would not outlast a refinement."""
DEFAULT_CONTEXT = 2048
"""Enough for a prompt and 150 tokens. Ollama's own, up to 256k by memory, is multiplied by its parallel requests."""
_AROUND = 512
"""Tokens for what is put around a run's prompt: the model's template, and the words that vary it."""
_ADDRESS = "check --base-url, or OLLAMA_HOST"
_ANOTHER = "is it another server? then use --method openai with --base-url"
_LET_IN = "give a name and a password that it knows: put name:password@ before the host"
_BEHIND = "see the log of the proxy and Ollama's own: does Ollama run?"
_A_PROXYS = {401: _LET_IN, 403: _LET_IN, 502: _BEHIND, 504: _BEHIND}
_START = "start it (ollama serve), or say where it is: OLLAMA_HOST or --base-url"

_NO_THOUGHTS = "give it room for thought and text (generate-text has --max-tokens), or choose another model"
"""Ollama was told not to, where the model can."""


def context_for(prompt: str, max_tokens: int) -> int:
    """Return the tokens that a prompt and its reply need together, one a two bytes of the prompt; at least 2,048.

    A whole run has one context, since Ollama loads the model anew for another, and cuts what does not fit silently.

    >>> context_for("simple recipes", 150), context_for("tea " * 1000, 8000)
    (2048, 10512)
    """
    return max(DEFAULT_CONTEXT, max_tokens + len(prompt.encode()) // 2 + _AROUND)


def endpoint_of(
    model: str, limits: TimeoutLimits, environment: ServerEnvironment, base_url: str | None, context: int
) -> Endpoint:
    """Return a model at Ollama, by default where OLLAMA_HOST says.

    Raises:
        ConfigError: The address is none.
    """
    return Endpoint(
        base_url=environment.ollama_url if base_url is None else ollama_url(base_url),
        login=environment.ollama_login if base_url is None else login_of(base_url),
        model=model,
        limits=limits,
        options={"num_ctx": context},
    )


def payload(endpoint: Endpoint, request: Request) -> dict[str, object]:
    """Return the body of a request for a text.

    `think` is always given: a reasoning model would else spend the budget on thoughts and return no text.
    """
    options: dict[str, object] = {
        **endpoint.options,
        "seed": request.seed & 0x7FFFFFFF,
        "temperature": request.temperature,
        "num_predict": request.max_tokens,
    }
    if request.stop:
        options["stop"] = list(request.stop)
    body = {"model": endpoint.model, "prompt": request.prompt, "stream": True, "think": False}
    if request.schema is not None:
        body["format"] = dict(request.schema)
    return {**body, "keep_alive": KEEP_ALIVE, "options": options}


def pieces(lines: Iterable[bytes]) -> Iterator[Piece]:
    """Read a stream of JSON lines, or the one object that stands for it.

    Raises:
        CallError: A line is no JSON object, or its text no text.
    """
    for fields in map(fields_of, filter(bytes.strip, lines)):
        if fields.get("error") is not None:
            yield Piece(error=error_text(fields) or "an error without words")
            return
        piece = Piece(as_text(fields.get("response")), thought=bool(fields.get("thinking")))
        if fields.get("done") is True:
            yield _last(piece, fields)
            return
        yield piece


def _last(piece: Piece, fields: Fields) -> Piece:
    """Return the piece that ends a reply, with the server's counts."""
    total, load, prompt, evaluation = (
        as_seconds(fields.get(f"{name}_duration")) for name in ("total", "load", "prompt_eval", "eval")
    )
    return piece._replace(
        done_reason=shown(as_text(fields.get("done_reason"))) or STOP,  # servers before 0.1.35 give no reason
        n_tokens=as_count(fields.get("eval_count")),
        load_s=load,
        eval_s=evaluation or None,
        queue_s=max(total - load - prompt - evaluation, 0.0) if total else None,
    )


def preflight(endpoint: Endpoint, calls: OpenCalls) -> ServerFacts:
    """Look whether the server is there and has the model, before anything is asked of it.

    Raises:
        ServerError: It is not, it has not, or the model writes no text, or cannot hold a prompt and its reply.
    """
    limit_s = endpoint.limits.preflight_s
    version = ask(endpoint, "/api/version", within_s=limit_s, hint=_START, calls=calls)
    refuse_page(endpoint, "/api/version", version, hint=f"{_ADDRESS}; {_ANOTHER}")
    _refuse_before_ollama(endpoint, version)
    if version.status != 200 or not isinstance(version.json, dict):
        answer = "with no version" if version.status == 200 else version.problem
        raise ServerError(f"{endpoint.base_url} is no Ollama: /api/version answers {answer}", hint=_ANOTHER)
    tags = ask(endpoint, "/api/tags", within_s=limit_s, hint=_START, calls=calls)
    wanted = full_name(endpoint.model)
    found = _found(endpoint, tags, wanted)
    show = ask(endpoint, "/api/show", {"model": wanted}, within_s=limit_s, hint=_START, calls=calls)
    _refuse_unfit(endpoint, wanted, as_fields(show.json) if show.status == 200 else {})
    digest = found.get("digest")
    return ServerFacts(wanted, digest if isinstance(digest, str) else "")


def _refuse_before_ollama(endpoint: Endpoint, answered: Answered) -> None:
    """Refuse what a proxy before Ollama answers in its place: Ollama itself has no logins.

    Raises:
        ServerError: It does.
    """
    if answered.status in _A_PROXYS:
        raise ServerError(f"{endpoint.base_url} answers {answered.problem}", hint=_A_PROXYS[answered.status])


def _found(endpoint: Endpoint, tags: Answered, wanted: str) -> Fields:
    """Return what the list of models says of one.

    Raises:
        ServerError: There is no list, or it does not have it.
    """
    listed = as_fields(tags.json).get("models", tags)
    if tags.status != 200 or not isinstance(listed, list | None):
        problem = "the answer has none" if tags.status == 200 else tags.problem
        raise ServerError(f"Ollama at {endpoint.base_url} lists no models: {problem}", hint="see Ollama's log")
    models = as_objects(listed)
    for one in models:
        if wanted in (one.get("name"), one.get("model")):
            return one
    names = ", ".join(sorted(shown(str(one.get("name"))) for one in models)[:8]) or "none"
    raise ServerError(
        f"Ollama at {endpoint.base_url} has no model {endpoint.model!r}",
        hint=f"get it (ollama pull {endpoint.model}), or choose one that is there: {names}",
    )


def _refuse_unfit(endpoint: Endpoint, wanted: str, facts: Fields) -> None:
    """Refuse a model that writes no text, or whose context is too short for what is to be asked."""
    told = facts.get("capabilities")
    capabilities = [one for one in told if isinstance(one, str)] if isinstance(told, list) else []
    if capabilities and "completion" not in capabilities:
        kinds = shown(", ".join(capabilities))
        raise ServerError(f"{wanted} writes no text: it is for {kinds}", hint="choose a model that completes text")
    info = as_fields(facts.get("model_info"))
    context = next((as_count(value) for key, value in info.items() if key.endswith(".context_length")), None)
    needed = endpoint.options.get("num_ctx", DEFAULT_CONTEXT)
    if context and needed > max(context, DEFAULT_CONTEXT):
        raise ServerError(
            f"{wanted} holds {context} tokens, and a prompt with its reply may take {needed}",
            hint="choose a model with a longer context, or let the prompt or the reply be shorter",
        )


def full_name(model: str) -> str:
    """Return a model's name with its tag.

    >>> full_name("llama3.1"), full_name("host:5000/me/llama3.1:8b")
    ('llama3.1:latest', 'host:5000/me/llama3.1:8b')
    """
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"


def warm_up(endpoint: Endpoint, temperature: float, calls: OpenCalls) -> Warmth:
    """Load the model with the run's options, so that no request's limit is spent on it; nothing is drawn.

    Raises:
        ServerError: It cannot be loaded, or not within the limit for loading.
    """
    body = {"model": endpoint.model, "stream": False, "keep_alive": KEEP_ALIVE, "options": dict(endpoint.options)}
    started = time.monotonic()
    hint = "see Ollama's log; a smaller model, or a smaller context, may fit"
    loaded = ask(endpoint, "/api/generate", body, within_s=endpoint.limits.load_s, hint=hint, calls=calls)
    refuse_page(endpoint, "/api/generate", loaded, hint=_ADDRESS)
    _refuse_before_ollama(endpoint, loaded)
    if loaded.status != 200:
        raise ServerError(f"Ollama cannot load {endpoint.model}: {loaded.problem}", hint=hint)
    load_s = time.monotonic() - started
    running = ask(endpoint, "/api/ps", within_s=endpoint.limits.preflight_s, hint=_START, calls=calls)
    wanted = full_name(endpoint.model)
    for one in as_objects(as_fields(running.json).get("models")):
        if wanted in (one.get("name"), one.get("model")):
            return Warmth(load_s, on_gpu=2 * (as_count(one.get("size_vram")) or 0) > (as_count(one.get("size")) or 0))
    return Warmth(load_s, on_gpu=None)


OLLAMA = Dialect(
    name="ollama",
    path="/api/generate",
    no_thoughts=_NO_THOUGHTS,
    endpoint=endpoint_of,
    payload=payload,
    pieces=pieces,
    preflight=preflight,
    warm_up=warm_up,
)
