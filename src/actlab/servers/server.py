"""A model at a server, as a run sees it."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Protocol, Self

from actlab.ground.log import log
from actlab.servers import attempts
from actlab.servers.calls import Endpoint, Reply, Request, ServerFacts, Warmth
from actlab.servers.dialect import Dialect
from actlab.servers.environment import ServerEnvironment
from actlab.servers.limits import TimeoutLimits, limits_for
from actlab.servers.ollama import DEFAULT_CONTEXT, OLLAMA
from actlab.servers.openai import OPENAI
from actlab.servers.wire import OpenCalls


class Generator(Protocol):
    """What a run needs of a server."""

    def key(self, request: Request) -> str:
        """Return the same for what must give the same reply."""

    def generate(self, request: Request, *, calls: OpenCalls) -> Reply:
        """Return the reply when all attempts are over."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """An API and a model behind it."""

    dialect: Dialect
    endpoint: Endpoint

    def preflight(self, *, calls: OpenCalls | None = None) -> ServerFacts:
        """Look whether the server is there and has the model.

        Raises:
            ServerError: It is not, or has not.
            CancelledCallError: `calls` was closed meanwhile.
        """
        return self.dialect.preflight(self.endpoint, calls or OpenCalls())

    def warm_up(self, temperature: float = Request.temperature, *, calls: OpenCalls | None = None) -> Warmth:
        """Load the model, under a limit of its own; where that takes a request, it has the run's temperature.

        Raises:
            ServerError: It cannot be loaded.
            CancelledCallError: `calls` was closed meanwhile.
        """
        return self.dialect.warm_up(self.endpoint, temperature, calls or OpenCalls())

    def loaded(
        self, temperature: float, preset: str, environment: ServerEnvironment, *, is_judge: bool = False
    ) -> Self:
        """Return the server with its model loaded, and the limits of a time-out preset that fit where it lies.

        Those of a judge are for judging a text instead of writing one.

        Raises:
            ServerError: It cannot be loaded.
        """
        warmth = self.warm_up(temperature)
        log.info("%s loaded in %.1f s", self.endpoint.model, warmth.load_s)
        limits = limits_for(preset, environment, on_gpu=warmth.on_gpu)
        return self.limited(limits.for_evaluation() if is_judge else limits)

    def generate(self, request: Request, *, calls: OpenCalls | None = None) -> Reply:
        """Ask for a text, with retries; a failure is a reply that says so.

        Raises:
            CancelledCallError: `calls` was closed meanwhile.
        """
        return attempts.generate(self.dialect, self.endpoint, request, calls=calls or OpenCalls())

    def key(self, request: Request) -> str:
        """Return the hash of the request as it is sent and of the model's digest."""
        body = self.dialect.payload(self.endpoint, request)
        text = json.dumps([body, self.endpoint.digest], sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def known(self, facts: ServerFacts) -> Self:
        """Return the server with the model's full name and digest, which the keys contain."""
        return replace(self, endpoint=replace(self.endpoint, model=facts.model, digest=facts.digest))

    def limited(self, limits: TimeoutLimits) -> Self:
        """Return the server with other limits."""
        return replace(self, endpoint=replace(self.endpoint, limits=limits))


DIALECTS = {one.name: one for one in (OLLAMA, OPENAI)}


def server_of(
    api: str,
    model: str,
    *,
    environment: ServerEnvironment,
    base_url: str | None = None,
    preset: str = "auto",
    context: int = DEFAULT_CONTEXT,
) -> Server:
    """Return a model at a server that speaks `api`, "ollama" or "openai"; no request is made.

    `context` is for Ollama, which has to be told how many tokens a prompt and its reply take (`ollama.context_for`);
    the others settle it when they start.

    Raises:
        ConfigError: There is no such preset, or the address is none; "openai" needs one.
    """
    dialect = DIALECTS[api]
    endpoint = dialect.endpoint(model, limits_for(preset, environment), environment, base_url, context)
    return Server(dialect=dialect, endpoint=endpoint)
