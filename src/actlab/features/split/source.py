"""What is divided: sentences with their labels and texts, from a folder, a classifier dataset or a CSV."""

# i sentence

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actlab.features.split.config import SplitConfig
from actlab.formats.classifier import load_dataset
from actlab.formats.sentences.folder import load_all_sentences
from actlab.formats.tables import label_of, labels_hint, read_labels, read_table
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.manifest import file_entry

log = logging.getLogger("actlab")


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
    n_dropped: int
    """Files or lines that were left out."""
    input: dict[str, Any]
    """Name of the input, and what says that it is the same one."""


def read_items(config: SplitConfig) -> Items:
    """Read what is needed of the input, by what it is.

    Raises:
        ConfigError: It is not there, is none of the three, or has no such column.
        DataError: It is damaged.
    """
    path = Path(os.path.expanduser(config.input))
    is_csv = path.suffix.lower() in (".csv", ".tsv")
    if config.by_column is not None and not is_csv:
        raise ConfigError("--by-column needs a CSV, whose columns it names", hint=f"{path} is none")
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise ConfigError(f"there is no input {path}", hint="give a folder of sentence_*.npz, an NPZ, or a CSV")
    if is_csv:
        return _from_csv(path, config)
    if path.suffix.lower() in (".npz", ".parquet"):
        return _from_dataset(path)
    raise ConfigError(f"{path} is no folder, NPZ, Parquet file or CSV", hint="its name's ending says what it is")


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
        n_dropped=0,
        input=file_entry("dataset", path),
    )


def _from_csv(path: Path, config: SplitConfig) -> Items:
    table = read_table(path)
    table.require(config.text_column, "--text-column")
    if config.by_column is not None:
        table.require(config.by_column, "--by-column")
    has_labels = config.label_column in table.columns
    if not has_labels:
        log.warning(
            "%s has no column %s: its sentences are not stratified; see --label-column", path, config.label_column
        )
    numbers = read_labels(config.labels)
    kept: dict[int, tuple[str, float, str]] = {}
    for index, fields in enumerate(table.rows):
        label = None if fields is None else label_of(fields[config.label_column], numbers) if has_labels else 0.0
        if fields is None or label is None or not fields[config.text_column].strip():
            log.warning("%s: row %d is left out: it has no sentence or no number as label", path, index)
            continue
        value = fields[config.by_column].strip() if config.by_column else ""
        kept[index] = (fields[config.text_column], label, value)
    if not kept:
        wrong = [fields[config.label_column] for fields in table.rows if fields and fields[config.text_column].strip()]
        raise DataError(
            f"{path} has no sentence with a label",
            hint=labels_hint(wrong) if wrong else "its rows need a text, and a number as label",
        )
    texts, labels, values = zip(*kept.values(), strict=True)
    return Items(
        indices=list(kept),
        labels=labels if has_labels else None,
        texts=texts,
        values=values if config.by_column else None,
        n_dropped=len(table.rows) - len(kept),
        input=file_entry("sentences", path),
    )
