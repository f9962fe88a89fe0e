"""The tables of a dataset of weights, and letters as numbers."""

# n rows, p positions

from collections.abc import Collection, Iterable, Mapping
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Integer

KIND = "weights"
ATTEMPTS_FILE = "attempts.parquet"
CONFIG_FILE = "config.yaml"
SIGNATURE_FILE = "signature_dataset.json"
CARD_FILE = "README.md"
MODELS = ("degraded", "improved")
SPLITS = ("train", "validation", "test", "heldout")
TASKS = ("modification", "classification")
OVERALL = "overall"
"""What the metrics call all of a network's patterns together."""


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


_TEXTS = pa.list_(pa.string())
_FLOATS = pa.list_(pa.float32())
_CODES = pa.list_(pa.int8())

STORE: dict[str, pa.Schema] = {
    "specs": _schema(
        example_id=pa.int64(),
        split=pa.string(),
        family=pa.string(),
        patterns=_TEXTS,
        target_pattern=pa.string(),
        vocab_size=pa.int16(),
        sequence_length=pa.int16(),
        num_layers=pa.int16(),
        neurons_per_layer=pa.int16(),
        activation_type=pa.string(),
        dropout_rate=pa.float64(),
        learning_rate=pa.float64(),
        precision=pa.string(),
        quantization=pa.string(),
        quantization_scale=pa.string(),
        n_parameters=pa.int64(),
        n_target_rows=pa.int32(),
        n_corrupted_rows=pa.int32(),
        accepted_try=pa.int32(),
    ),
    "weights": _schema(
        example_id=pa.int64(),
        model=pa.string(),
        module=pa.string(),
        n_outputs=pa.int32(),
        n_inputs=pa.int32(),
        weight=_FLOATS,
        bias=_FLOATS,
    ),
    "codes": _schema(
        example_id=pa.int64(),
        model=pa.string(),
        module=pa.string(),
        weight_codes=_CODES,
        weight_scales=_FLOATS,
        bias_codes=_CODES,
        bias_scales=_FLOATS,
    ),
    "signatures": _schema(
        example_id=pa.int64(),
        model=pa.string(),
        module=pa.string(),
        method=pa.string(),
        n_values=pa.int32(),
        values=_FLOATS,
    ),
    "metrics": _schema(
        example_id=pa.int64(),
        model=pa.string(),
        pattern=pa.string(),
        accuracy=pa.float64(),
        yes_accuracy=pa.float64(),
        no_accuracy=pa.float64(),
        n_yes=pa.int32(),
        n_no=pa.int32(),
    ),
    "histories": _schema(
        example_id=pa.int64(),
        stage=pa.int8(),
        epoch=pa.int32(),
        train_loss=pa.float64(),
        validation_loss=pa.float64(),
        validation_accuracy=pa.float64(),
    ),
    "rows": _schema(
        example_id=pa.int64(),
        part=pa.string(),
        sequence=pa.string(),
        label=pa.int8(),
        pattern=pa.string(),
        corrupted=pa.bool_(),
    ),
    "unlisted": _schema(
        example_id=pa.int64(),
        pattern=pa.string(),
        sequence=pa.string(),
    ),
}
"""The numeric tables. `weight` is row-major, `values` neuron-major; a sequence is its letters, "ACB…"."""

RECORDS = _schema(
    example_id=pa.int64(),
    metadata=pa.string(),
    modification_prompt=pa.string(),
    modification_completion=pa.string(),
    modification_text=pa.string(),
    classification_prompt=pa.string(),
    classification_completion=pa.string(),
    classification_text=pa.string(),
    degraded_signature=pa.string(),
    improved_signature=pa.string(),
    degraded_model_weights=pa.string(),
    improved_model_weights=pa.string(),
    training_metrics=pa.string(),
    prompt=pa.string(),
    completion=pa.string(),
    prompt_tokens=pa.int64(),
    completion_tokens=pa.int64(),
)
"""A task's examples: the other task's columns are null, so are counts without a tokenizer."""

ATTEMPTS = _schema(
    example_id=pa.int64(),
    attempt=pa.int32(),
    accepted=pa.bool_(),
    reason=pa.string(),
    patterns=_TEXTS,
    target_pattern=pa.string(),
    num_layers=pa.int16(),
    neurons_per_layer=pa.int16(),
    activation_type=pa.string(),
    learning_rate=pa.float64(),
    degraded_accuracy=pa.float64(),
    improved_accuracy=pa.float64(),
    target_gain=pa.float64(),
    degraded_target_accuracy=pa.float64(),
    improved_target_accuracy=pa.float64(),
    lowest_improved_accuracy=pa.float64(),
    highest_unlisted_accuracy=pa.float64(),
    worst_other_change=pa.float64(),
    degraded_yes_share=pa.float64(),
    degraded_epochs=pa.int32(),
    improvement_epochs=pa.int32(),
)
"""Every network that was trained, in the order of the slots and their tries."""


Row = Mapping[str, object]
"""A row of a table, by its columns; one that it lacks is null."""


class Spec(TypedDict):
    """A row of `store/specs`: what is used of it."""

    example_id: int
    split: str
    family: str
    patterns: list[str]
    target_pattern: str
    vocab_size: int
    sequence_length: int
    num_layers: int
    neurons_per_layer: int
    activation_type: str
    dropout_rate: float
    precision: str
    quantization: str
    accepted_try: int


class TaskRow(TypedDict):
    """A row of a task: what is used of it."""

    example_id: int
    prompt: str
    completion: str


class WeightsMetadata(TypedDict):
    """What `metadata.json` says: what is used of it."""

    n_examples: int
    n_attempts: int


def numbers(rows: Iterable[Row], column: str) -> list[float]:
    """Return the numbers of a column that are not null."""
    return [value for row in rows if isinstance(value := row.get(column), int | float)]


def letters_of(tokens_np: Integer[np.ndarray, "n p"]) -> list[str]:
    """Return each row of letters' indices as text: A is 0."""
    n, p = tokens_np.shape
    text = (np.ascontiguousarray(tokens_np, dtype=np.uint8) + ord("A")).tobytes().decode("ascii")
    return [text[start : start + p] for start in range(0, n * p, p)]


def tokens_of(sequences: Collection[str]) -> Integer[np.ndarray, "n p"]:
    """Return letters' indices of sequences of one length; the way back from `letters_of`.

    >>> tokens_of(["ABC", "CCA"]).tolist()
    [[0, 1, 2], [2, 2, 0]]
    """
    data = np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8)
    return (data - ord("A")).reshape(len(sequences), -1)


def table_bytes(schema: pa.Schema, rows: Iterable[Row]) -> bytes:
    """Return a Parquet file's bytes; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
