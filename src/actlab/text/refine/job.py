"""`actlab refine-text` on one screen: read, reject, score, choose, publish with a report."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

from actlab.formats.documents import KIND
from actlab.formats.text2gpt import export_dataset, export_folder
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.integrity import read_sealed_as
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, Worker, run_job
from actlab.ground.log import log
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More
from actlab.ground.storage import FORMAT_VERSION, SINGLE, Plan, output_of
from actlab.ground.variants import plugins_identity
from actlab.text import kind  # noqa: F401  registers the kind
from actlab.text.domains import DOMAINS
from actlab.text.refine.compute.score import is_judged_by_script
from actlab.text.refine.compute.verdicts import LOW_SCORE, NOT_NEEDED, Refined, Settings, refine_documents
from actlab.text.refine.config import RefineConfig
from actlab.text.refine.gates import GATES
from actlab.text.refine.judge import RUBRIC_VERSION, ServerJudge, asked
from actlab.text.refine.plots import plot_file
from actlab.text.refine.sink import REPORT_NAME, Summary, TestedScore, refined_files, report, summary
from actlab.text.refine.source import Read, find_counting, find_input, read_all
from actlab.text.refine.subject import subject_of
from actlab.text.words import versions_of_documents, versions_of_prompt

_INHERITED = ("tokenizer", "tokenizer_sha256", "method", "model")
"""What the input's metadata says of its making, which holds for what is chosen of it too."""


@dataclass(frozen=True, kw_only=True)
class RefinedText(Outcome):
    """A refined dataset on disk."""

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

    @property
    def falls_short(self) -> bool:
        """Whether a judge scored only a part of what it was asked about."""
        return self.n_unanswered > 0

    def tell(self) -> None:
        """Log what was chosen, how well the score knows texts, and what a judge left out."""
        rejected = ", ".join(f"{reason} {count}" for reason, count in self.n_rejects.items()) or "none"
        log.info(
            "%d documents, %d tokens, mean score %.3f; not chosen: %s",
            *(self.n_documents, self.n_tokens, self.mean_score, rejected),
        )
        if self.auroc_against_shuffled is not None:
            log.info(
                "the score checks form, not sense: its AUROC against the same words shuffled is %.2f "
                "(0.5 tells nothing)",
                self.auroc_against_shuffled,
            )
        if self.n_unanswered:
            log.warning(
                "%s: %d of %d texts scored by the judge, %d by their own score alone",
                *(self.path, self.n_judged, self.n_judged + self.n_unanswered, self.n_unanswered),
            )


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
    return run_job(jobs_of(config))


def jobs_of(config: RefineConfig) -> Iterator[list["RefineJob"]]:
    """Yield the one job: documents of a dataset, to be chosen."""
    yield [RefineJob(config)]


class RefineJob(DatasetJob[RefinedText]):
    """The documents of a dataset, to be chosen."""

    config: RefineConfig

    def __init__(self, config: RefineConfig) -> None:
        super().__init__(config, output_of(config.output))
        self.source = find_input(config.input)
        if self.source.file.parent.resolve() == self.output.resolve():
            raise ConfigError(f"--output {self.output} is the input", hint="choose another --output")
        self.counting = find_counting(config.tokenizer)
        self.subject = subject_of(config.prompt, self.source.metadata)

    @cached_property
    def plan(self) -> Plan:
        """All that decides the dataset's bytes."""
        prompt = self.subject.prompt
        identity = identity_of(self.config) | {
            "prompt": prompt,
            "domain": self.subject.domain,
            "tokenizer_sha256": self.counting and self.counting.sha256,
        }
        versions = versions_of_prompt(prompt) | versions_of_documents(self.source.file, is_judged_by_script)
        if self.config.judge is not None and prompt is None:
            versions |= {"rubric": RUBRIC_VERSION}
        identity |= {"versions": versions} if versions else {}
        used = DOMAINS.plugins_of(filter(None, [self.subject.domain]))
        return Plan(KIND, identity | plugins_identity(identity.get("plugins"), used), self.source.entries, SINGLE)

    @cached_property
    def read(self) -> Read:
        """The documents, in memory."""
        return read_all(self.source, self.counting)

    def refuse(self) -> None:
        """Refuse what is in the way of the dataset, or of its export."""
        super().refuse()
        if self.config.export is not None:
            export_folder(self.output, overwrite=self.config.overwrite)

    def bar(self, units: object) -> Bar:
        """Count documents."""
        return Bar("refining", "document", len(self.read.documents))

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """Lend the worker that refines, with the judge that the settings name, if they name one."""
        texts = (document.text for document in self.read.documents)
        journal = self.output.with_name(self.output.name + ".judge.jsonl")
        with asked(self.config, self.subject.prompt, texts, journal) as judge:
            yield partial(self.refine, judge)

    def refine(self, judge: ServerJudge | None, _number: int, more: More) -> Done:
        """Choose documents, and return the files that say so."""
        config, documents = self.config, self.read.documents
        settings = Settings(
            tokens=config.tokens,
            preset=config.preset,
            gates=config.gate,
            select=config.select,
            min_score=config.min_score,
            near_duplicates=config.near_duplicates,
            context=config.context,
            topic=self.subject.topic,
        )
        refined = refine_documents(documents, settings, judge=judge, tick=more)
        self._check(refined, judge)
        described = report(documents, refined, settings)
        if n_not_asked := described["english_rules"]["n_not_asked"]:
            log.info(
                "%d of %d texts are not in Latin script: their score takes no account of stop words and word length",
                *(n_not_asked, len(refined.scored)),
            )
        metadata = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "fingerprint": self.plan.fingerprint,
            **summary(refined),
            "target": config.tokens,
            "preset": config.preset,
            "select": config.select,
            "judge": judge and judge.model,
            "judge_digest": judge and judge.digest,
            "judge_api": judge and config.judge_api,
            "prompt": self.subject.prompt,
            "domain": self.subject.domain,
            "counted_in": "words" if self.read.in_words else "tokens",
            **{key: self.source.metadata.get(key) for key in _INHERITED},
        }
        if self.counting is not None:
            metadata |= {"tokenizer": self.counting.name, "tokenizer_sha256": self.counting.sha256}
        plots = [plot_file(described)] if config.plots else []
        return Done([*refined_files(refined, described), *plots], {"metadata": metadata})

    def _check(self, refined: Refined, judge: ServerJudge | None) -> None:
        """Refuse a choice of nothing; tell what a judge was asked; warn of no answer.

        Raises:
            ServerError: A judge was asked and scored no text.
            DataError: No document passes.
        """
        if judge is not None:
            judge.require_some_scores(refined)
            log.info(
                "the score left %d of %d texts open, about which the judge was asked",
                *(refined.n_judged + refined.n_unanswered, len(refined.scored)),
            )
        if not refined.chosen:
            hints = {one.name: one.hint for one in GATES} | {LOW_SCORE: _LOW_SCORE_HINT}
            raise DataError(
                f"no document of {self.source.file} passes ({_counts(refined.n_rejects)})",
                hint=hints[max(hints, key=Counter(refined.n_rejects).__getitem__)],
            )
        if refined.n_unanswered:
            log.warning(
                "the judge gave no score for %d texts: their own stands; to ask again, remove the output",
                refined.n_unanswered,
            )

    def after(self) -> None:
        """Export where that is asked for; say in each run that a dataset misses its target."""
        config, made = self.config, self.outcome()
        if config.export is not None:
            export_dataset(
                self.output,
                overwrite=config.overwrite,
                refinement_model=config.judge,
                quality_threshold=config.min_score,
            )
        if config.tokens is not None and made.n_tokens < config.tokens:
            why = _counts(made.n_rejects) or "nothing rejected"
            log.warning("all that passes has %d of --tokens %d (%s)", made.n_tokens, config.tokens, why)

    def outcome(self) -> RefinedText:
        """Return what is in the dataset, by its metadata and its report."""
        made = read_sealed_as(self.output / METADATA, Summary)
        tested = read_sealed_as(self.output / REPORT_NAME, TestedScore).get("against_shuffled", {})
        return RefinedText(
            path=self.output,
            n_documents=made["n_documents"],
            n_tokens=made["n_tokens"],
            mean_score=made["mean_score"],
            n_rejects=made["n_rejects"],
            n_judged=made["n_judged"],
            n_unanswered=made["n_unanswered"],
            auroc_against_shuffled=tested.get("auroc"),
        )

    def cost(self) -> Cost:
        """Read and count the documents, scoring none."""
        documents, subject, target = self.read.documents, self.subject, self.config.tokens
        about = {"target": target, "prompt": subject.prompt, "domain": subject.domain}
        return Cost(
            path=self.output,
            n_records=len(documents),
            records="documents",
            n_tokens=sum(document.n_tokens for document in documents),
            notes=(f"to choose: {target or 'all that pass'}", f"about {subject.prompt!r} ({subject.domain})"),
            details={"n_documents": len(documents), **about},
        )


_LOW_SCORE_HINT = "try another --preset, a lower --min-score, or the --prompt that the text is about"


def _counts(n_rejects: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in n_rejects.items() if reason != NOT_NEEDED)
