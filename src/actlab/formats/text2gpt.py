"""text2gpt's files: `dataset.json` and `dataset.txt`, for programs that read these.

They carry the time at which they were made, so the same documents do not give the same bytes.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from actlab.formats.documents import Document
from actlab.ground.storage import write_file

JSON_NAME, TXT_NAME = "dataset.json", "dataset.txt"


@dataclass(frozen=True, kw_only=True)
class Text2GptFacts:
    """What `metadata` says besides the counts and the time."""

    tokenizer: str
    prompt: str
    domain: str
    generation_method: str
    """"template" or "ollama"."""
    generation_model: str | None
    """None where no model wrote the text."""
    refinement_model: str | None
    ollama_used: bool
    quality_threshold: float


def export_text2gpt(folder: Path, documents: Sequence[Document], facts: Text2GptFacts, made_at: datetime) -> None:
    """Write both files into a folder, which is made where it is not there.

    Raises:
        StorageError: The system refuses.
    """
    content = {
        "metadata": _metadata(documents, facts, made_at),
        "samples": [{"text": document.text, "tokens": document.n_tokens} for document in documents],
    }
    data = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_file(folder / JSON_NAME, data.encode())
    write_file(folder / TXT_NAME, "".join(_samples(documents)).encode())


def _metadata(documents: Sequence[Document], facts: Text2GptFacts, made_at: datetime) -> dict[str, object]:
    n_tokens = sum(document.n_tokens for document in documents)
    return {
        "total_samples": len(documents),
        "total_tokens": n_tokens,
        "average_tokens_per_sample": n_tokens / len(documents) if documents else 0.0,
        "creation_date": made_at.isoformat(timespec="seconds"),
        **asdict(facts),
    }


def _samples(documents: Iterable[Document]) -> Iterable[str]:
    for number, document in enumerate(documents, start=1):
        yield f"=== Sample {number} ===\n{document.text}\n\n"
