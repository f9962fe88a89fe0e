"""Many requests at a time, whose replies come out one after the other in the order that they were asked."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from actlab.servers.calls import Reply, Request
from actlab.servers.journal import Journal
from actlab.servers.server import Generator
from actlab.servers.wire import OpenCalls

MOST_FAILURES = 3
"""In a row; then the server is given up."""
_ROUNDS_AHEAD = 4  # replies that wait for a slow one before them, as a multiple of the requests at a time

GROWS_BY = 1.10
"""One more request has to make the whole this much faster, or it is only one more in the queue."""
MOST_QUEUE = 0.20
"""Share of the replies' time that may be waiting for a slot."""

DONE, EXHAUSTED, BROKEN = "done", "exhausted", "broken"
"""How a run ends: its reader has enough; there are no more requests; the server failed too often in a row."""


class RunSummary(NamedTuple):
    """What a run did."""

    ended: str
    problem: str = ""
    """The last failure, where the run broke."""
    reason: str = ""
    """How that reply failed."""


class Window(NamedTuple):
    """What was measured since the last change."""

    n_replies: int = 0
    n_tokens: int = 0
    queue_s: float = 0.0
    total_s: float = 0.0
    throttled: bool = False

    def full(self, limit: int) -> bool:
        """Whether it is enough to judge by: two rounds."""
        return self.throttled or self.n_replies >= 2 * limit


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The requests at a time, and what is known of fewer."""

    cap: int
    limit: int = 1
    best: float | None = None
    """Tokens a second at the limit before this one."""
    settled: bool = False


def next_pace(pace: Pace, window: Window, elapsed_s: float) -> Pace:
    """Return the pace that a full window of `elapsed_s` seconds suggests.

    A server that turned a request away, or let replies wait in its queue, gets half as many; one more is given
    while the tokens a second grow by a tenth, and taken back when they do not.
    """
    if window.throttled:
        return replace(pace, limit=max(1, pace.limit // 2), best=None, settled=False)
    if pace.limit > 1 and window.queue_s > MOST_QUEUE * window.total_s:
        return replace(pace, limit=pace.limit // 2, best=None, settled=True)
    if pace.settled:
        return pace
    per_s = window.n_tokens / max(elapsed_s, 1e-9)
    if pace.best is not None and per_s < GROWS_BY * pace.best:
        return replace(pace, limit=max(1, pace.limit - 1), settled=True)
    return replace(pace, limit=min(pace.cap, pace.limit + 1), best=per_s, settled=pace.limit >= pace.cap)


@dataclass
class _Measured:
    """The pace and what is measured to change it."""

    pace: Pace
    clock: Callable[[], float]
    since: float
    window: Window = field(default_factory=Window)

    def count(self, reply: Reply, started: float) -> None:
        """Take in a reply; one that was asked for before the last change cannot speak against it."""
        window = self.window
        self.window = Window(
            window.n_replies + 1,
            window.n_tokens + (reply.n_tokens_teacher or len(reply.text) // 4),
            window.queue_s + (reply.timings.queue_s or 0.0),
            window.total_s + reply.timings.total_s,
            window.throttled or (reply.throttled > 0 and started >= self.since),
        )
        if self.window.full(self.pace.limit):
            now = self.clock()
            self.pace = next_pace(self.pace, self.window, now - self.since)
            self.window, self.since = Window(), now


@dataclass
class _Run:
    """A run's state: the requests in their order, each with its reply or on its way to it."""

    server: Generator
    requests: Iterator[Request]
    journal: Journal
    calls: OpenCalls
    pool: ThreadPoolExecutor
    measured: _Measured
    queue: deque[Future[Reply]] = field(default_factory=deque)
    """In the order of the requests; those that the journal answered are done."""
    running: dict[Future[Reply], float] = field(default_factory=dict)
    exhausted: bool = False

    def fill(self) -> None:
        """Ask as much as the pace allows, unless a reply is ready, which may be all that is wanted."""
        self._settle()
        limit = self.measured.pace.limit
        while not self.exhausted and len(self.running) < limit and len(self.queue) < _ROUNDS_AHEAD * limit:
            if self.queue and self.queue[0].done():
                return
            request = next(self.requests, None)
            if request is None:
                self.exhausted = True
                return
            key = self.server.key(request)
            known = self.journal.get(request.k, key)
            if known is None:
                future = self.pool.submit(self._ask, request, key)
                self.running[future] = self.measured.clock()
            else:
                future = Future()
                future.set_result(known)
            self.queue.append(future)

    def _ask(self, request: Request, key: str) -> Reply:
        """Run in a thread of its own, which writes the reply down: from then on no stop can lose it."""
        reply = self.server.generate(request, calls=self.calls)
        self.journal.append(key, reply)
        return reply

    def collect(self) -> None:
        """Wait until a reply is there."""
        if not self.queue[0].done():
            wait(self.running, return_when=FIRST_COMPLETED)
        self._settle()

    def _settle(self) -> None:
        """Let the pace know of the replies that are there."""
        for future in [one for one in self.running if one.done()]:
            self.measured.count(future.result(), self.running.pop(future))

    def in_order(self) -> Iterator[Reply]:
        """Yield the replies that nothing earlier holds back."""
        while self.queue and self.queue[0].done():
            yield self.queue.popleft().result()


def run_requests(
    server: Generator,
    requests: Iterator[Request],
    *,
    limit: int,
    journal: Journal,
    on_reply: Callable[[Reply], None],
    stop: Callable[[], bool] = lambda: False,
    interval_s: float = 0.0,
    pause: Callable[[float], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RunSummary:
    """Ask for texts, up to `limit` at a time, and hand each reply to `on_reply` in the order of the requests.

    So what `on_reply` sees does not depend on how many were asked at a time. `stop` is asked after each: when it
    says yes, or three replies in a row failed, the requests on their way are closed, which frees the server.
    What the journal has is handed over from there and not asked for. An interrupt closes the same way and then
    goes on to the caller; what had finished is in the journal. `pause` stands in for waiting.
    """
    calls = OpenCalls(pause, interval_s=interval_s, clock=clock)
    failures = 0
    with ThreadPoolExecutor(limit, thread_name_prefix="server") as pool:
        run = _Run(server, requests, journal, calls, pool, _Measured(Pace(cap=limit), clock, clock()))
        try:
            while not stop():
                run.fill()
                if not run.queue:
                    return RunSummary(EXHAUSTED)
                run.collect()
                for reply in run.in_order():
                    on_reply(reply)
                    failures = failures + 1 if reply.failed else 0
                    if failures == MOST_FAILURES:
                        return RunSummary(BROKEN, f"{reply.done_reason}: {reply.problem}", reply.done_reason)
                    if stop():
                        return RunSummary(DONE)
            return RunSummary(DONE)
        finally:
            calls.close()
            pool.shutdown(wait=True, cancel_futures=True)
