"""Classifier datasets: X and y with how they were made, as one NPZ or Parquet file."""

# n sample, f input feature, t target

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Shaped

from actlab.formats.groups import equal_rows, joined
from actlab.formats.npz import NpzReader, write_npz
from actlab.formats.parquet import refuse_false_counts
from actlab.ground.errors import DataError, foreign_errors
from actlab.ground.limits import needed_file
from actlab.ground.options import as_path
from actlab.ground.storage import write_file

if TYPE_CHECKING:
    from torch.utils.data import TensorDataset

NORM_KEYS = ("method", "mean", "std", "min", "max", "range")
"""Kept in `metadata` under these names, in the file as `norm_*` (`meta_*` in older files)."""
_PARQUET_KEY = b"actlab"
_PARQUET_SUM = b"actlab_sha256"
"""Parquet's pages have no checksums unless asked for, and its schema none at all."""
_MOST_BYTES = 1 << 36


class ClassifierDataset(NamedTuple):
    """What a file holds. It unpacks as X, y, metadata."""

    X: Float[np.ndarray, "n f"]
    y: Shaped[np.ndarray, " n"] | Shaped[np.ndarray, "n t"]
    """float32 activations, or int64 labels."""
    metadata: dict[str, Any]
    """The file's `meta_*` without that prefix, and the normalisation's `method`, `mean`, `std`, `min`, `max`."""

    def to_sklearn(self) -> tuple[Float[np.ndarray, "n f"], Shaped[np.ndarray, "n ..."]]:
        """Return X and y, as `fit(X, y)` takes them."""
        return self.X, self.y

    def to_torch(self) -> "TensorDataset":
        """Return a `torch.utils.data.TensorDataset` over X and y."""
        import torch

        return torch.utils.data.TensorDataset(torch.from_numpy(self.X), torch.from_numpy(self.y))

    @property
    def sentence_indices(self) -> Shaped[np.ndarray, " n"]:
        """Which sentence each sample comes from; without record, each from its own."""
        return self._of_rows("sentence_indices", "groups")

    def of_rows(self, key: str) -> Shaped[np.ndarray, " n"] | None:
        """Return metadata that has one value a sample; None where there is none, or it is of another shape."""
        found = np.asarray(self.metadata.get(key, ()))
        return found if found.shape == (len(self.X),) else None

    @property
    def groups(self) -> Shaped[np.ndarray, " n"]:
        """Which samples belong together: those of a sentence, or of near-duplicates."""
        return self._of_rows("groups", "text_groups", "sentence_indices")

    @property
    def together(self) -> Shaped[np.ndarray, " n"]:
        """Which samples no test may part, by all that is known: sentence, groups, near-equal texts, equal rows of X.

        Equal rows are evidence of one text unless X is the embedding of one token, or activations of features,
        which are 0 on many texts. Of all rows of a sentence only the last one is: the others are of its beginning,
        which unrelated sentences share.
        """
        named = (self._of_rows("sentence_indices"), self.groups, self._of_rows("text_groups"))
        source, rows = self._input_source, self.metadata.get("rows")
        if source == "activations" or (source == "embeddings" and rows != "mean"):
            return joined(*named)
        return joined(*named, self._equal_last_rows() if rows == "all" else equal_rows(self.X))

    @property
    def _input_source(self) -> str | None:
        """What X is made of; where an older file does not say, by its strategy, None where that is unknown too."""
        first = str(self.metadata.get("strategy", "")).split("-to-")[0]
        return self.metadata.get("input_source", {"embedding": "embeddings", "feature": "activations"}.get(first))

    def _equal_last_rows(self) -> Shaped[np.ndarray, " n"]:
        """Return the groups of equal rows, each row but a sentence's last one in a group of its own."""
        sentences = self.sentence_indices
        order = np.lexsort((self._of_rows("row_indices"), sentences))
        is_last = np.append(sentences[order][1:] != sentences[order][:-1], True)
        last = np.sort(order[is_last])
        group_n = np.arange(len(self.X))
        group_n[last] = len(self.X) + equal_rows(self.X[last])
        return group_n

    def _of_rows(self, *keys: str) -> Shaped[np.ndarray, " n"]:
        found = (self.of_rows(key) for key in keys)
        return next((one for one in found if one is not None), np.arange(len(self.X)))


def save_dataset(
    X: Float[np.ndarray, "n f"], y: Shaped[np.ndarray, "n ..."], metadata: Mapping[str, object], path: str | Path
) -> None:
    """Write a dataset as NPZ, or as Parquet where the path ends so. The same values give the same bytes.

    Keys of the normalisation (`method`, `mean`, `std`, `min`, `max`) may stand in `metadata`: they are stored
    as `norm_*`, all else as `meta_*`; text 0-d, lists as arrays, what is None not at all.

    Raises:
        DataError: X and y do not fit together, or a value is not finite or no number.
    """
    output: Path = as_path(path)
    y = np.asarray(y)
    kind = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.int64}.get(y.dtype.kind, y.dtype)
    arrays = {"X": np.asarray(X, dtype=np.float32), "y": y.astype(kind, copy=False)}
    _check(arrays["X"], arrays["y"], str(output))
    stored = {
        f"norm_{key}" if key in NORM_KEYS else f"meta_{key}": _stored(key, value)
        for key, value in metadata.items()
        if value is not None
    }
    if output.suffix == ".parquet":
        write_file(output, _parquet_bytes(arrays, stored))
        return
    output = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    write_file(output, lambda file: write_npz(file, arrays | stored, compressed=False))


def load_dataset(path: str | Path) -> ClassifierDataset:
    """Read a dataset that actlab wrote, or one of the older dialect, whose `norm_*` are named `meta_*`.

    Raises:
        DataError: It is none, or holds values that are not finite.
    """
    if as_path(path).is_dir():
        raise DataError(f"the dataset {path} is a folder", hint=f"name the file: {path}/NAME.npz")
    path = needed_file(path, "there is no dataset", hint="make one: actlab generate-datasets --help")
    found = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    if "X" not in found or "y" not in found:
        raise DataError(f"{path} has no X and y", hint="give an NPZ that actlab generate-datasets wrote")
    X, y = found.pop("X"), found.pop("y")
    _check(X, y, str(path))
    # norm_ is as long as meta_
    metadata = {key[5:]: value.item() if value.ndim == 0 else value for key, value in found.items()}
    for key in _OF_ROWS:
        if key in metadata and np.shape(metadata[key]) != (len(X),):
            raise DataError(f"{path}: {key} has not one value a sample", hint="make it anew: generate-datasets")
    if "normalization" in metadata:
        metadata.setdefault("method", metadata["normalization"])
    return ClassifierDataset(X, y, metadata)


def read_manifest_of(path: Path) -> dict[str, object] | None:
    """Return the manifest inside a dataset's file, though its rows be damaged; None where no file, or none in it."""
    if not path.is_file():
        return None
    try:
        if path.suffix == ".parquet":
            text = json.loads(pq.read_schema(path).metadata[_PARQUET_KEY])["meta_manifest"]["value"]
        else:
            with NpzReader(path) as reader:
                text = str(reader.array("meta_manifest"))
        content = json.loads(text)
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None
    return content if isinstance(content, dict) else None


_OF_ROWS = ("sentence_indices", "groups", "split", "row_indices")
"""Metadata with one value a sample; `of_rows` hands out others where they are such."""


def _check(X: Shaped[np.ndarray, "..."], y: Shaped[np.ndarray, "..."], where: str) -> None:
    hint = "X is [samples, features] and y has as many samples"
    if X.ndim != 2 or y.ndim not in (1, 2) or len(X) != len(y):
        raise DataError(f"{where}: X is {list(X.shape)} and y {list(y.shape)}", hint=hint)
    if X.dtype.kind not in "fiu" or y.dtype.kind not in "fiu":
        raise DataError(f"{where}: X is {X.dtype} and y {y.dtype}, not numbers", hint=hint)
    for name, values in (("X", X), ("y", y)):
        if not all(np.isfinite(values[start : start + 4096]).all() for start in range(0, len(values), 4096)):
            raise DataError(f"{where}: {name} holds NaN or inf", hint="remove those samples")
        if values.size and values.dtype.kind == "f" and values.dtype.itemsize > 4:
            _refuse_outside_float32(values.reshape(len(values), -1), name, where)


def _refuse_outside_float32(values: Float[np.ndarray, "n f"], name: str, where: str) -> None:
    """Refuse a column whose squares leave float64's range, or whose weight would leave float32's.

    Raises:
        DataError: Its numbers are larger than float32's largest, or all of them smaller than its smallest.
    """
    blocks = (values[start : start + 4096] for start in range(0, len(values), 4096))
    largest_f = np.max([np.abs(block).max(axis=0) for block in blocks], axis=0, initial=0.0)
    of_float32 = np.finfo(np.float32)
    wrong_f = (largest_f > of_float32.max) | ((largest_f > 0) & (largest_f < of_float32.tiny))
    if wrong_f.any():
        column = int(np.argmax(wrong_f))
        raise DataError(
            f"{where}: the largest number of {name}'s column {column} is {largest_f[column]:.3g}, outside float32",
            hint="divide the column by a number that brings it near 1",
        )


def _stored(key: str, value: object) -> Shaped[np.ndarray, "..."]:
    array = np.asarray(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value)
    if array.dtype.kind not in "fiubU":
        raise DataError(f"metadata {key!r} is neither numbers nor text", hint="use numbers, text, or lists of them")
    if key in ("mean", "std", "min", "max", "range"):
        return array.astype(np.float32, copy=False)
    return array


def _read_npz(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    with NpzReader(path) as reader:
        # of an array that is not read too: a damaged name would hide one that is
        if sum(reader.header(name).n_bytes for name in reader.names) > _MOST_BYTES:
            raise DataError(
                f"{path} claims to hold more than {_MOST_BYTES} bytes",
                hint="give an NPZ that actlab generate-datasets wrote",
            )
        names = [name for name in reader.names if name in ("X", "y") or name.startswith(("meta_", "norm_"))]
        return {name: reader.array(name, whole=True) for name in names}


def _parquet_bytes(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], stored: Mapping[str, Shaped[np.ndarray, "..."]]
) -> bytes:
    columns: dict[str, pa.Array] = {}
    for name, values in arrays.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        columns[name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    described = {key: {"dtype": str(value.dtype), "value": value.tolist()} for key, value in stored.items()}
    text = json.dumps(described, ensure_ascii=False).encode()
    metadata = {_PARQUET_KEY: text, _PARQUET_SUM: _sum(arrays["X"], arrays["y"], text)}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


def _read_parquet(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    hint = "give a Parquet file that actlab generate-datasets wrote"
    with foreign_errors(f"cannot read {path}", hint=hint, kind=DataError):
        refuse_false_counts(path)
        table = pq.read_table(path)
        found = {name: _column(table[name].combine_chunks()) for name in ("X", "y")}
        text = table.schema.metadata[_PARQUET_KEY]
        if table.schema.metadata.get(_PARQUET_SUM) not in (None, _sum(found["X"], found["y"], text)):
            raise DataError(f"{path} is damaged: it does not hold what was written (sha256 differs)", hint=hint)
        described = json.loads(text)
        return found | {key: np.array(one["value"], dtype=one["dtype"]) for key, one in described.items()}


def _sum(X: Shaped[np.ndarray, "..."], y: Shaped[np.ndarray, "..."], text: bytes) -> bytes:
    """Return a hash of all that a Parquet file holds."""
    digest = hashlib.sha256(text)
    for values in (X, y):
        digest.update(f"{values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest().encode()


def _column(column: pa.Array) -> Shaped[np.ndarray, "n ..."]:
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return np.asarray(column)
