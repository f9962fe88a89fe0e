"""A model that says how good a text is: asked with a rubric, answered with a number in a JSON schema."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actlab.servers.calls import THOUGHT, Reply, Request, ServerError
from actlab.servers.environment import read_environment
from actlab.servers.journal import Journal
from actlab.servers.ollama import context_for
from actlab.servers.server import Server, server_of
from actlab.servers.wire import OpenCalls
from actlab.text.refine.compute.verdicts import Refined
from actlab.text.refine.config import RefineConfig
from actlab.text.words import text_hash

_MOST = 5
_SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": _MOST}},
    "required": ["score"],
}
_RUBRIC = """\
Judge the text below as reading matter{about}. Start with 0 points and add one for each that holds:
it is about {subject}; its sentences are whole and correct; it says something specific; its parts belong together;
a careful editor would keep it as it is. Answer with JSON alone, as {{"score": 3}}.

Text:
{text}"""
RUBRIC_VERSION = 2
"""Of the rubric where no subject is known; with one it is still the first."""
_MAX_TOKENS = 32
_TEMPERATURE = 0.0
_MOST_FAILURES = 3
_MOST_BYTES = 6000
"""Of a text that is judged, some 1,000 words; of a longer one, its beginning."""


@dataclass
class ServerJudge:
    """A model that judges texts; each answer is a line of the journal, so that a text is never judged twice."""

    server: Server
    subject: str | None
    journal: Journal
    calls: OpenCalls
    n_failures: int = 0
    """Texts in a row without a score."""

    @property
    def model(self) -> str:
        """Its name as the server knows it."""
        return self.server.endpoint.model

    @property
    def digest(self) -> str:
        """Of its weights, which the journal's keys contain; "" where the server does not say."""
        return self.server.endpoint.digest

    def __call__(self, text: str) -> float | None:
        """Return a text's score from 0 to 1, or None where the model gives none.

        Raises:
            ServerError: It is the third in a row.
        """
        reply = self._reply(text)
        score = _score(reply)
        self.n_failures = 0 if score is not None else self.n_failures + 1
        if self.n_failures == _MOST_FAILURES:
            raise ServerError(
                f"the judge {self.model} gives no scores: {reply.problem or reply.text[:80]!r}",
                hint="turn its thinking off at the server, or choose a --judge that does not think"
                if reply.done_reason == THOUGHT
                else "see that its server works, and run again: scores are kept; or choose another --judge",
            )
        return score

    def require_some_scores(self, refined: Refined) -> None:
        """Refuse what it was to judge, and scored nothing of.

        Raises:
            ServerError: It was asked, and never gave a score.
        """
        if refined.n_unanswered and not refined.n_judged:
            raise ServerError(
                f"the judge {self.model} scored none of the {refined.n_unanswered} texts that it was asked about",
                hint="see that its server works, and run again; or choose another --judge, or none",
            )

    def _reply(self, text: str) -> Reply:
        request = Request(
            k=int(text_hash(text)[:8], 16),
            prompt=_prompt(self.subject, text),
            seed=0,
            max_tokens=_MAX_TOKENS,
            temperature=_TEMPERATURE,
            schema=_SCHEMA,
        )
        key = self.server.key(request)
        reply = self.journal.get(request.k, key)
        if reply is None:
            reply = self.server.generate(request, calls=self.calls)
            if _score(reply) is not None:  # what gave none is asked again in the next run
                self.journal.append(key, reply)
        return reply


@contextmanager
def asked(
    config: RefineConfig, subject: str | None, texts: Iterable[str], journal_path: Path
) -> Iterator[ServerJudge | None]:
    """Lend the judge of some texts that the settings name, its model loaded with a context for the longest.

    Raises:
        ServerError: The server is not there or lacks the model.
    """
    if config.judge is None:
        yield None
        return
    environment = read_environment(os.environ)
    longest = max((_prompt(subject, text) for text in texts), key=len, default="")
    server = server_of(
        *(config.judge_api, config.judge),
        environment=environment,
        base_url=config.base_url,
        preset=config.timeout_preset,
        context=context_for(longest, _MAX_TOKENS),
    )
    server = server.known(server.preflight())
    server = server.loaded(_TEMPERATURE, config.timeout_preset, environment, is_judge=True)
    with Journal(journal_path) as journal:
        yield ServerJudge(server, subject, journal, OpenCalls(interval_s=environment.request_interval_s))


def _prompt(subject: str | None, text: str) -> str:
    head = text.encode()[:_MOST_BYTES].decode(errors="ignore")
    about, its = ("", "one subject") if subject is None else (f" about: {subject}", "the subject")
    return _RUBRIC.format(about=about, subject=its, text=head)


def _score(reply: Reply) -> float | None:
    """Return an answer's score from 0 to 1, or None where it is none."""
    try:
        score = json.loads(reply.text)["score"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    in_range = isinstance(score, int) and not isinstance(score, bool) and 0 <= score <= _MOST
    return score / _MOST if in_range else None
