"""A model that says how good a text is: asked with a rubric, answered with a number in a JSON schema."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actlab.backends.servers.calls import Request, ServerError
from actlab.backends.servers.environment import read_environment
from actlab.backends.servers.journal import Journal
from actlab.backends.servers.limits import limits_for
from actlab.backends.servers.server import Server, server_of
from actlab.backends.servers.wire import OpenCalls
from actlab.text.refine.compute.verdicts import Judge
from actlab.text.refine.config import RefineConfig
from actlab.text.words import text_hash

log = logging.getLogger("actlab")

_MOST = 5
_SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": _MOST}},
    "required": ["score"],
}
_RUBRIC = """\
Judge the text below as reading matter about: {subject}. Start with 0 points and add one for each that holds:
it is about the subject; its sentences are whole and correct; it says something specific; its parts belong together;
a careful editor would keep it as it is. Answer with JSON alone, as {{"score": 3}}.

Text:
{text}"""
_MAX_TOKENS = 32
_MOST_FAILURES = 3


@contextmanager
def asked(config: RefineConfig, subject: str, journal_path: Path) -> Iterator[Judge]:
    """Lend a judge; each answer is a line of the journal, so that a text is never judged twice.

    Raises:
        ServerError: The server is not there or lacks the model, or three answers in a row are none.
    """
    server = _server(config)
    failures = 0
    with Journal(journal_path) as journal:

        def judge(text: str) -> float:
            nonlocal failures
            prompt = _RUBRIC.format(subject=subject, text=text)
            number = int(text_hash(text)[:8], 16)
            request = Request(k=number, prompt=prompt, seed=0, max_tokens=_MAX_TOKENS, temperature=0.0, schema=_SCHEMA)
            key = server.key(request)
            reply = journal.get(number, key)
            if reply is None:
                reply = server.generate(request, calls=OpenCalls())
                if not reply.failed:
                    journal.append(key, reply)
            score = _score(reply.text)
            failures = 0 if score is not None else failures + 1
            if failures == _MOST_FAILURES:
                raise ServerError(
                    f"the judge {config.judge} gives no scores: {reply.problem or reply.text[:80]!r}",
                    hint="choose another --judge, or leave it away",
                )
            return 0.5 if score is None else score  # no answer says neither good nor bad

        yield judge


def _score(text: str) -> float | None:
    """Return an answer's score from 0 to 1, or None where it is none."""
    try:
        score = json.loads(text)["score"]
    except (ValueError, KeyError, TypeError):
        return None
    in_range = isinstance(score, int) and not isinstance(score, bool) and 0 <= score <= _MOST
    return score / _MOST if in_range else None


def _server(config: RefineConfig) -> Server:
    """Return the judge's server, its model loaded, with the limits for judging."""
    environment = read_environment(os.environ)
    assert config.judge is not None
    preset = config.timeout_preset
    server = server_of(config.judge_api, config.judge, environment=environment, base_url=config.base_url, preset=preset)
    server = server.known(server.preflight())
    warmth = server.warm_up()
    log.info("%s loaded in %.1f s", server.endpoint.model, warmth.load_s)
    return server.limited(limits_for(preset, environment, on_gpu=warmth.on_gpu).for_evaluation())
