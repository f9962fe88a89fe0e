"""`actlab generate-text`: documents until there are tokens enough, from a grammar or a model server."""

import logging
import os
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from actlab.backends.token_count import saved_tokenizer, tokenizer_sha256, vocab_size_of
from actlab.formats.documents import FILE_NAME, KIND, document_line
from actlab.formats.text2gpt import export_dataset, export_folder
from actlab.ground.errors import StorageError
from actlab.ground.integrity import read_sealed_object
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.storage import (
    FORMAT_VERSION,
    SINGLE,
    Made,
    NewFile,
    Plan,
    is_complete,
    output_of,
    publish_single,
    refuse_others,
)
from actlab.text.generate.collect import collect, reply_files
from actlab.text.generate.compute import Collected
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.prompts import VERSION, names_words
from actlab.text.generate.source import Source
from actlab.text.generate.subject import TOO_OLD, SubjectShare, measure, say
from actlab.text.templates.plan import documents_needed, expected_duplicates, refuse_target

log = logging.getLogger("actlab")

_OF_SERVERS = {"model", "fallback", "temperature", "max_tokens"}
"""Settings that change nothing where a grammar writes the text."""
_STALLED_EARLIER = "almost nothing new came any more"
"""The problem of a model that repeats itself, in datasets without the key server_stalled."""
_LINES_SAMPLED = 100
"""Documents by which a dataset's size on disk is estimated."""


class GeneratedText(NamedTuple):
    """A generated dataset on disk."""

    path: Path
    n_documents: int
    n_tokens: int
    domain: str
    sources: dict[str, int]
    """Documents by what made them."""
    subject_words: list[str]
    """What the prompt asks for beyond the domain."""
    subject_share: float | None
    """Of the documents: those that hold such a word; None where that is not measured."""
    subject_unmeasured: str | None
    """Why not."""


class PlannedText(NamedTuple):
    """What a run would take."""

    path: Path
    target: int
    domain: str
    n_documents: int
    """About."""
    expected_duplicates: float
    """Of template documents; they are left out."""
    n_bytes: int
    """About."""
    subject_words: list[str]
    subject_share: float | None
    """Of the grammar's documents, about; None where it is not measured, or a server would write them."""
    subject_unmeasured: str | None


@takes(GenerateTextConfig)
def generate_text(config: GenerateTextConfig) -> GeneratedText:
    """Write documents about a prompt until they have the tokens asked for; `GenerateTextConfig` has the settings.

    Raises:
        ConfigError: A setting is wrong, or the grammar cannot supply so much.
        ServerError: The server fails and --fallback is never, or --fallback is not always and it fails before any text
            came, repeats itself, refuses, only thinks or is cut before a sentence ends.
        DataError: The grammar repeats itself before the target is met. As after a ServerError, what a server wrote
            is kept in the journal.
        StorageError: Another dataset is in the way.
    """
    source = Source(config)
    output = _output(config)
    plan = _plan(source)
    refuse_others(output, plan, overwrite=config.overwrite)
    exported = _export_folder(config, output)
    _say_domain(source)
    again = config.retry_failed and is_complete(output) and _is_a_stopgap(output, overwrite=config.overwrite)
    publish_single(output, plan, lambda: _make(source, plan, output), overwrite=config.overwrite, again=again)
    metadata = read_sealed_object(output / METADATA)
    if exported is not None:
        export_dataset(output, overwrite=config.overwrite)
    found = _subject_share(metadata)
    say(found, metadata["sources"], metadata["domain"])
    made = {key: metadata[key] for key in ("n_documents", "n_tokens", "domain", "sources")}
    return GeneratedText(path=output, **made, **found._asdict())


@takes(GenerateTextConfig)
def plan_text(config: GenerateTextConfig) -> PlannedText:
    """Return what a run with these settings would do, asking no server and writing nothing.

    Raises:
        ConfigError, StorageError: As `generate_text`.
    """
    source = Source(config)
    output = _output(config)
    refuse_others(output, _plan(source), overwrite=config.overwrite)
    _export_folder(config, output)
    n = documents_needed(source.facts, config.target, source.tokens_per_word)
    sample = list(islice(source.templates(), _LINES_SAMPLED))
    lines = [document_line(document) for document in sample]
    found = measure(source.subject, sample)
    if config.method != "template" and found.subject_share is not None:
        found = found._replace(subject_share=None, subject_unmeasured="a server's text is measured when it is there")
    return PlannedText(
        path=output,
        target=config.target,
        domain=source.domain,
        n_documents=n,
        expected_duplicates=round(expected_duplicates(source.facts, n), 2),
        n_bytes=n * sum(map(len, lines)) // len(lines),
        **found._asdict(),
    )


def _output(config: GenerateTextConfig) -> Path:
    return output_of(Path(os.path.expanduser(config.output)))


def _plan(source: Source) -> Plan:
    """Return what decides the dataset; a grammar that cannot supply it is refused here."""
    config = source.config
    idle = {"vocab_size"} if config.tokenizer is not None else set()
    if config.method == "template":
        refuse_target(source.facts, config.target, source.tokens_per_word)
        idle |= _OF_SERVERS
    settings = {name: value for name, value in identity_of(config).items() if name not in idle}
    identity = settings | {"prompt": config.prompt, "target": config.target, "domain": source.domain}
    versions = source.versions
    if config.method != "template" and not names_words(config, source.grammar):
        versions |= {"server_prompts": VERSION}
    if versions:
        identity["versions"] = versions
    return Plan(KIND, identity, source.inputs(), SINGLE)


def _is_a_stopgap(output: Path, *, overwrite: bool) -> bool:
    """Whether a mended server could write what a grammar wrote in its place.

    Raises:
        StorageError: That would replace it, and nobody said so.
    """
    metadata = read_sealed_object(output / METADATA)
    if metadata.get("server_problem") in (None, _STALLED_EARLIER) or metadata.get("server_stalled"):
        return False
    if not overwrite:
        raise StorageError(
            f"{output} is complete, with a grammar's text in place of the server's",
            hint="give --overwrite too, to replace it",
        )
    return True


def _make(source: Source, plan: Plan, output: Path) -> Made:
    config = source.config
    collected = Collected(config.target)
    asked = collect(source, collected, reply_files(output))
    if asked.problem is not None and not asked.stalled:
        log.warning("for the model's own text, fix the server and run again with --overwrite --retry-failed")
    tokenizer_files = saved_tokenizer(source.tokenizer)
    documents = b"".join(map(document_line, collected.documents))
    files = [
        NewFile(FILE_NAME, documents, len(collected.documents)),
        *(NewFile(f"tokenizer/{name}", data) for name, data in tokenizer_files.items()),
    ]
    sources = [document.source for document in collected.documents]
    metadata = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
        "prompt": config.prompt,
        "domain": source.domain,
        "method": config.method,
        "model": asked.model,
        "model_digest": asked.digest,
        "server_problem": asked.problem,
        "server_stalled": asked.stalled,
        "target": config.target,
        "n_documents": len(collected.documents),
        "n_tokens": collected.n_tokens,
        "tokenizer": source.tokenizer_name,
        "tokenizer_sha256": tokenizer_sha256(source.tokenizer),
        "vocab_size": vocab_size_of(source.tokenizer),
        "sources": {name: sources.count(name) for name in sorted(set(sources))},
        "left_out": dict(sorted(collected.left_out.items())),
        "n_skeletons": len(source.grammar.skeletons),
        **measure(source.subject, collected.documents)._asdict(),
    }
    return Made(files, metadata)


def _subject_share(metadata: dict[str, Any]) -> SubjectShare:
    """Return what a dataset's metadata says of its subject."""
    if "subject_share" not in metadata:
        return SubjectShare([], None, TOO_OLD)
    return SubjectShare(*(metadata[key] for key in SubjectShare._fields))


def _say_domain(source: Source) -> None:
    if source.detected is None:
        return
    evidence = (
        ", ".join(f"{one.word} ({one.domain} {one.weight:g})" for one in source.detected.evidence) or "no keyword"
    )
    log.info("domain %s, by %s; margin %.2f", source.detected.domain, evidence, source.detected.margin)


def _export_folder(config: GenerateTextConfig, output: Path) -> Path | None:
    """Return where text2gpt's files go, None where nobody wants them; what is in the way is refused here."""
    return None if config.export is None else export_folder(output, overwrite=config.overwrite)
