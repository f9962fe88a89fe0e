"""text2gpt's files: `dataset.json` and `dataset.txt`, for programs that read these.

They carry the time at which they were made, so the same documents do not give the same bytes.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

from actlab.formats.documents import Document, read_documents
from actlab.ground.errors import StorageError
from actlab.ground.integrity import read_sealed_as
from actlab.ground.manifest import METADATA
from actlab.ground.storage import refuse_inside_dataset, storage_errors, write_file
from actlab.ground.temporary import TEMPORARY

log = logging.getLogger("actlab")

JSON_NAME, TXT_NAME = "dataset.json", "dataset.txt"
_BEGINNINGS = {JSON_NAME: b'{\n  "metadata": {\n    "total_samples": ', TXT_NAME: b"=== Sample 1 ===\n"}
"""How an export's files begin: what is replaced has to be one."""


@dataclass(frozen=True, kw_only=True)
class Text2GptFacts:
    """What `metadata` says besides the counts and the time."""

    tokenizer: str
    prompt: str
    domain: str
    generation_method: str
    """What made the documents: "template", "ollama", "openai", "file", or several of them with "+" between."""
    generation_model: str | None
    """None where no model wrote the text."""
    refinement_model: str | None
    ollama_used: bool
    quality_threshold: float


class _Metadata(TypedDict):
    """What is read of a dataset's `metadata.json`; what is null was not known when it was made."""

    tokenizer: str | None
    counted_in: NotRequired[str]
    prompt: str | None
    domain: str | None
    model: object


def export_dataset(
    output: Path, *, overwrite: bool, refinement_model: str | None = None, quality_threshold: float = 0.0
) -> None:
    """Write both files for a dataset of text, beside it.

    Raises:
        StorageError: As `export_folder`, or the system refuses.
    """
    folder = export_folder(output, overwrite=overwrite)
    there = read_sealed_as(output / METADATA, _Metadata)
    documents = list(read_documents(output))
    sources = {document.source for document in documents}
    facts = Text2GptFacts(
        tokenizer=there["tokenizer"] or there["counted_in"],
        prompt=there["prompt"] or "",
        domain=there["domain"] or "general",
        generation_method="+".join(sorted(sources)),
        generation_model=there["model"] if isinstance(there["model"], str) else None,
        refinement_model=refinement_model,
        ollama_used="ollama" in sources,
        quality_threshold=quality_threshold,
    )
    export_text2gpt(folder, documents, facts, datetime.now(UTC))
    log.info("text2gpt's files: %s", folder)


def export_folder(output: Path, *, overwrite: bool) -> Path:
    """Return where the files of a dataset go: `<output>-text2gpt`, which is free, or holds an earlier export.

    Raises:
        StorageError: It holds something else and `overwrite` is not given, or something else by the name of an
            export's file; or it is a dataset, or no folder.
    """
    folder = output.with_name(output.name + "-text2gpt")
    refuse_inside_dataset(folder / JSON_NAME)
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, where an export's folder goes", hint="move it away")
    if not folder.exists():
        return folder
    with storage_errors(folder):
        foreign = [path.name for path in sorted(folder.iterdir()) if not _is_exported(path)]
    refused = [name for name in foreign if name in _BEGINNINGS or not overwrite]
    if refused:
        is_replaced = refused[0] in _BEGINNINGS  # which --overwrite does with actlab's own files alone
        raise StorageError(
            f"{folder / refused[0]} is no file of an export",
            hint="move it away" + ("" if is_replaced else ", or give --overwrite to write there"),
        )
    return folder


def _is_exported(path: Path) -> bool:
    if path.name.startswith(TEMPORARY):
        return True  # left by a stop
    beginning = _BEGINNINGS.get(path.name)
    if beginning is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def export_text2gpt(folder: Path, documents: Sequence[Document], facts: Text2GptFacts, made_at: datetime) -> None:
    """Write both files into an `export_folder`, which is made where it is not there.

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
