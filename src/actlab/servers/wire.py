"""Connections that keep their limits and can be closed from outside; a library's errors end here."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from actlab.ground.errors import scrubbed
from actlab.servers.calls import CUT, TIMEOUT, UNREACHABLE, CallError, Endpoint
from actlab.servers.fields import LONGEST_ANSWER, shown
from actlab.servers.limits import TimeoutLimits

# A header that is none harms nothing, and the library would print a traceback for it.
logging.getLogger("urllib3.connection").addFilter(lambda record: "Failed to parse headers" not in str(record.msg))

MOST_BYTES = 1 << 26
"""Of a reply, thoughts and all that is around them: 100,000 tokens, the most to ask for, of 600 bytes each; a token
takes some 300 as an event of its own."""


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts of which a proxy knows nothing."""


class CancelledCallError(Exception):
    """Nobody wants the reply any more."""


class OpenCalls:
    """The connections that are open now, so that they can be closed together.

    Closing one cancels its generation at the server. After `close` no new one opens, and whoever waits is woken.
    From the start of one request to the start of the next at least `interval_s` seconds pass. `pause` and `clock`
    stand in for the real ones where time is not to pass.
    """

    def __init__(
        self,
        pause: Callable[[float], object] | None = None,
        *,
        interval_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._interval_s, self._clock = interval_s, clock
        self._next_start = float("-inf")

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Close every connection and wake every sleeper."""
        with self._lock:
            self._closed.set()
            for one in self._sockets:
                _shut(one)

    def take_turn(self) -> None:
        """Wait until a request may start: every attempt goes through here, the first as the last.

        Raises:
            CancelledCallError: `close` came first.
        """
        with self._lock:
            now = self._clock()
            start = max(now, self._next_start)
            self._next_start = start + self._interval_s
        if start > now:
            self.sleep(start - now)

    def sleep(self, seconds: float) -> None:
        """Wait, unless closed meanwhile.

        Raises:
            CancelledCallError: It was.
        """
        self._pause(seconds)
        if self.closed:
            raise CancelledCallError

    def enter(self, one: socket.socket) -> None:
        """Take a connection in; shut it at once where all are closed."""
        with self._lock:
            self._sockets.add(one)
            if self.closed:
                _shut(one)

    def leave(self, one: socket.socket) -> None:
        """Let a connection go."""
        with self._lock:
            self._sockets.discard(one)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):  # the server was quicker
        one.shutdown(socket.SHUT_RDWR)


class Watch:
    """The limits of one call, and which of them comes next."""

    def __init__(self, limits: TimeoutLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self.connect_s = limits.connect_s
        self.started = clock()
        self.first_token_s: float | None = None
        self._last = self.started

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self.started

    def saw_token(self) -> None:
        """Note that the model is at work."""
        self._last = self._clock()
        if self.first_token_s is None:
            self.first_token_s = self._last - self.started

    def next_limit(self) -> tuple[float, str]:
        """Return the seconds left until the nearest limit, and what it means to pass that."""
        limits, waited = self._limits, self._clock() - self._last
        if self.first_token_s is None:
            near = (limits.first_token_s - waited, f"no first token after {limits.first_token_s:g} s")
        else:
            near = (limits.idle_s - waited, f"silent for {limits.idle_s:g} s")
        return min(near, (limits.total_s - self.elapsed_s, f"not done after {limits.total_s:g} s"))


class Answer:
    """A reply that is being read."""

    def __init__(self, response: requests.Response, connection: socket.socket, watch: Watch, calls: OpenCalls) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response
        self._socket = connection
        self._watch = watch
        self._calls = calls

    def lines(self) -> Iterator[bytes]:
        """Yield each line as soon as it is there, without its end; the last may lack its end.

        Raises:
            CallError: A limit was passed, the reply or a line of it does not end, or the connection was lost.
        """
        rest, n_bytes = b"", 0
        while chunk := self._read():
            n_bytes += len(chunk)
            if n_bytes > MOST_BYTES:
                raise CallError(CUT, f"a reply without end: more than {MOST_BYTES >> 20} MiB")
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.rstrip(b"\r") for line in whole)
            if len(rest) > LONGEST_ANSWER:
                raise CallError(CUT, "a line without end")
        if rest.strip():
            yield rest

    def body(self) -> bytes:
        """Read what is left, at most a few megabytes.

        Raises:
            CallError: A limit was passed, or the connection lost.
        """
        whole = b""
        while (chunk := self._read()) and len(whole) < LONGEST_ANSWER:
            whole += chunk
        return whole

    def _read(self) -> bytes:
        left_s, meaning = self._watch.next_limit()
        if left_s <= 0:
            raise CallError(TIMEOUT, meaning)
        with _broken(self._watch, self._calls):
            if self._socket.fileno() >= 0:  # where the connection ends with the reply, its last byte closed it
                self._socket.settimeout(left_s)
            chunk: bytes = self._response.raw.read1(decode_content=True)
        return chunk


@contextmanager
def answer_to(
    endpoint: Endpoint, path: str, body: Mapping[str, object] | None, *, watch: Watch, calls: OpenCalls
) -> Iterator[Answer]:
    """Lend the answer to a request (GET where there is no body); the connection is closed at the end.

    A session a call: its connection belongs to nobody else, and no cookie or idle connection is carried over.

    Raises:
        CallError: It failed, here or inside the block.
        CancelledCallError: `calls` was closed.
    """
    taken: list[socket.socket] = []

    def take(one: socket.socket) -> None:
        taken.append(one)
        calls.enter(one)

    headers = {"Accept-Encoding": "identity"}
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization
    with _broken(watch, calls):
        try:
            with requests.Session() as session:
                for scheme in ("http://", "https://"):
                    session.mount(scheme, _Adapter(take))
                session.trust_env = urlsplit(endpoint.base_url).hostname not in _LOOPBACK
                with session.request(
                    "GET" if body is None else "POST",
                    endpoint.base_url + path,
                    json=body,
                    headers=headers,
                    auth=lambda prepared: prepared,  # else a password from ~/.netrc is sent in place of the key
                    stream=True,
                    allow_redirects=False,
                    timeout=(watch.connect_s, max(watch.next_limit()[0], 0.001)),
                ) as response:
                    yield Answer(response, taken[-1], watch, calls)
        finally:
            for one in taken:
                calls.leave(one)


@contextmanager
def _broken(watch: Watch, calls: OpenCalls) -> Iterator[None]:
    """Say how a call failed. requests calls a time-out inside a stream a ConnectionError, urllib3 does not."""
    try:
        if calls.closed:
            raise CancelledCallError
        yield
    except (CallError, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if calls.closed:
            raise CancelledCallError from error
        if isinstance(error, CallError):
            raise
        if isinstance(error, requests.ConnectTimeout):
            raise CallError(UNREACHABLE, f"no connection after {watch.connect_s:g} s") from error
        timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
        if isinstance(error, timeouts) or "timed out" in str(error):
            raise CallError(TIMEOUT, watch.next_limit()[1]) from error
        raise CallError(UNREACHABLE, _reason(error)) from error


def _reason(error: BaseException) -> str:
    """Return the innermost reason in one line: libraries wrap it several times."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return shown(scrubbed(str(seen)), 200) or type(seen).__name__


class _Adapter(HTTPAdapter):
    """Shows each new connection's socket to `take`."""

    def __init__(self, take: Callable[[socket.socket], None]) -> None:
        self._take = take
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool, its connections watched."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        base: Any = pool.ConnectionCls
        take = self._take

        class Watched(base):  # type: ignore[misc]  # which one, http or https, the address says
            def connect(self) -> None:
                super().connect()
                take(self.sock)

        pool.ConnectionCls = Watched
        return pool
