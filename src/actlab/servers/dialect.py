"""What an API is to the rest: Ollama's and OpenAI's are one of these each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from actlab.servers.calls import Endpoint, Piece, Request, ServerFacts, Warmth
from actlab.servers.environment import ServerEnvironment
from actlab.servers.limits import TimeoutLimits
from actlab.servers.wire import OpenCalls


class Dialect(NamedTuple):
    """An API: where to ask, how, and how to read what comes."""

    name: str
    path: str
    no_thoughts: str
    """What to do about a model that thinks until its reply is full."""
    endpoint: Callable[[str, TimeoutLimits, ServerEnvironment, str | None, int], Endpoint]
    """Takes the model, the limits, the environment, an address that is given, and the tokens of a context."""
    payload: Callable[[Endpoint, Request], Mapping[str, object]]
    pieces: Callable[[Iterable[bytes]], Iterator[Piece]]
    preflight: Callable[[Endpoint, OpenCalls], ServerFacts]
    warm_up: Callable[[Endpoint, float, OpenCalls], Warmth]
    """Takes the temperature of the run."""
