"""What is divided: sentences with their labels and texts, from a folder, a classifier dataset, a CSV or documents."""

# i sentence

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actlab.features.split.config import SplitConfig
from actlab.formats.classifier import load_dataset
from actlab.formats.documents import FILE_NAME as DOCUMENTS
from actlab.formats.documents import find_documents, read_documents
from actlab.formats.sentences.folder import load_all_sentences
from actlab.formats.tables import label_of, labels_hint, read_labels, read_table
from actlab.ground.errors import ConfigError, DataError, did_you_mean
from actlab.ground.limits import LONG_LINE, refuse_pipe
from actlab.ground.log import log
from actlab.ground.manifest import InputEntry, file_entry


@dataclass(frozen=True)
class Items:
    """The sentences, ascending by index."""

    indices: Sequence[int]
    labels: Sequence[float] | None
    """None where the input has none that divide sentences into classes."""
    texts: Sequence[str] | None
    """Empty for a sentence without one; None where no sentence has any."""
    values: Sequence[str] | None
    """Of the column that chooses the test, where one does."""
    together: Sequence[Hashable] | None
    """What must stay together, whatever the texts: equal values are one group. None where nothing says."""
    n_dropped: int
    """Files or lines that were left out."""
    input: InputEntry
    """Name of the input, and what says that it is the same one."""
    has_text_groups: bool = False
    """Whether `together` already holds near-equal texts."""

    @property
    def texts_told(self) -> dict[int, str]:
        """The sentences' texts by index, those that have one."""
        return {index: text for index, text in zip(self.indices, self.texts or (), strict=False) if text}

    @property
    def stratified_by(self) -> str:
        """What keeps its shares on every side."""
        if self.labels is None:
            return "nothing"
        return "label" if all(float(label).is_integer() for label in self.labels) else "quantiles of the label"


def read_items(config: SplitConfig) -> Items:
    """Read what is needed of the input, by what it is.

    Raises:
        ConfigError: It is not there, is of no kind that is divided, or has no such column.
        DataError: It is damaged.
    """
    path = config.input
    is_csv = path.suffix.lower() in (".csv", ".tsv")
    is_documents = path.suffix.lower() == ".jsonl" or (path / DOCUMENTS).is_file()
    if config.by_column is not None and not is_csv:
        raise ConfigError("--by-column needs a CSV, whose columns it names", hint=f"{path} is none")
    if config.group_column is not None and not (is_csv or is_documents):
        raise ConfigError("--group-column needs a CSV or documents.jsonl, which have columns", hint=f"{path} is none")
    if path.is_dir() and not is_documents:
        return _from_folder(path)
    if not (path.is_dir() or path.is_file()):
        refuse_pipe(path)
        raise ConfigError(
            f"there is no input {path}", hint="give a folder of sentence_*.npz, an NPZ, a CSV, or a documents.jsonl"
        )
    if is_csv:
        return _from_csv(path, config)
    if is_documents:
        return _from_documents(path, config)
    if path.suffix.lower() in (".npz", ".parquet"):
        return _from_dataset(path)
    raise ConfigError(
        f"{path} is no folder, NPZ, Parquet file, CSV or documents.jsonl", hint="its name's ending says what it is"
    )


def _from_folder(path: Path) -> Items:
    folder = load_all_sentences(path)
    texts: dict[int, str] = {}
    labels: dict[int, float] = {}
    for sentence in sorted(folder, key=lambda sentence: sentence.facts.index):
        index = sentence.facts.index
        try:
            if index < 0:
                raise DataError(f"{sentence.path} has the index {index}", hint="indices count from 0")
            texts[index] = sentence.text
        except DataError as error:
            log.warning("left out: %s", error)
        else:
            labels[index] = sentence.facts.label
    return Items(
        indices=list(texts),
        labels=list(labels.values()),
        texts=list(texts.values()) if any(texts.values()) else None,
        values=None,
        together=None,
        n_dropped=len(folder.lost) + len(folder) - len(texts),
        input=folder.as_input(),
    )


def _from_dataset(path: Path) -> Items:
    dataset = load_dataset(path)
    indices, first = np.unique(dataset.sentence_indices, return_index=True)
    if indices.dtype.kind not in "iu" or (indices < 0).any():
        raise DataError(f"{path}: its sentence indices are no such numbers", hint="make it anew: generate-datasets")
    is_class = dataset.y.ndim == 1 and dataset.y.dtype.kind in "iu"
    return Items(
        indices=indices.tolist(),
        labels=dataset.y[first].astype(float).tolist() if is_class else None,
        texts=None,
        values=None,
        together=dataset.together[first].tolist(),
        n_dropped=0,
        input=file_entry("dataset", path),
        has_text_groups=dataset.of_rows("text_groups") is not None,
    )


def _from_csv(path: Path, config: SplitConfig) -> Items:
    table = read_table(path)
    table.require(config.text_column, "--text-column")
    for flag, column in (("--by-column", config.by_column), ("--group-column", config.group_column)):
        if column is not None:
            table.require(column, flag)
    has_labels = config.label_column in table.columns
    if not has_labels:
        log.warning(
            "%s has no column %s: its sentences are not stratified; see --label-column", path, config.label_column
        )
    numbers = read_labels(config.labels)
    kept: dict[int, tuple[str, float, str, Hashable]] = {}
    for index, fields in enumerate(table.rows):
        label = None if fields is None else label_of(fields[config.label_column], numbers) if has_labels else 0.0
        if fields is None or label is None or not fields[config.text_column].strip():
            why = f"it is a {LONG_LINE}" if index in table.too_long else "it has no sentence or no number as label"
            log.warning("%s: row %d is left out: %s", path, index, why)
            continue
        value = fields[config.by_column].strip() if config.by_column else ""
        group = _group(fields[config.group_column] if config.group_column else None, index)
        kept[index] = (fields[config.text_column], label, value, group)
    if not kept:
        wrong = [fields[config.label_column] for fields in table.rows if fields and fields[config.text_column].strip()]
        raise DataError(
            f"{path} has no sentence with a label",
            hint=labels_hint(wrong) if wrong else "its rows need a text, and a number as label",
        )
    texts, labels, values, together = zip(*kept.values(), strict=True)
    return Items(
        indices=list(kept),
        labels=labels if has_labels else None,
        texts=texts,
        values=values if config.by_column else None,
        together=together if config.group_column else None,
        n_dropped=len(table.rows) - len(kept),
        input=file_entry("sentences", path),
    )


def _from_documents(path: Path, config: SplitConfig) -> Items:
    """Read documents; their numbers count from 0, as rows of a CSV made of them in their order."""
    docs = list(read_documents(path))
    column = config.group_column
    if column is not None and not any(column in doc.labels for doc in docs):
        known = sorted({name for doc in docs for name in doc.labels})
        raise ConfigError(
            f"no document of {path} has the label {column!r}",
            hint=did_you_mean(column, known, otherwise=f"they have {', '.join(known[:10]) or 'none'}"),
        )
    if not docs:
        raise DataError(f"{path} has no document", hint="make some: actlab generate-text PROMPT --output DIR")
    labels = [doc.labels.get(config.label_column) for doc in docs]
    numbers = [float(one) for one in labels if isinstance(one, int | float) and not isinstance(one, bool)]
    return Items(
        indices=list(range(len(docs))),
        labels=numbers if len(numbers) == len(docs) else None,
        texts=[doc.text for doc in docs],
        values=None,
        together=[_group(doc.labels.get(column), i) for i, doc in enumerate(docs)] if column is not None else None,
        n_dropped=0,
        input=file_entry("documents", find_documents(path)),
    )


def _group(value: object, index: int) -> Hashable:
    """Return what a row is grouped by: a value, or its own number where it has none."""
    text = value.strip() if isinstance(value, str) else "" if value is None else json.dumps(value, sort_keys=True)
    return ("value", text) if text else ("row", index)
