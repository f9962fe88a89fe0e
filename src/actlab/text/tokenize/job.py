"""`actlab tokenize-text`: documents in, token streams out, published whole.

One unit of work: a million tokens take less than a second, so a run that was stopped begins anew.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property

from actlab.backends.bpe import train_tokenizer
from actlab.backends.token_count import find_tokenizer
from actlab.formats.documents import find_documents
from actlab.formats.tokens import KIND, TokenFolder, read_token_folder
from actlab.ground.integrity import input_entry
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, Worker, run_job
from actlab.ground.log import log
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More
from actlab.ground.storage import FORMAT_VERSION, SINGLE, Plan, output_of
from actlab.text import kind  # noqa: F401  registers the kind
from actlab.text.tokenize.compute import encoder_of
from actlab.text.tokenize.config import TokenizeConfig
from actlab.text.tokenize.sink import TokenFiles
from actlab.text.tokenize.source import ROLE, Source, read_source, refuse_changed
from actlab.text.words import is_cut_by_script, versions_of_documents


@dataclass(frozen=True, kw_only=True)
class Tokenized(Outcome):
    """What a run came to."""

    n_tokens: dict[str, int]
    """By split."""
    n_docs: dict[str, int]
    vocab_size: int


@takes(TokenizeConfig)
def tokenize_text(config: TokenizeConfig) -> Tokenized:
    """Split documents and write them as streams of ids; `TokenizeConfig` has the settings.

    A dataset that is there with the same settings and inputs is left as it is.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: TokenizeConfig) -> Iterator[list["TokenizeJob"]]:
    """Yield the one job: documents, to be tokenised."""
    yield [TokenizeJob(config)]


class TokenizeJob(DatasetJob[Tokenized]):
    """Documents, to be split and tokenised."""

    config: TokenizeConfig

    def __init__(self, config: TokenizeConfig) -> None:
        super().__init__(config, output_of(config.output))
        self.documents = find_documents(config.input)
        self.encoder = None if config.tokenizer is None else encoder_of(find_tokenizer(config.tokenizer))

    @cached_property
    def plan(self) -> Plan:
        """All that decides the dataset's bytes."""
        identity = identity_of(self.config) | {"tokenizer_sha256": None}
        if self.encoder is not None:
            identity |= {"vocab_size": self.encoder.vocab_size, "tokenizer_sha256": self.encoder.sha256}
        is_compared = bool(self.config.validation and self.config.near_duplicates)
        if is_compared and (versions := versions_of_documents(self.documents, is_cut_by_script)):
            identity["versions"] = versions
        return Plan(KIND, identity, [input_entry(ROLE, self.documents)], SINGLE)

    @cached_property
    def source(self) -> Source:
        """The documents, each with its side."""
        return read_source(
            self.documents,
            validation=self.config.validation,
            near_duplicates=self.config.near_duplicates,
            ids_of=self.encoder and self.encoder.ids_of,  # the one trained here tells any two texts apart
        )

    def bar(self, units: object) -> Bar:
        """Count documents."""
        return Bar("tokenising", "document", len(self.source.is_val))

    def open(self) -> AbstractContextManager[Worker]:
        """Lend the worker that tokenises."""
        return nullcontext(self.tokenise)

    def tokenise(self, _number: int, more: More) -> Done:
        """Return the dataset's files; a tokenizer that is trained here sees nothing of what is held out."""
        encoder = self.encoder or encoder_of(train_tokenizer(self.source.texts("train"), self.config.vocab_size))
        streams = TokenFiles(self.source, encoder, more)

        def record() -> dict[str, object]:
            refuse_changed(self.documents, *self.plan.inputs)
            facts = streams.facts()
            self._tell(facts)
            return {
                "metadata": {
                    **asdict(facts),
                    "split_by": "hash of the normalised document",
                    "kind": KIND,
                    "format_version": FORMAT_VERSION,
                    "fingerprint": self.plan.fingerprint,
                }
            }

        return Done(streams.files(), record)

    def _tell(self, facts: TokenFolder) -> None:
        """Log the sizes, and warn where the held-out share is far from the one that was asked for."""
        n_tokens, n_docs, asked = facts.n_tokens, facts.n_docs, self.config.validation
        share = n_tokens["val"] / sum(n_tokens.values())
        sizes = ", ".join(f"{split} {n_tokens[split]} in {n_docs[split]} documents" for split in n_tokens)
        log.info("tokens: %s (%.1f %% held out); ids below %d, %s", sizes, 100 * share, facts.vocab_size, facts.dtype)
        if asked and not asked / 2 <= share <= 2 * asked:
            log.warning(
                "%.1f %% of the tokens are held out, not %.1f %%: there are few documents, or large families of "
                "near duplicates, which stay together",
                100 * share,
                100 * asked,
            )

    def outcome(self) -> Tokenized:
        """Return what is in the dataset, by its metadata."""
        facts = read_token_folder(self.output)
        return Tokenized(path=self.output, n_tokens=facts.n_tokens, n_docs=facts.n_docs, vocab_size=facts.vocab_size)

    def cost(self) -> Cost:
        """Read the documents and choose their sides, tokenising none."""
        n, n_val = len(self.source.is_val), int(self.source.is_val.sum())
        n_bytes = self.documents.stat().st_size
        return Cost(
            path=self.output,
            n_records=n,
            records="documents",
            notes=(f"{n - n_val} documents to train on, {n_val} held out; {n_bytes} bytes to read",),
            details={"n_train": n - n_val, "n_val": n_val, "bytes_to_read": n_bytes},
        )
