"""What a refined dataset's folder holds."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NotRequired, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from actlab.formats.documents import FILE_NAME, Document, document_line
from actlab.ground.manifest import to_json
from actlab.ground.scripts import is_latin
from actlab.ground.storage import NewFile
from actlab.text.refine.compute.figures import Coverage, Figures, Opening, figures, label_coverage, openings
from actlab.text.refine.compute.score import Parts
from actlab.text.refine.compute.shuffled import against_shuffled
from actlab.text.refine.compute.verdicts import Refined, Reject, Scored, Settings

QUALITY_NAME, REJECTS_NAME, REPORT_NAME = "quality.parquet", "rejects.jsonl", "report.json"
QUALITY = pa.schema(
    [
        ("id", pa.string()),
        ("hash", pa.string()),
        ("score", pa.float64()),
        *((name, pa.float64()) for name in Parts._fields),
        ("judged", pa.float64()),
        ("rank", pa.int64()),
    ]
)
"""One row a document that passed the gates, best first; `rank` is its line in documents.jsonl, or null."""
_BINS = 20


class Summary(TypedDict):
    """What `metadata.json` says of the choice."""

    n_documents: int
    n_tokens: int
    mean_score: float
    n_rejects: dict[str, int]
    n_judged: int
    n_unanswered: int


class TestedScore(TypedDict):
    """What a report says of the score itself."""

    against_shuffled: NotRequired[dict[str, float | None]]
    """`auroc`, of `n_documents`; an earlier version did not tell."""


class Histogram(TypedDict):
    """How often each score occurs, in bins of equal width."""

    bin_width: float
    scored: list[int]
    chosen: list[int]
    mean_scored: float | None
    mean_chosen: float | None


class Report(TypedDict):
    """What `report.json` says."""

    rejects: dict[str, int]
    scores: Histogram
    parts: dict[str, dict[str, float | None]]
    before: Figures
    after: Figures
    openings: list[Opening]
    most_frequent_opening_before: list[Opening]
    labels: dict[str, Coverage]
    n_unanswered: int
    english_rules: dict[str, int]
    against_shuffled: dict[str, float | None]


def refined_files(refined: Refined, described: Report) -> list[NewFile]:
    """Return the files of a refined dataset but for its plots."""
    documents = [one.document for one in refined.chosen]
    return [
        NewFile(FILE_NAME, b"".join(map(document_line, documents)), len(documents)),
        NewFile(QUALITY_NAME, partial(pq.write_table, _quality(refined)), len(refined.scored)),
        NewFile(REJECTS_NAME, b"".join(map(_reject_line, refined.rejects)), len(refined.rejects)),
        NewFile(REPORT_NAME, to_json(described)),
    ]


def summary(refined: Refined) -> Summary:
    """Return what metadata says of a choice of some documents."""
    return {
        "n_documents": len(refined.chosen),
        "n_tokens": sum(one.document.n_tokens for one in refined.chosen),
        "mean_score": _mean(one.score for one in refined.chosen) or 0.0,
        "n_rejects": refined.n_rejects,
        "n_judged": refined.n_judged,
        "n_unanswered": refined.n_unanswered,
    }


def report(before: Sequence[Document], refined: Refined, settings: Settings) -> Report:
    """Return the report: figures before and after, rejects by reason, scores, coverage of labels."""
    after = [one.document for one in refined.chosen]
    return {
        "rejects": refined.n_rejects,
        "scores": {
            "bin_width": 1 / _BINS,
            "scored": _histogram(refined.scored),
            "chosen": _histogram(refined.chosen),
            "mean_scored": _mean(one.score for one in refined.scored),
            "mean_chosen": _mean(one.score for one in refined.chosen),
        },
        "parts": {
            name: {
                "scored": _mean(getattr(one.parts, name) for one in refined.scored),
                "chosen": _mean(getattr(one.parts, name) for one in refined.chosen),
            }
            for name in Parts._fields
        },
        "before": figures(before, settings.near_duplicates),
        "after": figures(after, settings.near_duplicates),
        "openings": openings(after, before),
        "most_frequent_opening_before": openings(before, before)[:1],
        "labels": label_coverage(before, after),
        "n_unanswered": refined.n_unanswered,
        "english_rules": {
            "n_scored": len(refined.scored),
            "n_not_asked": sum(not is_latin(one.document.text) for one in refined.scored),
        },
        "against_shuffled": against_shuffled(refined.scored, settings)._asdict(),
    }


def _quality(refined: Refined) -> pa.Table:
    rank = {one.hash: number for number, one in enumerate(refined.chosen, start=1)}
    return pa.Table.from_pylist(
        [
            {
                "id": one.document.id,
                "hash": one.hash,
                "score": one.score,
                **one.parts._asdict(),
                "judged": one.judged,
                "rank": rank.get(one.hash),
            }
            for one in refined.scored
        ],
        QUALITY,
    )


def _reject_line(reject: Reject) -> bytes:
    row = {"id": reject.document.id, "hash": reject.hash, "reason": reject.reason, "detail": reject.detail}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _histogram(scored: Iterable[Scored]) -> list[int]:
    counts = Counter(min(int(one.score * _BINS), _BINS - 1) for one in scored)
    return [counts[place] for place in range(_BINS)]


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(sum(listed) / len(listed), 6) if listed else None
