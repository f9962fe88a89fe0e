"""Where the documents come from: a grammar, or a model server and a grammar for what it leaves open."""

import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from actlab.ground.errors import DataError
from actlab.ground.log import log
from actlab.ground.manifest import read_json, to_json
from actlab.ground.progress import progress
from actlab.ground.storage import write_file
from actlab.servers.calls import LENGTH, REFUSAL, THOUGHT, Reply, ServerError, ServerFacts
from actlab.servers.environment import ServerEnvironment, read_environment
from actlab.servers.journal import Journal
from actlab.servers.ollama import context_for
from actlab.servers.run import BROKEN, DONE, EXHAUSTED, RunSummary, run_requests
from actlab.servers.server import Server, server_of
from actlab.text.generate.compute import Collected, Replies
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.prompts import requests
from actlab.text.generate.source import Source
from actlab.text.templates.plan import documents_needed

_SPARE = 2
"""Template documents are looked at up to so many times as often as are expected to be needed."""

_NO_REFUSALS = "use another model, or other words for what it shall write"
_NO_ROOM = "give a reply room for a sentence: --max-tokens"
_WAYS_OUT = "or let the grammar write it: --fallback always, or --method template"
_ANOTHER = "use another model; generate-text has --temperature, and --fallback always for the rest from a grammar"


class Asked(NamedTuple):
    """What came of a server."""

    model: str | None = None
    digest: str = ""
    problem: str | None = None
    """Why it did not write all of it, if so."""
    stalled: bool = False
    """Whether that is how the model writes, which asking again does not change."""


def collect(source: Source, collected: Collected, output: Path) -> Asked:
    """Collect documents until the target is met, from where the settings say; return what came of the server.

    Its replies outlive a stop in files beside the output.

    Raises:
        ConfigError: The server's address, or a time in the environment, is none.
        ServerError: The server fails and --fallback is never, or --fallback is not always and it fails before any text
            came, repeats itself, refuses, only thinks or is cut before a sentence ends.
        DataError: All that the grammar has does not meet the target.
    """
    asked = _ask_server(source, collected, output) if source.config.asks_server else Asked()
    if not collected.is_met:
        n = documents_needed(source.facts, collected.target - collected.n_tokens, source.tokens_per_word)
        collected.fill(source.templates(), most=_SPARE * n + 100)
    if not collected.is_met:
        so_far, domain = f"{collected.n_tokens} of {collected.target} tokens", source.grammar.domain
        raise DataError(f"only {so_far}: the grammar of {domain} repeats itself", hint=source.chosen.hint)
    return asked


def shares_not_asked(config: GenerateTextConfig, sources: Mapping[str, int]) -> str | None:
    """Say how much came from the model and how much from templates, where nobody asked for templates.

    >>> config = GenerateTextConfig(prompt="tea", output=Path("x"), method="ollama", model="tiny")
    >>> shares_not_asked(config, {"ollama": 37, "template": 63})
    '37 of 100 documents from the model, 63 from templates'
    """
    n_template, n = sources.get("template", 0), sum(sources.values())
    if not config.asks_server or config.fallback == "always" or not n_template:
        return None
    return f"{n - n_template} of {n} documents from the model, {n_template} from templates"


def server_for(config: GenerateTextConfig, environment: ServerEnvironment) -> Server:
    """Return the model server that the settings and the environment name; nothing is asked of it."""
    assert config.model is not None
    return server_of(
        config.method,
        config.model,
        environment=environment,
        base_url=config.base_url,
        preset=config.timeout_preset,
        context=context_for(config.prompt, config.max_tokens),
    )


def _ask_server(source: Source, collected: Collected, output: Path) -> Asked:
    """Take the server's replies; where it is not there, those of an earlier run, up to the first that is missing."""
    config, environment = source.config, read_environment(os.environ)
    server, gone = _find_server(config, environment, output.with_name(output.name + ".journal-server.json"))
    model, digest = server.endpoint.model, server.endpoint.digest
    replies = Replies(collected, source.counter, config.method, model)
    with (
        Journal(
            output.with_name(output.name + ".journal.jsonl"),
            forget_failures=config.retry_failed,
            retry_if_all_failed=True,
        ) as journal,
        progress("generating", total=config.target, unit="token", quiet=config.quiet) as more,
    ):

        def on_reply(reply: Reply) -> None:
            before = collected.n_tokens
            replies.take(reply)
            more(collected.n_tokens - before, f"{len(collected.documents)} of {replies.n_offered} replies taken")

        wanted = requests(config, source.compiled)
        if gone is not None:
            wanted = takewhile(lambda one: journal.get(one.k, server.key(one)) is not None, wanted)
        summary = run_requests(
            server,
            wanted,
            limit=config.concurrency,
            journal=journal,
            on_reply=on_reply,
            stop=lambda: collected.is_met or bool(replies.stalled),
            interval_s=environment.request_interval_s,
        )
    if collected.is_met:
        return Asked(model, digest)
    if summary.ended == DONE:
        summary = RunSummary(DONE, replies.stalled, LENGTH if replies.cut_short else "")
    problem = _allowed(source, collected, server, summary, gone)
    return Asked(model, digest, problem, stalled=summary.ended == DONE)


def _find_server(
    config: GenerateTextConfig, environment: ServerEnvironment, memory: Path
) -> tuple[Server, ServerError | None]:
    """Return the server with its model loaded, its full name known and limits that fit it.

    `memory` is a file for that name and the digest: without them its replies cannot be told from another model's.
    Where it is not there, lacks the model or cannot load it: as an earlier run knew it, and why it is not.

    Raises:
        ServerError: It is not ready, and what failed before is to be asked of it again.
    """
    server = server_for(config, environment)
    try:
        facts = server.preflight()
        write_file(memory, to_json({"method": config.method, "asked": config.model, **facts._asdict()}))
        server = server.known(facts)
        return server.loaded(config.temperature, config.timeout_preset, environment), None
    except ServerError as error:
        if config.retry_failed:
            raise
        return _remembered(config, server, memory), error


def _remembered(config: GenerateTextConfig, server: Server, memory: Path) -> Server:
    """Return the server with what an earlier run knew of this same model; otherwise no reply would be its own."""
    if memory.is_file():
        match read_json(memory):
            case {"method": config.method, "asked": config.model, "model": str(model), "digest": str(digest)}:
                return server.known(ServerFacts(model, digest))
    return server


def _allowed(
    source: Source, collected: Collected, server: Server, summary: RunSummary, gone: ServerError | None
) -> str:
    """Return why the server's text ended, if a grammar may write the rest.

    Raises:
        ServerError: It may not.
    """
    fallback = source.config.fallback
    nothing = not collected.documents
    hint = f"{_NO_ROOM}; {_WAYS_OUT}" if summary.reason == LENGTH else _ANOTHER
    if summary.ended == BROKEN:
        kept = "" if nothing else ": what was written is kept in the journal"
        hint = f"fix the server and run again with --retry-failed{kept}"
    problem = f"{server.endpoint.model}: {summary.problem}; {collected.n_tokens} of {collected.target} tokens"
    error = ServerError(problem, hint=hint)
    if summary.ended == EXHAUSTED:
        assert gone is not None, "requests without end end only where the server is gone"
        error = gone
    if summary.reason in (THOUGHT, REFUSAL) and fallback != "always":
        hint = server.dialect.no_thoughts if summary.reason == THOUGHT else _NO_REFUSALS
        raise ServerError(str(error), hint=f"{hint}; {_WAYS_OUT}")
    if fallback == "never" or (fallback == "auto" and summary.ended == DONE):
        raise error
    if fallback == "auto" and nothing:
        raise ServerError(f"no text came from the model: {error}", hint=f"{error.hint}; {_WAYS_OUT}")
    why = f"{error} ({error.hint})" if error is gone else str(error)
    log.warning("%s; the remaining text comes from the grammar of %s", why, source.grammar.domain)
    return str(gone) if error is gone else summary.problem
