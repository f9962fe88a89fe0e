"""Where the documents come from: a grammar, or a model server and a grammar for what it leaves open."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

from actlab.backends.servers.calls import Reply, ServerError, ServerFacts
from actlab.backends.servers.environment import ServerEnvironment, read_environment
from actlab.backends.servers.journal import Journal
from actlab.backends.servers.limits import limits_for
from actlab.backends.servers.run import BROKEN, run_requests
from actlab.backends.servers.server import Server
from actlab.ground.manifest import read_json, to_json
from actlab.ground.progress import progress
from actlab.ground.storage import write_file
from actlab.text.generate.compute import Collected, Replies
from actlab.text.generate.prompts import requests
from actlab.text.generate.source import Source
from actlab.text.templates.plan import documents_needed

log = logging.getLogger("actlab")

_SPARE = 2
"""Template documents are looked at up to so many times as often as are expected to be needed."""


class ReplyFiles(NamedTuple):
    """The files beside an output in which a run's replies outlive a stop."""

    replies: Path
    server: Path
    """The model's full name and digest, without which the replies cannot be told from another model's."""


class Asked(NamedTuple):
    """What came of a server."""

    model: str | None = None
    digest: str = ""
    problem: str | None = None
    """Why it did not write all of it, if so."""


def reply_files(output: Path) -> ReplyFiles:
    """Return the files for an output's replies."""
    return ReplyFiles(
        output.with_name(output.name + ".journal.jsonl"), output.with_name(output.name + ".journal-server.json")
    )


def collect(source: Source, collected: Collected, files: ReplyFiles) -> Asked:
    """Collect documents until the target is met, from where the settings say; return what came of the server.

    Raises:
        ConfigError: The server's address, or a time in the environment, is none.
        ServerError: The server fails, or repeats itself, and --fallback does not allow for that.
    """
    asked = Asked()
    if source.config.method != "template":
        asked = _ask_server(source, collected, files)
    if not collected.is_met:
        n = documents_needed(source.facts, collected.target - collected.n_tokens, source.tokens_per_word)
        collected.fill(source.templates(), most=_SPARE * n + 100)
    if not collected.is_met:
        log.warning(
            "only %d of %d tokens: the grammar of %s repeats itself",
            collected.n_tokens,
            collected.target,
            source.domain,
        )
    return asked


def _ask_server(source: Source, collected: Collected, files: ReplyFiles) -> Asked:
    config = source.config
    environment = read_environment(os.environ)
    server = source.server()
    with Journal(files.replies, forget_failures=config.retry_failed) as journal:
        try:
            server = _made_ready(source, server, environment, files)
        except ServerError as error:
            return _without_server(source, server, error, collected, journal, files)
        endpoint = server.endpoint
        replies = Replies(collected, source.counter, config.method, endpoint.model)
        with progress("generating", total=config.target, unit="token", quiet=config.quiet) as more:

            def on_reply(reply: Reply) -> None:
                before = collected.n_tokens
                replies.take(reply)
                more(collected.n_tokens - before, f"{len(collected.documents)} of {replies.n_offered} replies taken")

            summary = run_requests(
                server,
                requests(config, source.compiled),
                limit=config.concurrency,
                journal=journal,
                on_reply=on_reply,
                stop=lambda: collected.is_met or replies.stalled,
                interval_s=environment.request_interval_s,
            )
    if collected.is_met:
        return Asked(endpoint.model, endpoint.digest)
    problem = summary.problem if summary.ended == BROKEN else None
    return Asked(endpoint.model, endpoint.digest, _allowed(source, collected, endpoint.model, problem))


def _made_ready(source: Source, server: Server, environment: ServerEnvironment, files: ReplyFiles) -> Server:
    """Return the server with its model loaded, its full name known and limits that fit it.

    Raises:
        ServerError: It is not there, lacks the model or cannot load it.
    """
    facts = server.preflight()
    write_file(files.server, to_json({"model": facts.model, "digest": facts.digest}))
    server = server.known(facts)
    warmth = server.warm_up()
    log.info("%s loaded in %.1f s", facts.model, warmth.load_s)
    return server.limited(limits_for(source.config.timeout_preset, environment, on_gpu=warmth.on_gpu))


def _without_server(
    source: Source, server: Server, error: ServerError, collected: Collected, journal: Journal, files: ReplyFiles
) -> Asked:
    """Take what an earlier run has in the journal, up to the first request that it does not answer."""
    config = source.config
    if len(journal) and files.server.is_file():
        known = read_json(files.server)
        server = server.known(ServerFacts("", known["model"], known["digest"], (), None))
        replies = Replies(collected, source.counter, config.method, known["model"])
        for request in requests(config, source.compiled):
            reply = journal.get(request.k, server.key(request))
            if reply is None or collected.is_met or replies.stalled:
                break
            replies.take(reply)
    endpoint = server.endpoint
    if collected.is_met:
        return Asked(endpoint.model, endpoint.digest)
    if config.fallback == "never":
        raise error
    log.warning("%s (%s)", error, error.hint)
    _say_fallback(source, collected)
    return Asked(endpoint.model, endpoint.digest, str(error))


def _allowed(source: Source, collected: Collected, model: str, broken: str | None) -> str:
    """Return why the server's text ended, if a grammar may write the rest; `broken` is None where it repeats itself.

    Raises:
        ServerError: It may not.
    """
    config = source.config
    problem = broken if broken is not None else "almost nothing new came any more"
    if config.fallback == "never" or (config.fallback == "auto" and broken is None):
        if broken is None:
            hint = "raise --temperature, use another model, or give --fallback always for the rest from a grammar"
        else:
            hint = "mend the server and run again with --retry-failed: what was written is kept in the journal"
        raise ServerError(f"{model}: {problem}; {collected.n_tokens} of {config.target} tokens", hint=hint)
    log.warning("%s: %s", model, problem)
    _say_fallback(source, collected)
    return problem


def _say_fallback(source: Source, collected: Collected) -> None:
    log.warning(
        "%d of %d tokens are there; the remaining text comes from the grammar of %s (for the model's, mend the server "
        "and run again with --overwrite --retry-failed)",
        collected.n_tokens,
        collected.target,
        source.domain,
    )
