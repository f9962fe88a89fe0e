"""`actlab tokenize-text`: documents in, token streams out, published whole.

One unit of work: a million tokens take less than a second, so a run that was stopped begins anew.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from actlab.backends.bpe import train_tokenizer
from actlab.backends.token_count import find_tokenizer, tokenizer_sha256
from actlab.formats.tokens import KIND, TokenFolder, read_token_folder
from actlab.ground.manifest import file_entry
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, Plan, Staging, finish_single, output_of, refuse_others, stage
from actlab.ground.units import Part
from actlab.text.tokenize.compute import encoder_of
from actlab.text.tokenize.config import TokenizeConfig
from actlab.text.tokenize.sink import TokenFiles, metadata, tokenizer_files
from actlab.text.tokenize.source import Source, find_documents, read_source

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


@takes(TokenizeConfig)
def tokenize_text(config: TokenizeConfig) -> Tokenized:
    """Split documents and write them as streams of ids; `TokenizeConfig` has the settings.

    A dataset that is there with the same settings and inputs is left as it is.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    documents = find_documents(config.input)
    tokenizer = None if config.tokenizer is None else find_tokenizer(config.tokenizer)
    plan = _plan(config, documents, tokenizer)
    output = output_of(Path(config.output).expanduser())
    refuse_others(output, plan, overwrite=config.overwrite)
    with stage(output, plan, part=Part(), overwrite=config.overwrite) as dataset:
        for unit in dataset.missing():
            _make(config, documents, tokenizer, dataset, unit)
        dataset.seal(finish_single)
    facts = read_token_folder(output)
    return Tokenized(output, facts.n_tokens, facts.n_docs, facts.vocab_size)


@takes(TokenizeConfig)
def plan_tokenizing(config: TokenizeConfig) -> PlannedTokens:
    """Return what a run with these settings would do, without tokenising or writing."""
    documents = find_documents(config.input)
    source = _read(config, documents)
    n_val = int(source.is_val.sum())
    output = output_of(Path(config.output).expanduser())
    return PlannedTokens(output, len(source.is_val) - n_val, n_val, documents.stat().st_size)


def _plan(config: TokenizeConfig, documents: Path, tokenizer: Any) -> Plan:
    """Return all that decides the dataset's bytes."""
    identity = identity_of(config) | {"tokenizer_sha256": None}
    if tokenizer is not None:
        identity |= {"vocab_size": len(tokenizer), "tokenizer_sha256": tokenizer_sha256(tokenizer)}
    return Plan(KIND, identity, [file_entry("documents", documents)], SINGLE)


def _read(config: TokenizeConfig, documents: Path) -> Source:
    return read_source(documents, validation=config.validation, near_duplicates=config.near_duplicates)


def _make(config: TokenizeConfig, documents: Path, tokenizer: Any, dataset: Staging, unit: dict[str, Any]) -> None:
    """Write the dataset's files."""
    source = _read(config, documents)
    if tokenizer is None:
        tokenizer = train_tokenizer(source.texts("train"), config.vocab_size)  # what is held out decides nothing
    with progress("tokenising", total=len(source.is_val), unit="document", quiet=config.quiet) as more:
        streams = TokenFiles(source, encoder_of(tokenizer), more)

        def facts() -> TokenFolder:
            return streams.facts(tokenizer_sha256(tokenizer))

        files = (file for part in (streams.files(), tokenizer_files(tokenizer)) for file in part)
        dataset.commit(unit, files, lambda: {"metadata": metadata(facts(), dataset.plan)})
    log.info("%s", _told(facts()))


def _told(facts: TokenFolder) -> str:
    sizes = ", ".join(f"{split} {facts.n_tokens[split]} in {facts.n_docs[split]} documents" for split in facts.n_tokens)
    return f"tokens: {sizes}; a vocabulary of {facts.vocab_size}, {facts.dtype}"
