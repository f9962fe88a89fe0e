"""Ollama's own API, which alone can set the context's length and keep a model loaded.

Request and reply as Ollama's docs/api.md and its server/routes.go have them: counts and reasons that are zero or
empty are left out of a reply, and durations are nanoseconds.
"""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from actlab.backends.servers.calls import CUT, STOP, Dialect, Endpoint, Piece, Request, ServerError, ServerFacts, Warmth
from actlab.backends.servers.questions import ask, error_text
from actlab.backends.servers.wire import CallError

KEEP_ALIVE = "30m"
"""Longer than the pause between two requests of any run; Ollama's own 5 minutes would not outlast a refinement."""
DEFAULT_OPTIONS = {"num_ctx": 2048}
"""Enough for a prompt and 150 tokens. Ollama's own, up to 256k by memory, is multiplied by its parallel requests."""
_START = "start it (ollama serve), or say where it is: OLLAMA_HOST"


def payload(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return the body of a request for a text.

    `think` is always given: a reasoning model would else spend the budget on thoughts and return no text.
    """
    options: dict[str, Any] = {
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
    """Read a stream of JSON lines.

    Raises:
        CallError: A line is no JSON object.
    """
    for line in lines:
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise CallError(CUT, "a torn line")
        if "error" in fields:
            yield Piece(error=error_text(fields))
            return
        done = fields.get("done") is True
        text = fields.get("response") or ""
        if not done:
            yield Piece(text, thought=bool(fields.get("thinking")))
            continue
        yield _last(fields, text)
        return


def _last(fields: dict[str, Any], text: str) -> Piece:
    """Return the piece that ends a reply, with the server's counts."""
    total, load, prompt, evaluation = (
        (fields.get(f"{name}_duration") or 0) / 1e9 for name in ("total", "load", "prompt_eval", "eval")
    )
    return Piece(
        text,
        done_reason=fields.get("done_reason") or STOP,  # servers before 0.1.35 give no reason
        n_tokens=fields.get("eval_count"),
        load_s=load,
        eval_s=evaluation or None,
        queue_s=max(total - load - prompt - evaluation, 0.0) if total else None,
    )


def preflight(endpoint: Endpoint) -> ServerFacts:
    """Look whether the server is there and has the model, before anything is asked of it.

    Raises:
        ServerError: It is not, it has not, or the model writes no text.
    """
    limit_s = endpoint.limits.preflight_s
    version = ask(endpoint, "/api/version", within_s=limit_s, hint=_START)
    if version.status != 200 or not isinstance(version.json, dict):
        raise ServerError(
            f"{endpoint.base_url} is no Ollama: /api/version answers {version.status}",
            hint="is it another server? then use --method openai with --base-url",
        )
    tags = ask(endpoint, "/api/tags", within_s=limit_s, hint=_START)
    models = [one for one in (tags.json or {}).get("models") or [] if isinstance(one, dict)]
    wanted = full_name(endpoint.model)
    found = next((one for one in models if wanted in (one.get("name"), one.get("model"))), None)
    if found is None:
        names = ", ".join(sorted(str(one.get("name")) for one in models)[:8]) or "none"
        raise ServerError(
            f"Ollama at {endpoint.base_url} has no model {endpoint.model!r}",
            hint=f"get it (ollama pull {endpoint.model}), or choose one that is there: {names}",
        )
    show = ask(endpoint, "/api/show", {"model": wanted}, within_s=limit_s, hint=_START)
    shown = show.json if show.status == 200 and isinstance(show.json, dict) else {}
    capabilities = tuple(shown.get("capabilities") or ())
    if capabilities and "completion" not in capabilities:
        raise ServerError(
            f"{wanted} writes no text: it is for {', '.join(capabilities)}", hint="choose a model that completes text"
        )
    info = shown.get("model_info") or {}
    context = next((value for key, value in info.items() if key.endswith(".context_length")), None)
    return ServerFacts(version.json.get("version", ""), wanted, found.get("digest") or "", capabilities, context)


def full_name(model: str) -> str:
    """Return a model's name with its tag.

    >>> full_name("llama3.1"), full_name("host:5000/me/llama3.1:8b")
    ('llama3.1:latest', 'host:5000/me/llama3.1:8b')
    """
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"


def warm_up(endpoint: Endpoint) -> Warmth:
    """Load the model with the run's options, so that no request's limit is spent on it.

    Raises:
        ServerError: It cannot be loaded, or not within the limit for loading.
    """
    body = {"model": endpoint.model, "stream": False, "keep_alive": KEEP_ALIVE, "options": dict(endpoint.options)}
    started = time.monotonic()
    hint = "see Ollama's log; a smaller model, or a smaller context, may fit"
    loaded = ask(endpoint, "/api/generate", body, within_s=endpoint.limits.load_s, hint=hint)
    if loaded.status != 200:
        reason = error_text(loaded.json, secret=endpoint.api_key)
        raise ServerError(f"Ollama cannot load {endpoint.model}: {loaded.status} {reason}", hint=hint)
    load_s = time.monotonic() - started
    running = ask(endpoint, "/api/ps", within_s=endpoint.limits.preflight_s, hint=_START)
    wanted = full_name(endpoint.model)
    for one in (running.json or {}).get("models") or []:
        if wanted in (one.get("name"), one.get("model")):
            return Warmth(load_s, on_gpu=2 * (one.get("size_vram") or 0) > (one.get("size") or 0))
    return Warmth(load_s, on_gpu=None)


OLLAMA = Dialect("ollama", "/api/generate", payload, pieces, preflight, warm_up)
