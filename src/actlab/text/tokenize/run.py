"""`actlab tokenize-text`: documents in, token streams out, published whole.

One unit of work: a million tokens take less than a second, so a run that was stopped begins anew.
"""

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from actlab.backends.bpe import train_tokenizer
from actlab.backends.token_count import find_tokenizer, tokenizer_sha256, vocab_size_of
from actlab.formats.documents import find_documents
from actlab.formats.tokens import KIND, TokenFolder, read_token_folder
from actlab.ground.integrity import input_entry
from actlab.ground.manifest import Unit
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, Plan, Staging, finish_single, output_of, refuse_others, stage
from actlab.ground.units import Part
from actlab.text.tokenize.compute import Encoder, encoder_of
from actlab.text.tokenize.config import TokenizeConfig
from actlab.text.tokenize.sink import TokenFiles, metadata, tokenizer_files
from actlab.text.tokenize.source import ROLE, Source, read_source, refuse_changed
from actlab.text.words import is_cut_by_script, versions_of_documents

log = logging.getLogger("actlab")


class Tokenized(NamedTuple):
    """What a run came to."""

    path: Path
    n_tokens: dict[str, int]
    """By split."""
    n_docs: dict[str, int]
    vocab_size: int


class PlannedTokens(NamedTuple):
    """What a run would take."""

    path: Path
    n_train: int
    """Documents."""
    n_val: int
    bytes_to_read: int


class _Job(NamedTuple):
    """What a run needs, found and not refused."""

    documents: Path
    tokenizer: Any
    """None where one is to be trained."""
    encoder: Encoder | None
    output: Path
    plan: Plan


@takes(TokenizeConfig)
def tokenize_text(config: TokenizeConfig) -> Tokenized:
    """Split documents and write them as streams of ids; `TokenizeConfig` has the settings.

    A dataset that is there with the same settings and inputs is left as it is.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    job = _open(config)
    with stage(job.output, job.plan, part=Part(), overwrite=config.overwrite) as dataset:
        for unit in dataset.missing():
            _make(config, job, dataset, unit)
        dataset.seal(finish_single)
    facts = read_token_folder(job.output)
    return Tokenized(job.output, facts.n_tokens, facts.n_docs, facts.vocab_size)


@takes(TokenizeConfig)
def plan_tokenizing(config: TokenizeConfig) -> PlannedTokens:
    """Return what a run with these settings would do, without writing.

    Raises:
        ActlabError: As `tokenize_text` does.
    """
    job = _open(config)
    source = _read(config, job)
    n_val = int(source.is_val.sum())
    return PlannedTokens(job.output, len(source.is_val) - n_val, n_val, job.documents.stat().st_size)


def _open(config: TokenizeConfig) -> _Job:
    """Find the documents and the tokenizer, and refuse early what a run would refuse."""
    documents = find_documents(Path(os.path.expanduser(config.input)))
    tokenizer = None if config.tokenizer is None else find_tokenizer(config.tokenizer)
    encoder = None if tokenizer is None else encoder_of(tokenizer)
    output = output_of(Path(os.path.expanduser(config.output)))
    plan = _plan(config, documents, tokenizer)
    refuse_others(output, plan, overwrite=config.overwrite)
    return _Job(documents, tokenizer, encoder, output, plan)


def _plan(config: TokenizeConfig, documents: Path, tokenizer: Any) -> Plan:
    """Return all that decides the dataset's bytes."""
    identity = identity_of(config) | {"tokenizer_sha256": None}
    if tokenizer is not None:
        identity |= {"vocab_size": vocab_size_of(tokenizer), "tokenizer_sha256": tokenizer_sha256(tokenizer)}
    is_compared = bool(config.validation and config.near_duplicates)
    if is_compared and (versions := versions_of_documents(documents, is_cut_by_script)):
        identity["versions"] = versions
    return Plan(KIND, identity, [input_entry(ROLE, documents)], SINGLE)


def _read(config: TokenizeConfig, job: _Job) -> Source:
    return read_source(
        job.documents,
        validation=config.validation,
        near_duplicates=config.near_duplicates,
        ids_of=job.encoder and job.encoder.ids_of,  # the one trained here tells any two texts apart
    )


def _make(config: TokenizeConfig, job: _Job, dataset: Staging, unit: Unit) -> None:
    """Write the dataset's files."""
    source = _read(config, job)
    tokenizer = job.tokenizer
    if tokenizer is None:
        tokenizer = train_tokenizer(source.texts("train"), config.vocab_size)  # what is held out decides nothing
    with progress("tokenising", total=len(source.is_val), unit="document", quiet=config.quiet) as more:
        streams = TokenFiles(source, job.encoder or encoder_of(tokenizer), more)

        def facts() -> TokenFolder:
            return streams.facts(tokenizer_sha256(tokenizer))

        def record() -> dict[str, Any]:
            refuse_changed(job.documents, *dataset.plan.inputs)
            return {"metadata": metadata(facts(), dataset.plan)}

        files = (file for part in (streams.files(), tokenizer_files(tokenizer)) for file in part)
        dataset.commit(unit, files, record)
    _tell(facts(), config.validation)


def _tell(facts: TokenFolder, asked: float) -> None:
    """Log the sizes, and warn where the held-out share is far from the one that was asked for."""
    n_tokens, n_docs = facts.n_tokens, facts.n_docs
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
