"""text2gpt's files: `dataset.json` and `dataset.txt`, for programs that read these.

They carry the time at which they were made, so the same documents do not give the same bytes.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

from actlab.formats.documents import read_documents
from actlab.ground.errors import StorageError
from actlab.ground.integrity import read_sealed_as
from actlab.ground.log import log
from actlab.ground.manifest import METADATA
from actlab.ground.storage import refuse_inside_dataset, storage_errors, write_file
from actlab.ground.temporary import TEMPORARY

JSON_NAME, TXT_NAME = "dataset.json", "dataset.txt"
_BEGINNINGS = {JSON_NAME: b'{\n  "metadata": {\n    "total_samples": ', TXT_NAME: b"=== Sample 1 ===\n"}
"""How an export's files begin: what is replaced has to be one."""


class _Described(TypedDict):
    """What a dataset of documents says of itself in its metadata."""

    tokenizer: object
    counted_in: NotRequired[str]
    prompt: str | None
    domain: str | None
    model: object
    """What wrote the text; None where no model did."""


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
    with storage_errors(folder):
        there = sorted(folder.iterdir()) if folder.exists() else []
        foreign = [path.name for path in there if not _is_exported(path)]
    if refused := [name for name in foreign if name in _BEGINNINGS or not overwrite]:
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


def export_dataset(
    output: Path, *, overwrite: bool, refinement_model: str | None = None, quality_threshold: float = 0.0
) -> None:
    """Write both files of a dataset of documents into its `export_folder`, which is made where it is not there.

    Raises:
        StorageError: The folder is not free, or the system refuses.
    """
    folder = export_folder(output, overwrite=overwrite)
    described = read_sealed_as(output / METADATA, _Described)
    documents = list(read_documents(output))
    n_tokens = sum(document.n_tokens for document in documents)
    sources = {document.source for document in documents}
    metadata = {
        "total_samples": len(documents),
        "total_tokens": n_tokens,
        "average_tokens_per_sample": n_tokens / len(documents) if documents else 0.0,
        "creation_date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tokenizer": str(described["tokenizer"] or described.get("counted_in")),
        "prompt": described["prompt"] or "",
        "domain": described["domain"] or "general",
        "generation_method": "+".join(sorted(sources)),
        "generation_model": described["model"] if isinstance(described["model"], str) else None,
        "refinement_model": refinement_model,
        "ollama_used": "ollama" in sources,
        "quality_threshold": quality_threshold,
    }
    samples = [{"text": document.text, "tokens": document.n_tokens} for document in documents]
    data = json.dumps({"metadata": metadata, "samples": samples}, indent=2, ensure_ascii=False) + "\n"
    texts = [f"=== Sample {number} ===\n{document.text}\n\n" for number, document in enumerate(documents, start=1)]
    write_file(folder / JSON_NAME, data.encode())
    write_file(folder / TXT_NAME, "".join(texts).encode())
    log.info("%s: dataset.json and dataset.txt as text2gpt has them", folder)
