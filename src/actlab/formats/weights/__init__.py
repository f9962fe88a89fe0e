"""Datasets of subject networks' weights: the tables, and the way back from them to arrays.

store/specs-00000.parquet …           numbers, a file a unit and table
modification/train-00000.parquet …    prompts and completions, a file a unit and split
classification/train-00000.parquet …
attempts.parquet                      every network that was trained, accepted or not
signature_dataset.json, config.yaml, README.md, metadata.json, manifest.json
"""

from actlab.formats.weights.dataset import Layer, StoredRows, WeightsDataset
from actlab.formats.weights.tables import (
    ATTEMPTS,
    ATTEMPTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    KIND,
    MODELS,
    OVERALL,
    RECORDS,
    SIGNATURE_FILE,
    SPLITS,
    STORE,
    TASKS,
    Row,
    Spec,
    TaskRow,
    WeightsMetadata,
    letters_of,
    numbers,
    table_bytes,
    tokens_of,
)

__all__ = [
    "ATTEMPTS",
    "ATTEMPTS_FILE",
    "CARD_FILE",
    "CONFIG_FILE",
    "KIND",
    "MODELS",
    "OVERALL",
    "RECORDS",
    "SIGNATURE_FILE",
    "SPLITS",
    "STORE",
    "TASKS",
    "Layer",
    "Row",
    "Spec",
    "StoredRows",
    "TaskRow",
    "WeightsDataset",
    "WeightsMetadata",
    "letters_of",
    "numbers",
    "table_bytes",
    "tokens_of",
]
