"""Parquet files of unknown origin: what their footers declare, before a reader makes room for it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_BYTES_OF_VALUE = 8
_FEW_BYTES = 1 << 30
"""So much a file may declare whatever its size: a constant column of any length takes a few bytes."""
_MOST_INFLATED = 1000
"""Beyond that, bytes of values a byte of the file."""


def refuse_false_counts(source: Path | pa.BufferReader) -> None:
    """Refuse a file whose footer declares far more values than its bytes can stand for.

    Raises:
        ValueError: It does, or a count is negative.
        pyarrow.ArrowException: It is no Parquet file.
    """
    n_bytes = source.size() if isinstance(source, pa.BufferReader) else source.stat().st_size
    footer = pq.read_metadata(source)
    groups = [footer.row_group(place) for place in range(footer.num_row_groups)]
    counts = [group.column(place).num_values for group in groups for place in range(group.num_columns)]
    if min([footer.num_rows, *counts]) < 0:
        raise ValueError("its footer declares a negative number of values")
    n_values = max(footer.num_rows, sum(counts))
    if _BYTES_OF_VALUE * n_values > max(_FEW_BYTES, _MOST_INFLATED * n_bytes):
        raise ValueError(f"its footer declares {n_values} values, and it has {n_bytes} bytes")
