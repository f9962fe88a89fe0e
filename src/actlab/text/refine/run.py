"""`actlab refine-text` on one screen: read, reject, score, choose, publish with a report."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from actlab.formats.documents import KIND, Document, read_documents
from actlab.formats.text2gpt import Text2GptFacts, export_folder, export_text2gpt
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.integrity import read_sealed_json, read_sealed_object
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, Made, Plan, output_of, publish_single, refuse_others
from actlab.text.refine.compute.score import is_judged_by_script
from actlab.text.refine.compute.shuffled import against_shuffled
from actlab.text.refine.compute.verdicts import LOW_SCORE, NOT_NEEDED, Refined, Settings, refine_documents
from actlab.text.refine.config import RefineConfig
from actlab.text.refine.plots import plot_file
from actlab.text.refine.sink import REPORT_NAME, make_files, report
from actlab.text.refine.source import Counting, Input, find_counting, find_input, read_all
from actlab.text.refine.subject import Subject, subject_of
from actlab.text.words import versions_of_documents, versions_of_prompt

if TYPE_CHECKING:
    from actlab.text.refine.judge import ServerJudge

log = logging.getLogger("actlab")

_INHERITED = ("tokenizer", "tokenizer_sha256", "method", "model")
"""What the input's metadata says of its making, which holds for what is chosen of it too."""
_HINTS = {
    "empty": "is this the right file? none of its texts says anything",
    "mojibake": "read the text again in the encoding that it was written in, save it as UTF-8, and take out control "
    "characters",
    "teacher artefact": "take away what the model says about its text, or ask it for the text alone",
    "too short": "try another --preset, or make longer documents",
    "unfinished": "let each text end a sentence, or give --preset web, which does not ask for that",
    "repetition": "make the text again with another seed, a higher temperature or another model",
    LOW_SCORE: "try another --preset, a lower --min-score, or the --prompt that the text is about",
}
"""What helps where nothing passes, by the most frequent of these reasons."""


class RefinedText(NamedTuple):
    """A refined dataset on disk."""

    path: Path
    n_documents: int
    n_tokens: int
    mean_score: float
    n_rejects: dict[str, int]
    """Documents that were not chosen, by reason."""
    n_judged: int
    """Texts that a judge gave a score."""
    n_unanswered: int
    """Texts about which it was asked and gave none."""
    auroc_against_shuffled: float | None
    """Of the score, for texts against the same words shuffled; None where an earlier version made the report."""


class _Ready(NamedTuple):
    """What a run works on; nothing is in its way."""

    output: Path
    source: Input
    counting: Counting | None
    subject: Subject
    plan: Plan
    exported: Path | None
    """Where an export goes; None where there is none."""


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
    """Choose well-formed and varied documents of a dataset, and write them with scores, rejects and a report.

    Raises:
        ConfigError: The input is not there.
        DataError: A line of it is no document, or no document passes.
        ModelError: There is no such tokenizer.
        ServerError: The judge is not there, or gives no scores.
        StorageError: Another dataset is in the way, or something else where the export goes.
    """
    ready = _ready(config)
    output = ready.output
    publish_single(output, ready.plan, lambda: _make(config, ready), overwrite=config.overwrite)
    metadata = read_sealed_object(output / METADATA)
    if ready.exported is not None:
        _export(config, output, metadata, ready.exported)
    _warn_of_too_few(config.tokens, metadata)
    shuffled = read_sealed_json(output / REPORT_NAME).get("against_shuffled", {})
    told = {key: metadata[key] for key in RefinedText._fields[1:-1]}
    return RefinedText(path=output, **told, auroc_against_shuffled=shuffled.get("auroc"))


@takes(RefineConfig)
def plan_refinement(config: RefineConfig) -> PlannedRefinement:
    """Return what `refine_text` would read and aim at, scoring nothing.

    Raises:
        ConfigError, DataError, ModelError, StorageError: As `refine_text` does.
    """
    ready = _ready(config)
    documents = read_all(ready.source, ready.counting).documents
    n_tokens = sum(document.n_tokens for document in documents)
    subject = ready.subject
    return PlannedRefinement(ready.output, len(documents), n_tokens, config.tokens, subject.prompt, subject.domain)


def _ready(config: RefineConfig) -> _Ready:
    """Find what is read, and refuse what is in the way of writing, before any work."""
    output = output_of(Path(os.path.expanduser(config.output)))
    source = find_input(Path(os.path.expanduser(config.input)))
    if source.file.parent.resolve() == output.resolve():
        raise ConfigError(f"--output {output} is the input", hint="choose another --output")
    counting = find_counting(config.tokenizer)
    subject = subject_of(config.prompt, source.metadata)
    identity = {
        **identity_of(config),
        "prompt": subject.prompt,
        "domain": subject.domain,
        "tokenizer_sha256": counting and counting.sha256,
    }
    versions = versions_of_prompt(subject.prompt) | versions_of_documents(source.file, is_judged_by_script)
    if config.judge is not None and subject.prompt is None:
        from actlab.text.refine.judge import RUBRIC_VERSION

        versions |= {"rubric": RUBRIC_VERSION}
    if versions:
        identity["versions"] = versions
    plan = Plan(KIND, identity, source.entries, SINGLE)
    refuse_others(output, plan, overwrite=config.overwrite)
    exported = None if config.export is None else export_folder(output, overwrite=config.overwrite)
    return _Ready(output, source, counting, subject, plan, exported)


def _make(config: RefineConfig, ready: _Ready) -> Made:
    source, counting, subject = ready.source, ready.counting, ready.subject
    read = read_all(source, counting)
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
        _judge(config, ready, (document.text for document in read.documents)) as judge,
        progress("refining", total=len(read.documents), unit="document", quiet=config.quiet) as tick,
    ):
        refined = refine_documents(read.documents, settings, judge=judge, tick=tick)
    _check(refined, source, judge)
    about = {
        "target": config.tokens,
        "preset": config.preset,
        "select": config.select,
        "judge": judge and judge.model,
        "judge_digest": judge and judge.digest,
        "judge_api": judge and config.judge_api,
        "prompt": subject.prompt,
        "domain": subject.domain,
        "counted_in": "words" if read.in_words else "tokens",
        **{key: source.metadata.get(key) for key in _INHERITED},
    }
    if counting is not None:
        about |= {"tokenizer": counting.name, "tokenizer_sha256": counting.sha256}
    described = report(read.documents, refined, config.near_duplicates) | {
        "against_shuffled": against_shuffled(refined.scored, settings)._asdict()
    }
    _tell_of_scripts(described)
    made = make_files(ready.plan, refined, described, about)
    return Made([*made.files, plot_file(described)], made.metadata) if config.plots else made


def _tell_of_scripts(described: dict[str, Any]) -> None:
    told = described["english_rules"]
    if told["n_not_asked"]:
        log.info(
            "%d of %d texts are not in Latin script: their score takes no account of stop words and word length",
            *(told["n_not_asked"], told["n_scored"]),
        )


def _judge(config: RefineConfig, ready: _Ready, texts: Iterable[str]) -> "AbstractContextManager[ServerJudge | None]":
    """Lend the judge that the settings name, if they name one."""
    if config.judge is None:
        return nullcontext()
    from actlab.text.refine.judge import asked

    journal = ready.output.with_name(ready.output.name + ".judge.jsonl")
    return asked(config, ready.subject.prompt, texts, journal)


def _check(refined: Refined, source: Input, judge: "ServerJudge | None") -> None:
    """Refuse a choice of nothing; tell what a judge was asked; warn of no answer.

    Raises:
        ServerError: A judge was asked and scored no text.
        DataError: No document passes.
    """
    if judge is not None:
        judge.require_some_scores(refined)
    if not refined.chosen:
        raise DataError(
            f"no document of {source.file} passes ({_counts(refined.n_rejects)})",
            hint=_HINTS[max(_HINTS, key=Counter(refined.n_rejects).__getitem__)],
        )
    if judge is not None:
        n_open = refined.n_judged + refined.n_unanswered
        log.info("the score left %d of %d texts open, about which the judge was asked", n_open, len(refined.scored))
    if refined.n_unanswered:
        log.warning(
            "the judge gave no score for %d texts: their own stands; to ask again, remove the output",
            refined.n_unanswered,
        )


def _counts(n_rejects: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in n_rejects.items() if reason != NOT_NEEDED)


def _warn_of_too_few(target: int | None, metadata: dict[str, Any]) -> None:
    """Say in each run, also where the dataset was there already, that it misses its target."""
    if target is not None and metadata["n_tokens"] < target:
        why = _counts(metadata["n_rejects"]) or "nothing rejected"
        log.warning("all that passes has %d of --tokens %d (%s)", metadata["n_tokens"], target, why)


def _export(config: RefineConfig, output: Path, metadata: dict[str, Any], folder: Path) -> None:
    documents = list(read_documents(output))
    export_text2gpt(folder, documents, _facts(config, documents, metadata), datetime.now(UTC))
    log.info("%s: dataset.json and dataset.txt as text2gpt has them", folder)


def _facts(config: RefineConfig, documents: Sequence[Document], metadata: dict[str, Any]) -> Text2GptFacts:
    sources = {document.source for document in documents}
    model = metadata.get("model")
    return Text2GptFacts(
        tokenizer=str(metadata["tokenizer"] or metadata["counted_in"]),
        prompt=metadata["prompt"] or "",
        domain=metadata["domain"] or "general",
        generation_method="+".join(sorted(sources)),
        generation_model=model if isinstance(model, str) else None,
        refinement_model=config.judge,
        ollama_used="ollama" in sources,
        quality_threshold=config.min_score,
    )
