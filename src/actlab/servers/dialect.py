"""What an API is to the rest: Ollama's and OpenAI's are one of these each."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from actlab.servers.calls import Endpoint, Piece, Request, ServerFacts, Warmth
from actlab.servers.wire import OpenCalls


class Dialect(NamedTuple):
    """An API: where to ask, how, and how to read what comes."""

    name: str
    path: str
    payload: Callable[[Endpoint, Request], dict[str, Any]]
    pieces: Callable[[Iterable[bytes]], Iterator[Piece]]
    preflight: Callable[[Endpoint, OpenCalls], ServerFacts]
    warm_up: Callable[[Endpoint, float, OpenCalls], Warmth]
    """Takes the temperature of the run."""
