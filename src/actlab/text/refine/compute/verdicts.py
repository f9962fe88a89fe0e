"""The whole of refinement as a function: documents in, the chosen ones, the scores and the rejects out."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from actlab.formats.documents import Document
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


class Reject(NamedTuple):
    """A document that was not chosen."""

    document: Document
    hash: str
    reason: str
    detail: str


class Scored(NamedTuple):
    """A document with its score."""

    document: Document
    hash: str
    """Of its text's normal form."""
    score: float
    parts: Parts
    judged: float | None
    """What a judge gave, where one was asked and answered."""

    def rejected(self, reason: str, detail: str) -> Reject:
        """Return it as a document that was not chosen after all."""
        return Reject(self.document, self.hash, reason, detail)


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
    """
    first, rejects = _distinct(documents)
    tick(len(rejects))
    preset = PRESETS[settings.preset]
    scored: list[Scored] = []
    for hash_, document in first.items():
        if failed := failed_gate(document, preset, settings.gates):
            rejects.append(Reject(document, hash_, *failed))
        else:
            parts = parts_of(document.text, document.n_tokens, preset, settings.context, settings.topic)
            scored.append(Scored(document, hash_, score_of(parts), parts, None))
        tick(1)
    scored, n_unanswered = _judged(scored, judge)
    scored.sort(key=lambda one: (-one.score, one.hash))
    good = [one for one in scored if one.score >= settings.min_score]
    rejects += [one.rejected(LOW_SCORE, _weakness(one)) for one in scored if one.score < settings.min_score]
    matches = near_duplicates([one.document.text for one in good], settings.near_duplicates)
    passing = [one for one, match in zip(good, matches, strict=True) if match is None]
    rejects += [
        one.rejected(NEAR, f"{match.overlap:.2f} of {good[match.original].document.id}")
        for one, match in zip(good, matches, strict=True)
        if match is not None
    ]
    order = ORDERS[settings.select]([one.document.text for one in passing], [one.score for one in passing])
    places = shortest_prefix(order, [one.document.n_tokens for one in passing], settings.tokens)
    left = sorted(set(range(len(passing))) - set(places))
    rejects += [passing[place].rejected(NOT_NEEDED, f"score {passing[place].score:.3f}") for place in left]
    rejects.sort(key=lambda reject: (reject.hash, _precedence(reject.document)))
    return Refined([passing[place] for place in places], scored, rejects, n_unanswered)


def _distinct(documents: Iterable[Document]) -> tuple[dict[str, Document], list[Reject]]:
    """Return one document for each normal form, in the order of their hashes, and the others as rejects."""
    alike: defaultdict[str, list[Document]] = defaultdict(list)
    for document in documents:
        alike[text_hash(document.text)].append(document)
    first = {hash_: min(alike[hash_], key=_precedence) for hash_ in sorted(alike)}
    rejects = [
        Reject(copy, hash_, EXACT, f"of {first[hash_].id}")
        for hash_, copies in alike.items()
        for copy in sorted(copies, key=_precedence)[1:]
    ]
    return first, rejects


def _precedence(document: Document) -> tuple[str, int, str, str]:
    """Say which of several documents of one text is the original: the text decides, then the id, 9 before 10."""
    rest = json.dumps([document.source, document.n_tokens, document.labels], sort_keys=True, default=str)
    return document.text, len(document.id), document.id, rest


def _judged(scored: Sequence[Scored], judge: Judge | None) -> tuple[list[Scored], int]:
    """Return the documents with the judge's say where the score leaves it open, and how often it gave no answer."""
    low, high = UNCERTAIN
    said = {one.hash: judge(one.document.text) for one in scored if judge is not None and low < one.score < high}
    judged = [
        one._replace(score=with_judge(one.score, value), judged=value)
        if (value := said.get(one.hash)) is not None
        else one
        for one in scored
    ]
    return judged, sum(value is None for value in said.values())


def _weakness(one: Scored) -> str:
    weakest, value = min(one.parts._asdict().items(), key=lambda part: part[1])
    return f"{one.score:.3f}; its weakest part is {weakest}, {value:.2f}"
