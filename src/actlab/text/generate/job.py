"""`actlab generate-text`: documents until there are tokens enough, from a grammar or a model server."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NotRequired, TypedDict

from actlab.backends.token_count import saved_tokenizer, tokenizer_sha256, vocab_size_of
from actlab.formats.documents import FILE_NAME, KIND, document_line
from actlab.formats.text2gpt import export_dataset, export_folder
from actlab.ground.errors import StorageError
from actlab.ground.integrity import read_sealed_as
from actlab.ground.job import Cost, DatasetJob, Done, Outcome, Worker, run_job
from actlab.ground.log import log
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More
from actlab.ground.storage import FORMAT_VERSION, SINGLE, NewFile, Plan, is_complete, output_of
from actlab.text import kind  # noqa: F401  registers the kind
from actlab.text.generate.collect import collect, shares_not_asked
from actlab.text.generate.compute import Collected
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.prompts import VERSION, names_words
from actlab.text.generate.source import Source
from actlab.text.generate.subject import TOO_OLD, SubjectShare, describe, measure, say
from actlab.text.templates.plan import documents_needed, expected_duplicates, refuse_target

_OF_SERVERS = {"model", "fallback", "temperature", "max_tokens"}
"""Settings that change nothing where a grammar writes the text."""
_STALLED_EARLIER = "almost nothing new came any more"
"""The problem of a model that repeats itself, in datasets without the key server_stalled."""
_LINES_SAMPLED = 100
"""Documents by which a dataset's size on disk is estimated."""


class _Metadata(TypedDict):
    """What is read of a dataset's `metadata.json`."""

    n_documents: int
    n_tokens: int
    domain: str
    sources: dict[str, int]
    server_problem: NotRequired[str | None]
    server_stalled: NotRequired[bool]
    subject_words: NotRequired[list[str]]
    subject_share: NotRequired[float | None]
    subject_unmeasured: NotRequired[str | None]


@dataclass(frozen=True, kw_only=True)
class GeneratedText(Outcome):
    """A generated dataset on disk."""

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
    not_asked: str | None
    """How much came from the model and how much from templates, where nobody asked for templates."""

    @property
    def falls_short(self) -> bool:
        """Whether a grammar wrote what a model was to write."""
        return self.not_asked is not None

    def tell(self) -> None:
        """Log what is there and where it came from."""
        sources = ", ".join(f"{name} {n}" for name, n in self.sources.items())
        log.info(
            "%d documents, %d tokens, domain %s; by source: %s",
            *(self.n_documents, self.n_tokens, self.domain, sources),
        )
        if self.not_asked is not None:
            log.warning("%s: %s", self.path, self.not_asked)


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
    return run_job(jobs_of(config))


def jobs_of(config: GenerateTextConfig) -> Iterator[Sequence["TextJob"]]:
    """Yield the one job."""
    yield [TextJob(config, Source(config))]


class TextJob(DatasetJob[GeneratedText]):
    """Text about one prompt."""

    config: GenerateTextConfig

    def __init__(self, config: GenerateTextConfig, source: Source) -> None:
        super().__init__(config, output_of(config.output))
        self.source = source

    @cached_property
    def plan(self) -> Plan:
        """What decides the dataset; a grammar that cannot supply it is refused here."""
        config, source = self.config, self.source
        idle = {"vocab_size"} if config.tokenizer is not None else set()
        versions = source.versions
        if not config.asks_server:
            refuse_target(source.facts, config.target, source.tokens_per_word)
            idle |= _OF_SERVERS
        elif not names_words(config, source.grammar):
            versions |= {"server_prompts": VERSION}
        settings = {name: value for name, value in identity_of(config).items() if name not in idle}
        identity = settings | {"prompt": config.prompt, "target": config.target, "domain": source.grammar.domain}
        if versions:
            identity["versions"] = versions
        return Plan(KIND, identity, source.inputs(), SINGLE)

    def refuse(self) -> None:
        """Refuse what is in the way of the dataset, or of its export.

        Raises:
            StorageError: Something is.
        """
        super().refuse()
        if self.config.export is not None:
            export_folder(self.output, overwrite=self.config.overwrite)

    def run(self) -> None:
        """Say which domain was chosen, and make the dataset."""
        if (found := self.source.detected) is not None:
            named = ", ".join(f"{one.word} ({one.domain} {one.weight:g})" for one in found.evidence) or "no keyword"
            log.info("domain %s, by %s; margin %.2f", found.domain, named, found.margin)
        super().run()

    def is_to_be_made_again(self) -> bool:
        """Whether a mended server could write what a grammar wrote in its place.

        Raises:
            StorageError: That would replace it, and nobody said so.
        """
        if not self.config.retry_failed or not is_complete(self.output):
            return False
        there = self._metadata()
        if there.get("server_problem") in (None, _STALLED_EARLIER) or there.get("server_stalled"):
            return False
        if not self.config.overwrite:
            raise StorageError(
                f"{self.output} is complete, with a grammar's text in place of the server's",
                hint="give --overwrite too, to replace it",
            )
        return True

    def open(self) -> AbstractContextManager[Worker]:
        """Lend what collects the documents."""
        return nullcontext(self._make)

    def _make(self, _unit: int, _more: More) -> Done:
        config, source = self.config, self.source
        collected = Collected(config.target)
        asked = collect(source, collected, self.output)
        if asked.problem is not None and not asked.stalled:
            log.warning("for the model's own text, fix the server and run again with --overwrite --retry-failed")
        files = [
            NewFile(FILE_NAME, b"".join(map(document_line, collected.documents)), len(collected.documents)),
            *(NewFile(f"tokenizer/{name}", data) for name, data in saved_tokenizer(source.tokenizer).items()),
        ]
        sources = [document.source for document in collected.documents]
        metadata = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "fingerprint": self.plan.fingerprint,
            "prompt": config.prompt,
            "domain": source.grammar.domain,
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
        return Done(files, {"metadata": metadata})

    def after(self) -> None:
        """Say how much of the text is about the prompt, and write text2gpt's files where they are asked for."""
        if self.config.export is not None:
            export_dataset(self.output, overwrite=self.config.overwrite)
        there = self._metadata()
        say(_share_in(there), there["sources"], there["domain"])

    def _metadata(self) -> _Metadata:
        return read_sealed_as(self.output / METADATA, _Metadata)

    def outcome(self) -> GeneratedText:
        """Return what is there, by its metadata."""
        there = self._metadata()
        return GeneratedText(
            path=self.output,
            n_documents=there["n_documents"],
            n_tokens=there["n_tokens"],
            domain=there["domain"],
            sources=there["sources"],
            **_share_in(there)._asdict(),
            not_asked=shares_not_asked(self.config, there["sources"]),
        )

    def cost(self) -> Cost:
        """Ask no server; what a grammar would write is estimated by a sample."""
        config, source = self.config, self.source
        n = documents_needed(source.facts, config.target, source.tokens_per_word)
        sample = list(islice(source.templates(), _LINES_SAMPLED))
        n_bytes = n * sum(len(document_line(document)) for document in sample) // len(sample)
        found = measure(source.subject, sample)
        if config.asks_server and found.subject_share is not None:
            found = SubjectShare(found.subject_words, None, "a server's text is measured when it is there")
        repeats = round(expected_duplicates(source.facts, n), 2)
        domain = source.grammar.domain
        return Cost(
            path=self.output,
            n_records=n,
            records="documents",
            n_tokens=config.target,
            bytes_to_write=n_bytes,
            notes=(
                f"{config.target} tokens of {domain}; repeats expected of its grammar: {repeats:g}",
                describe(found, lambda share: f"about {share:.0%} of the documents would"),
            ),
            details={
                "target": config.target,
                "domain": domain,
                "n_documents": n,
                "expected_duplicates": repeats,
                "n_bytes": n_bytes,
                **found._asdict(),
            },
        )


def _share_in(there: _Metadata) -> SubjectShare:
    """Return what a dataset's metadata says of its subject."""
    if "subject_share" not in there:
        return SubjectShare([], None, TOO_OLD)
    return SubjectShare(there["subject_words"], there["subject_share"], there["subject_unmeasured"])
