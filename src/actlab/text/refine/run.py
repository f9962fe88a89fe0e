"""`actlab refine-text` on one screen: read, reject, score, choose, publish with a report."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from actlab.formats.documents import KIND, Document, read_documents
from actlab.formats.text2gpt import Text2GptFacts, export_text2gpt
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.manifest import METADATA, read_json
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, Made, Plan, output_of, publish_single, refuse_others
from actlab.text.refine.compute.verdicts import NOT_NEEDED, Judge, Refined, Settings, refine_documents
from actlab.text.refine.config import RefineConfig
from actlab.text.refine.plots import plot_file
from actlab.text.refine.sink import make_files, report
from actlab.text.refine.source import Input, find_input, read_all
from actlab.text.refine.subject import Subject, subject_of

log = logging.getLogger("actlab")

_COUNTS = ("tokenizer", "method", "model")
"""What the input's metadata says of its making, which holds for what is chosen of it too."""


class RefinedText(NamedTuple):
    """A refined dataset on disk."""

    path: Path
    n_documents: int
    n_tokens: int
    mean_score: float
    n_rejects: dict[str, int]
    """Documents that were not chosen, by reason."""


class PlannedRefinement(NamedTuple):
    """What a run would do."""

    path: Path
    n_documents: int
    n_tokens: int
    target: int | None
    prompt: str | None
    domain: str | None


@takes(RefineConfig)
def refine_text(config: RefineConfig) -> RefinedText:
    """Choose good and varied documents of a dataset, and write them with scores, rejects and a report.

    Raises:
        ConfigError: The input is not there.
        DataError: A line of it is no document, or no document passes.
        StorageError: Another dataset is in the way.
    """
    output = output_of(Path(config.output).expanduser())
    source = find_input(Path(config.input).expanduser())
    if source.file.parent.resolve() == output.resolve():
        raise ConfigError(f"--output {output} is the input", hint="choose another --output")
    subject = subject_of(config.prompt, source.metadata)
    plan = _plan(config, source, subject)
    refuse_others(output, plan, overwrite=config.overwrite)
    publish_single(output, plan, lambda: _make(config, source, subject, plan), overwrite=config.overwrite)
    metadata = read_json(output / METADATA)
    if config.export is not None:
        _export(config, output, metadata)
    return RefinedText(output, *(metadata[key] for key in RefinedText._fields[1:]))


@takes(RefineConfig)
def plan_refinement(config: RefineConfig) -> PlannedRefinement:
    """Return what `refine_text` would read and aim at, scoring nothing.

    Raises:
        ConfigError, DataError, StorageError: As `refine_text` does.
    """
    output = output_of(Path(config.output).expanduser())
    source = find_input(Path(config.input).expanduser())
    subject = subject_of(config.prompt, source.metadata)
    refuse_others(output, _plan(config, source, subject), overwrite=config.overwrite)
    documents = read_all(source, config.tokenizer).documents
    n_tokens = sum(document.n_tokens for document in documents)
    return PlannedRefinement(output, len(documents), n_tokens, config.tokens, subject.prompt, subject.domain)


def _plan(config: RefineConfig, source: Input, subject: Subject) -> Plan:
    identity = {**identity_of(config), "prompt": subject.prompt, "domain": subject.domain}
    return Plan(KIND, identity, [source.entry], SINGLE)


def _make(config: RefineConfig, source: Input, subject: Subject, plan: Plan) -> Made:
    read = read_all(source, config.tokenizer)
    settings = Settings(
        tokens=config.tokens,
        preset=config.preset,
        select=config.select,
        min_score=config.min_score,
        near_duplicates=config.near_duplicates,
        context=config.context,
        topic=subject.topic,
    )
    with (
        _judge(config, subject) as judge,
        progress("refining", total=len(read.documents), unit="document", quiet=config.quiet) as tick,
    ):
        refined = refine_documents(read.documents, settings, judge=judge, tick=tick)
    _check(refined, source, config.tokens)
    about = {
        "preset": config.preset,
        "select": config.select,
        "judge": config.judge,
        "prompt": subject.prompt,
        "domain": subject.domain,
        "counted_in": "words" if read.n_counted_here and config.tokenizer is None else "tokens",
        **{key: source.metadata[key] for key in _COUNTS if key in source.metadata},
    }
    described = report(read.documents, refined, config.near_duplicates)
    made = make_files(plan, refined, described, about)
    return Made([*made.files, plot_file(described)], made.metadata) if config.plots else made


def _judge(config: RefineConfig, subject: Subject) -> AbstractContextManager[Judge | None]:
    """Lend the judge that the settings name, if they name one."""
    if config.judge is None:
        return nullcontext()
    from actlab.text.refine.judge import asked

    journal = output_of(Path(config.output).expanduser())
    return asked(config, subject.prompt or "everyday life", journal.with_name(journal.name + ".judge.jsonl"))


def _check(refined: Refined, source: Input, target: int | None) -> None:
    """Refuse a choice of nothing, and warn of one that is too small.

    Raises:
        DataError: No document passes.
    """
    counts = ", ".join(f"{reason}: {count}" for reason, count in refined.n_rejects.items() if reason != NOT_NEEDED)
    if not refined.chosen:
        raise DataError(
            f"no document of {source.file} passes ({counts})",
            hint="try another --preset, a lower --min-score, or the --prompt that the text is about",
        )
    n_tokens = sum(one.document.n_tokens for one in refined.chosen)
    if target is not None and n_tokens < target:
        log.warning("all that passes has %d of --tokens %d (%s)", n_tokens, target, counts or "nothing rejected")


def _export(config: RefineConfig, output: Path, metadata: dict[str, Any]) -> None:
    documents = list(read_documents(output))
    folder = output.with_name(f"{output.name}-{config.export}")
    export_text2gpt(folder, documents, _facts(config, documents, metadata), datetime.now(UTC))
    log.info("%s: dataset.json and dataset.txt as text2gpt has them", folder)


def _facts(config: RefineConfig, documents: Sequence[Document], metadata: dict[str, Any]) -> Text2GptFacts:
    sources = {document.source for document in documents}
    model = metadata.get("model")
    return Text2GptFacts(
        tokenizer=str(metadata.get("tokenizer") or config.tokenizer or metadata["counted_in"]),
        prompt=metadata["prompt"] or "",
        domain=metadata["domain"] or "general",
        generation_method="+".join(sorted(sources)),
        generation_model=model if isinstance(model, str) else None,
        refinement_model=config.judge,
        ollama_used="ollama" in sources,
        quality_threshold=config.min_score,
    )
