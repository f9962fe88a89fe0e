"""The whole of refinement as a function: documents in, the chosen ones, the scores and the rejects out."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from actlab.formats.documents import Document
from actlab.ground.errors import ConfigError
from actlab.text.near_duplicates import near_duplicates
from actlab.text.refine.compute.gates import failed_gate
from actlab.text.refine.compute.score import Parts, parts_of, score_of, with_judge
from actlab.text.refine.compute.select import ORDERS, shortest_prefix
from actlab.text.refine.gates import GATES
from actlab.text.refine.subject import Topic
from actlab.text.refine.table import PRESETS, UNCERTAIN
from actlab.text.words import text_hash

EXACT, LOW_SCORE, NEAR, NOT_NEEDED = "exact duplicate", "low score", "near duplicate", "target reached"

Judge = Callable[[str], float | None]
"""Says of a text how good it is, from 0 to 1, or None where it has no answer."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides which documents are chosen."""

    tokens: int | None = None
    preset: Literal["short", "story", "web"] = "short"
    gates: tuple[str, ...] = ()
    """Those to ask besides actlab's."""
    select: Literal["greedy", "top"] = "greedy"
    min_score: float = 0.5
    near_duplicates: float = 0.7
    context: int = 256
    topic: Topic = field(default_factory=Topic)


def reasons() -> tuple[str, ...]:
    """Return why a document may not be chosen, in the order in which it is asked."""
    return (EXACT, *GATES.names, LOW_SCORE, NEAR, NOT_NEEDED)


class Scored(NamedTuple):
    """A document with its score."""

    document: Document
    hash: str
    """Of its text's normal form."""
    score: float
    parts: Parts
    judged: float | None
    """What a judge gave, where one was asked and answered."""


class Reject(NamedTuple):
    """A document that was not chosen."""

    document: Document
    hash: str
    reason: str
    detail: str


class Refined(NamedTuple):
    """What came of the documents: each is chosen or a reject."""

    chosen: list[Scored]
    """In the order in which they were taken: its beginnings are the choices for smaller targets."""
    scored: list[Scored]
    """All that passed the gates, best first."""
    rejects: list[Reject]
    """By the hash of their text."""
    n_unanswered: int
    """Texts that a judge was asked about and gave no score: their own score stands."""

    @property
    def n_judged(self) -> int:
        """Return of how many texts a judge gave a score."""
        return sum(one.judged is not None for one in self.scored)

    @property
    def n_rejects(self) -> dict[str, int]:
        """Return how many were rejected, by reason, of the reasons that occur."""
        counts = Counter(reject.reason for reject in self.rejects)
        return {reason: counts[reason] for reason in reasons() if counts[reason]}


def refine_documents(
    documents: Iterable[Document],
    settings: Settings,
    judge: Judge | None = None,
    tick: Callable[[int], object] = lambda more: None,
) -> Refined:
    """Reject, score and choose documents; `tick` is told of each that has been looked at.

    Nothing depends on the order of the documents, nor on how often one is there: a text goes by the hash of its
    normal form. A judge is asked only where the score leaves it open, and after all else.

    Raises:
        ConfigError: Unknown preset or order, which the settings' types rule out.
    """
    if settings.preset not in PRESETS or settings.select not in ORDERS:
        raise ConfigError(f"there is no {settings.preset}/{settings.select}", hint="see actlab refine-text --help")
    first, rejects = _distinct(documents, tick)
    scored: list[Scored] = []
    for hash_, document in first.items():
        failed = failed_gate(document, PRESETS[settings.preset], settings.gates)
        if failed is None:
            scored.append(_scored(document, hash_, settings))
        else:
            rejects.append(Reject(document, hash_, *failed))
        tick(1)
    scored, n_unanswered = _judged(scored, judge)
    scored.sort(key=lambda one: (-one.score, one.hash))
    passing = _without_poor(scored, settings.min_score, rejects)
    passing = _without_near(passing, settings.near_duplicates, rejects)
    order = ORDERS[settings.select]([one.document.text for one in passing], [one.score for one in passing])
    places = shortest_prefix(order, [one.document.n_tokens for one in passing], settings.tokens)
    taken = set(places)
    for place, one in enumerate(passing):
        if place not in taken:
            rejects.append(Reject(one.document, one.hash, NOT_NEEDED, f"score {one.score:.3f}"))
    rejects.sort(key=lambda reject: (reject.hash, _precedence(reject.document)))
    return Refined([passing[place] for place in places], scored, rejects, n_unanswered)


def _distinct(documents: Iterable[Document], tick: Callable[[int], object]) -> tuple[dict[str, Document], list[Reject]]:
    """Return one document for each normal form, in the order of their hashes, and the others as rejects."""
    first: dict[str, Document] = {}
    copies: list[tuple[str, Document]] = []
    for document in documents:
        hash_ = text_hash(document.text)
        there = first.get(hash_)
        if there is None:
            first[hash_] = document
            continue
        original, copy = sorted((there, document), key=_precedence)
        first[hash_] = original
        copies.append((hash_, copy))
        tick(1)
    rejects = [Reject(copy, hash_, EXACT, f"of {first[hash_].id}") for hash_, copy in copies]
    return dict(sorted(first.items())), rejects


def _precedence(document: Document) -> tuple[str, int, str, str]:
    """Say which of several documents of one text is the original: the text decides, then the id, 9 before 10."""
    rest = json.dumps([document.source, document.n_tokens, document.labels], sort_keys=True, default=str)
    return document.text, len(document.id), document.id, rest


def _scored(document: Document, hash_: str, settings: Settings) -> Scored:
    preset = PRESETS[settings.preset]
    parts = parts_of(document.text, document.n_tokens, preset, settings.context, settings.topic)
    return Scored(document, hash_, score_of(parts), parts, None)


def _judged(scored: Sequence[Scored], judge: Judge | None) -> tuple[list[Scored], int]:
    """Return the documents with the judge's say where the score leaves it open, and how often it gave no answer."""
    judged, n_unanswered = list(scored), 0
    if judge is None:
        return judged, 0
    low, high = UNCERTAIN
    for place, one in enumerate(scored):
        if not low < one.score < high:
            continue
        said = judge(one.document.text)
        if said is None:
            n_unanswered += 1
        else:
            judged[place] = one._replace(score=with_judge(one.score, said), judged=said)
    return judged, n_unanswered


def _without_poor(scored: Sequence[Scored], min_score: float, rejects: list[Reject]) -> list[Scored]:
    kept = []
    for one in scored:
        if one.score >= min_score:
            kept.append(one)
            continue
        weakest, value = min(one.parts._asdict().items(), key=lambda part: part[1])
        rejects.append(
            Reject(one.document, one.hash, LOW_SCORE, f"{one.score:.3f}; its weakest part is {weakest}, {value:.2f}")
        )
    return kept


def _without_near(scored: Sequence[Scored], threshold: float, rejects: list[Reject]) -> list[Scored]:
    """Keep of near-duplicates the best."""
    kept = []
    for one, match in zip(scored, near_duplicates([one.document.text for one in scored], threshold), strict=True):
        if match is None:
            kept.append(one)
            continue
        detail = f"{match.overlap:.2f} of {scored[match.original].document.id}"
        rejects.append(Reject(one.document, one.hash, NEAR, detail))
    return kept
