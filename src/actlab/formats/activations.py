"""Activation dumps: `{root}/{model}/{dataset}/{split}/layer_00/shard_000.pt` and `metadata.json`.

Layer k holds the output of block k. `docs/formats.md` is the normative page.
"""

# n rows (examples), d model width

import copy
import io
import itertools
import mmap
import operator
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NotRequired, SupportsIndex, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.serialization import get_default_mmap_options
from torch.utils.data import Dataset

from actlab.formats.parquet import refuse_false_counts
from actlab.ground.errors import ConfigError, StorageError, reason_of
from actlab.ground.integrity import check_sealed, read_sealed, read_sealed_as, sealed_manifest
from actlab.ground.log import log
from actlab.ground.manifest import METADATA, stored_files

if TYPE_CHECKING:
    Labels = pd.Series[int] | pd.Series[bool] | pd.Index[int]
    Numbers = SupportsIndex | Sequence[int] | Sequence[bool] | np.ndarray | Tensor | Labels
    """What chooses rows by their numbers, or is a mask."""
    Column = SupportsIndex | slice | EllipsisType | Tensor
    Index = Numbers | slice | EllipsisType

KIND = "activations"
EXAMPLES = "examples.parquet"
SEED_KEYS = (
    "model_name",
    "dataset_name",
    "split",
    "load_in_4bit",
    "total_examples",
    "shard_size",
    "batch_size",
    "hidden_dim",
    "num_layers",
)
"""The keys that every `metadata.json` begins with, in this order."""


class SplitMetadata(TypedDict):
    """What a split's `metadata.json` says that readers rest on, whichever program wrote it."""

    total_examples: int
    hidden_dim: int
    num_layers: int
    layers: NotRequired[list[int]]
    dtype: NotRequired[str | None]
    truncated_examples: NotRequired[int | None]


EXAMPLES_SCHEMA = pa.schema(
    [
        ("source_line", pa.int64()),
        ("example_id", pa.string()),
        ("prompt_id", pa.string()),
        ("n_tokens", pa.int32()),
        ("n_truncated", pa.int32()),
        ("position", pa.int32()),
        ("token_id", pa.int32()),
        ("token", pa.string()),
        ("last_token_id", pa.int32()),
        ("last_token", pa.string()),
    ]
)
"""One row per saved example, in the order of the shards' rows."""

DTYPES = (torch.float16, torch.float32, torch.bfloat16)
"""What a shard may hold."""


def layer_folder(layer: int) -> str:
    """Return the name of a layer's folder; numbers widen past 99."""
    return f"layer_{layer:02d}"


def shard_name(shard: int) -> str:
    """Return the name of a shard's file; numbers widen past 999."""
    return f"shard_{shard:03d}.pt"


def shard_bytes(rows_nd: Float[Tensor, "n d"]) -> bytes:
    """Return the bytes of a shard file: the same tensor always gives the same bytes.

    `torch.save` to a path would put the file's name into them, and saving a view its whole storage.
    """
    buffer = io.BytesIO()
    torch.save(rows_nd.detach().cpu().clone(memory_format=torch.contiguous_format), buffer)
    return buffer.getvalue()


def read_shard(path: Path) -> Float[Tensor, "n d"]:
    """Open a shard without reading it: its pages are read when rows are used.

    The tensor is the caller's own: its pages are mapped privately, so what is written into it goes nowhere else.

    Raises:
        StorageError: It cannot be read, or holds something else than one 2-D float tensor; of a sealed shard, because
            it is damaged.
    """
    hint = "the file is damaged or is no shard; actlab verify DIR tells"
    is_private = get_default_mmap_options() != mmap.MAP_SHARED  # which would write into the file
    try:
        try:
            tensor = torch.load(path, map_location="cpu", weights_only=True, mmap=is_private)
        except RuntimeError:  # torch's old file format cannot be mapped
            tensor = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StorageError(f"{path} is not there", hint="actlab verify DIR tells what is missing") from None
    except Exception as error:
        check_sealed(path)  # says better why, of a file that was sealed
        raise StorageError(f"cannot read {path}: {reason_of(error)}", hint=hint) from error
    if not isinstance(tensor, Tensor) or tensor.ndim != 2 or tensor.dtype not in DTYPES:
        check_sealed(path)
        raise StorageError(f"{path} does not hold a 2-D float tensor", hint=hint)
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise StorageError(f"{path} holds a tensor without its numbers, or a sparse one", hint=hint)
    return tensor


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return the entries of a folder named by a pattern with one number, in the numbers' order.

    >>> numbered(Path("no/such/folder"), r"shard_(\\d+)\\.pt")
    {}

    Raises:
        StorageError: Two have the same number, as shard_1.pt and shard_001.pt.
    """
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(pattern, path.name):
            other = found.setdefault(int(match[1]), path)
            if other != path:
                names = " and ".join(sorted((other.name, path.name)))
                raise StorageError(f"{folder} has both {names}", hint="one of them is left from another run: remove it")
    return dict(sorted(found.items()))


def layer_folders(split_folder: Path) -> dict[int, Path]:
    """Return a split's layer folders by layer."""
    return numbered(split_folder, r"layer_(\d+)")


def shard_files(layer_folder: Path) -> dict[int, Path]:
    """Return a layer's shards by number: by number, not by text, so 1000 comes after 999."""
    return numbered(layer_folder, r"shard_(\d+)\.pt")


def shards_in_order(layer_folder: Path, n: int | None = None) -> list[Path]:
    """Return a layer's shards 0, 1, 2 and so on: the first n, or all.

    Raises:
        StorageError: One of them is missing, so that the rows behind it would be taken for others.
    """
    shards = shard_files(layer_folder)
    numbers = range(max(shards, default=-1) + 1 if n is None else n)
    for number in numbers:
        if number not in shards:
            raise StorageError(
                f"{layer_folder} lacks {shard_name(number)}",
                hint="copy it from where the dump was made, or extract again: every shard from 0 on is needed",
            )
    return [shards[number] for number in numbers]


def n_counted_shards(rows_per_shard: Sequence[int], metadata: SplitMetadata, folder: Path) -> int:
    """Return how many of a dump's shards hold the examples that its metadata counts.

    Shards of an older, longer run may lie behind them. Where the last rows are missing, what is there is kept, with a
    warning; whatever could move a row to another example's place is refused.

    >>> n_counted_shards([4, 4, 2, 4], {"total_examples": 10, "shard_size": 4}, Path("EM"))
    3

    Raises:
        StorageError: The counts do not tell which rows belong to the dump.
    """
    rows, total = list(rows_per_shard), metadata["total_examples"]
    if sum(rows) == total:
        return len(rows)
    size = metadata.get("shard_size", rows[0] if rows else None)
    if isinstance(size, int) and size > 0 and rows:
        n_full, rest = divmod(total, size)
        counted = [size] * n_full + [rest] * (rest > 0)
        if sum(rows) > total and rows[: len(counted)] == counted:
            log.warning(
                "%s: %s counts %d examples, so %s and later shards are left out as those of another run",
                *(folder, METADATA, total, shard_name(len(counted))),
            )
            return len(counted)
        if sum(rows) < total and rows[:-1] == counted[: len(rows) - 1] and rows[-1] <= size:
            log.warning("%s: %s counts %d examples, only the first %d are there", folder, METADATA, total, sum(rows))
            return len(rows)
    raise StorageError(
        f"{folder} has shards of {rows} rows, and {METADATA} counts {total} examples",
        hint="remove the shards of another run and copy what is missing, or extract again",
    )


def load_activations(base_path: str | Path, layer_idx: int) -> Iterator[Float[Tensor, "n d"]]:
    """Yield the shards of one layer of a split's folder, in order; each is the caller's own.

    Raises:
        StorageError: The folder has no such layer, or lacks a shard.
    """
    folder = Path(base_path)
    folders = layer_folders(folder)
    if layer_idx not in folders:
        known = ", ".join(map(str, folders)) or "none"
        raise StorageError(f"{base_path} has no layer {layer_idx}", hint=f"its layers: {known}")
    if (folder / METADATA).is_file():
        yield from Activations(folder).iter_shards(layer_idx)
    else:
        yield from map(_whole_shard, shards_in_order(folders[layer_idx]))


def splits_of(folder: Path) -> dict[str, Path]:
    """Return the splits of a dataset's folder by name; of a split's own folder, that one."""
    found = sorted(path.parent for path in folder.glob(f"*/{METADATA}"))
    splits = {path.name: path for path in found if layer_folders(path)}
    return splits if splits or not (folder / METADATA).is_file() else {folder.name: folder}


def read_metadata(split_folder: Path) -> SplitMetadata:
    """Return a split's metadata.

    Raises:
        StorageError: It is missing, or does not say what every dump's has to say.
    """
    return read_sealed_as(split_folder / METADATA, SplitMetadata)


def open_activations(path: str | Path, split: str | None = None, *, check: bool = False) -> "Activations":
    """Open one split of a dump, lazily.

    `path` is a split's folder, or a dataset's folder together with `split` (not needed where there is only
    one). Dumps of other programs with the same layout open too. Of a sealed dump, a shard that is read whole is
    compared with the manifest, one of which rows are picked is not: `check` hashes all shards now.

    Raises:
        StorageError: There is no finished dump, or a file is not as it was sealed.
    """
    opened = _open(Path(path), split)
    if check:
        opened.check()
    return opened


def _open(folder: Path, split: str | None) -> "Activations":
    splits = splits_of(folder)
    if not splits:
        raise StorageError(f"{folder} holds no finished activations", hint=_why_not(folder))
    if split is None and len(splits) == 1:
        return Activations(next(iter(splits.values())))
    if split not in splits:
        asked = "has several splits" if split is None else f"has no split {split!r}"
        raise StorageError(f"{folder} {asked}", hint="open one of " + ", ".join(str(p) for p in splits.values()))
    return Activations(splits[split])


def _why_not(folder: Path) -> str:
    if folder.name.endswith(".partial") or (folder.parent / f"{folder.name}.partial").is_dir():
        return "it is still being made: run its command again, or actlab seal DIR when all parts are done"
    return "give the folder that holds metadata.json"


class Activations:
    """One split of a dump. Nothing is read before it is asked for, and what is handed out is the caller's own.

    `acts[7][10:20]` are rows 10 to 19 of layer 7, whatever shards they lie in; `acts[-1]` is the model's last block,
    as in `--layers`. Iterating gives the saved layers' numbers, `len` counts rows; `acts.examples` says where each
    row comes from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metadata = read_metadata(folder)
        self._layer_folders = layer_folders(folder)
        if not self._layer_folders:
            raise StorageError(f"{folder} has no layer folders", hint="give a split's folder")
        self.layers = tuple(self._layer_folders)
        """The layers that are saved, ascending."""

    def check(self) -> None:
        """Hash every shard that a manifest names.

        Raises:
            StorageError: One is not as it was sealed.
        """
        for layer in self.layers:
            for path in self.shard_paths(layer):
                check_sealed(path)

    @property
    def metadata(self) -> dict[str, Any]:
        """What `metadata.json` says."""
        return {**copy.deepcopy(self._metadata)}

    @property
    def split(self) -> str:
        """The split's name."""
        return str(self._metadata.get("split", self.folder.name))

    @cached_property
    def rows_per_shard(self) -> tuple[int, ...]:
        """Rows of each shard, from the manifest; where there is none, of those that `metadata.json` counts.

        Raises:
            StorageError: A shard is missing, or the counts do not tell which rows belong to the dump.
        """
        sealed = self._sealed_rows()
        if sealed is not None:
            return sealed
        first = self._layer_folders[self.layers[0]]
        shards = shard_files(first)
        n_before_gap = next(number for number in itertools.count() if number not in shards)
        rows = [len(_open_shard(path)) for path in shards_in_order(first, n_before_gap)]
        if n_before_gap < len(shards) and sum(rows) != self._metadata["total_examples"]:
            shards_in_order(first)  # says which is missing
        if n_before_gap < len(shards):
            log.warning(
                "%s: shards behind %s are left out as those of another run", first, shard_name(n_before_gap - 1)
            )
        return tuple(rows[: n_counted_shards(rows, self._metadata, self.folder)])

    def _sealed_rows(self) -> tuple[int, ...] | None:
        """Return the rows of the first layer's shards as the manifest names them; None where it does not."""
        manifest = sealed_manifest(self.folder.parent)
        if manifest is None:
            return None
        rows = {Path(stored.path): stored.rows for stored in stored_files(manifest)}
        first = Path(self.folder.name) / self._layer_folders[self.layers[0]].name
        known = [rows.get(first / shard_name(shard)) for shard in range(sum(path.parent == first for path in rows))]
        counted = tuple(count for count in known if count is not None)
        return counted if counted and len(counted) == len(known) else None

    @property
    def hidden_dim(self) -> int:
        """The model's width."""
        return self._metadata["hidden_dim"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Saved layers, rows, width."""
        return len(self.layers), len(self), self.hidden_dim

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        return self[self.layers[0]].dtype

    def __len__(self) -> int:
        return sum(self.rows_per_shard)

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __getitem__(self, layer: int) -> "LayerRows":
        """Return a layer by its number; below 0, counted back from the model's last block, saved or not.

        Raises:
            ConfigError: It is not saved.
        """
        asked = operator.index(layer)
        block = asked + self._metadata["num_layers"] if asked < 0 else asked
        if block not in self._layer_folders:
            raise ConfigError(
                f"layer {asked}{f', which is {block},' if block != asked else ''} is not in {self.folder}",
                hint="saved: " + ", ".join(map(str, self.layers)),
            )
        return LayerRows(self.shard_paths(block), self.rows_per_shard, self.hidden_dim)

    def shard_paths(self, layer: int) -> list[Path]:
        """Return the files of a saved layer's rows, in order.

        Raises:
            StorageError: One is missing, or there are more than in another layer.
        """
        folder, rows = self._layer_folders[layer], self.rows_per_shard
        paths = shards_in_order(folder, len(rows))
        n_there = len(shard_files(folder))
        if n_there > len(paths) and sum(rows) != self._metadata["total_examples"]:
            raise StorageError(
                f"{folder} has {n_there} shards, another layer {len(paths)}",
                hint="actlab verify DIR tells what is missing",
            )
        return paths

    def iter_shards(self, layer: int) -> Iterator[Float[Tensor, "n d"]]:
        """Yield a layer's shards, in order."""
        return self[layer].iter_shards()

    def dataset(self, layer: int, labels: Sequence[object] | None = None) -> "RowDataset":
        """Return a torch Dataset of a layer's rows, or of (row, label) pairs."""
        return RowDataset(self[layer], labels)

    @property
    def examples(self) -> pd.DataFrame:
        """The per-example table: source line, tokens, truncation, the token whose state was saved.

        Raises:
            StorageError: The dump has none (another program wrote it).
        """
        return self._examples.copy()

    @cached_property
    def _examples(self) -> pd.DataFrame:
        path = self.folder / EXAMPLES
        if not path.is_file():
            raise StorageError(
                f"{self.folder} has no {EXAMPLES}",
                hint="dumps of other programs say nothing about their rows",
            )
        try:
            data = read_sealed(path)
            refuse_false_counts(pa.BufferReader(data))
            table: pd.DataFrame = pq.read_table(pa.BufferReader(data), schema=EXAMPLES_SCHEMA).to_pandas()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StorageError(f"cannot read {path}: {error}", hint="run actlab verify DIR") from error
        return table

    def __repr__(self) -> str:
        model, name = self._metadata.get("model_name"), self._metadata.get("dataset_name")
        return (
            f"Activations({model} on {name}/{self.split}: {len(self)} rows, "
            f"{len(self.layers)} layers, width {self.hidden_dim})"
        )


class LayerRows:
    """The rows of one layer across its shards, indexed as a numpy array [n, d] would be."""

    def __init__(self, paths: Sequence[Path], rows_per_shard: Sequence[int], hidden_dim: int) -> None:
        self._paths = paths
        self._hidden_dim = hidden_dim
        self._starts = np.concatenate([[0], np.cumsum(rows_per_shard, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width."""
        return len(self), self._hidden_dim

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the first shard that has rows."""
        if not self._paths:
            return torch.float32
        return self._shard(int(np.argmax(np.diff(self._starts) > 0))).dtype

    def __getitem__(self, rows: "Index | tuple[Index, *tuple[Column, ...]]") -> Tensor:
        """Return a row [d], or rows [n, d], in memory of their own: only their bytes are read.

        A shard of which all rows are asked for is compared with the manifest, where one names it.

        Rows are chosen by a whole number, a slice, a mask with a value a row, or row numbers: lists, ranges, arrays,
        tensors, pandas Series. A second index, as in `rows[:, 0]`, is one into the columns.

        Raises:
            IndexError: A number is out of range, a mask has not one value a row, or it is none of these (floats, or
                a uint8 tensor, which is a mask for torch and row numbers for numpy).
        """
        if isinstance(rows, tuple):
            return self._cells(*rows) if rows else self[:]
        if isinstance(rows, slice):
            return self._gather(np.arange(*rows.indices(len(self))))
        if rows is Ellipsis:
            return self[:]
        numbers = _row_numbers(rows, len(self))
        return self._gather(numbers.reshape(-1)).reshape(*numbers.shape, self._hidden_dim)

    def __iter__(self) -> Iterator[Float[Tensor, " d"]]:
        """Yield the rows, a shard open at a time."""
        for shard in self.iter_shards():
            yield from shard.unbind()

    def iter_shards(self) -> Iterator[Float[Tensor, "n d"]]:
        """Yield the shards, in order; each is the caller's own."""
        for shard, path in enumerate(self._paths):
            yield self._checked(shard, _whole_shard(path))

    def _cells(self, rows: "Index", *columns: "Column") -> Tensor:
        """Return what `array[rows, columns]` would be."""
        if isinstance(rows, slice) or rows is Ellipsis:
            return self[rows][(rows if rows is Ellipsis else slice(None), *columns)]
        numbers = _row_numbers(rows, len(self))
        gathered = self._gather(numbers.reshape(-1))
        return gathered[(torch.arange(numbers.size).reshape(numbers.shape), *columns)]

    def _gather(self, numbers_n: Int[np.ndarray, " n"]) -> Float[Tensor, "n d"]:
        gathered: Tensor | None = None
        shard_n = np.searchsorted(self._starts, numbers_n, side="right") - 1
        for shard in np.unique(shard_n).tolist():
            places = np.flatnonzero(shard_n == shard)
            if len(places) >= self._starts[shard + 1] - self._starts[shard]:  # it is read whole
                check_sealed(self._paths[shard])
            tensor = self._shard(shard)
            if gathered is None:
                gathered = torch.empty(len(numbers_n), self._hidden_dim, dtype=tensor.dtype)
            if tensor.dtype != gathered.dtype:
                raise StorageError(
                    f"the shards in {self._paths[shard].parent} differ in dtype", hint="run actlab verify DIR"
                )
            gathered[_as_slice(places)] = tensor[_as_slice(numbers_n[places] - self._starts[shard])]
        return torch.empty(0, self._hidden_dim, dtype=self.dtype) if gathered is None else gathered

    def _shard(self, shard: int) -> Float[Tensor, "n d"]:
        """Return a shard to read from, which others read from too."""
        return self._checked(shard, _open_shard(self._paths[shard]))

    def _checked(self, shard: int, tensor: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        expected = int(self._starts[shard + 1] - self._starts[shard])
        for what, found, counted in (("rows", len(tensor), expected), ("columns", tensor.shape[1], self._hidden_dim)):
            if found != counted:
                raise StorageError(
                    f"{self._paths[shard]} has {found} {what}, not {counted}", hint="run actlab verify DIR"
                )
        return tensor


def _row_numbers(rows: "Numbers", n: int) -> Int[np.ndarray, "..."]:
    """Return the numbers, from 0, of the rows that an index chooses from n.

    Raises:
        IndexError: It chooses none as numpy would.
    """
    index = _as_array(rows, n)
    if index.dtype == bool:
        if index.shape != (n,):
            raise IndexError(f"a mask of shape {list(index.shape)} for {n} rows: it needs one value a row")
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu":
        raise IndexError(f"rows are chosen by whole numbers, slices or masks, not {type(rows).__name__} {index.dtype}")
    if (is_outside := (index < -n) | (index >= n)).any():
        raise IndexError(f"row {index[is_outside][0]} of {n}")
    return np.asarray(np.where(index < 0, index + n, index), dtype=np.int64)


def _as_slice(numbers_n: Int[np.ndarray, " n"]) -> slice | Tensor:
    """Return an index that picks the same, as a slice where they are neighbours: it copies nothing."""
    if (np.diff(numbers_n) == 1).all():
        return slice(int(numbers_n[0]), int(numbers_n[-1]) + 1)
    return torch.from_numpy(numbers_n)


def _as_array(rows: "Numbers", n: int) -> Shaped[np.ndarray, "..."]:
    if isinstance(rows, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return _by_position(rows, n)
    if isinstance(rows, Tensor):
        if rows.dtype == torch.uint8 or rows.is_floating_point():
            raise IndexError(f"a tensor of {rows.dtype} chooses no rows: convert it with .bool() or .long()")
        return np.asarray(rows.detach().cpu())
    array = np.asarray(rows)
    return array if array.size or isinstance(rows, np.ndarray) else array.astype(np.int64)  # [] has no dtype


def _by_position(values: "Labels", n: int) -> Shaped[np.ndarray, " n"]:
    """Return a pandas column's values, where their order is not in doubt.

    Raises:
        IndexError: One is missing, or the values, one a row, are numbered in another order than they stand in.
    """
    if values.isna().any():
        raise IndexError("a value is missing")
    is_mask = pd.api.types.is_bool_dtype(values.dtype)
    if is_mask and isinstance(values, pd.Series):
        _refuse_reordered(values, n)
    is_whole = pd.api.types.is_integer_dtype(values.dtype)
    array: Shaped[np.ndarray, " n"] = values.to_numpy(dtype=bool if is_mask else np.int64 if is_whole else None)
    return array


def _refuse_reordered(column: "pd.Series[int] | pd.Series[bool]", n: int) -> None:
    """Refuse a column with one value a row whose own numbers are 0 to n - 1 in another order: which one is meant?"""
    if len(column) == n and pd.api.types.is_integer_dtype(column.index.dtype):
        numbers = column.index.to_numpy()
        if not np.array_equal(numbers, np.arange(n)) and np.array_equal(np.sort(numbers), np.arange(n)):
            raise IndexError(
                "the Series numbers its values in another order than they stand in: "
                "give it .sort_index(), or .to_numpy() to take them as they stand"
            )


def _whole_shard(path: Path) -> Float[Tensor, "n d"]:
    """Open a shard whose rows are all read: hashed first, so that its pages are at hand then.

    Raises:
        StorageError: It is not as it was sealed, or `read_shard` refuses it.
    """
    if path.is_file():
        check_sealed(path)
    return read_shard(path)


def _open_shard(path: Path) -> Float[Tensor, "n d"]:
    """Return a shard to read from, the last ones kept open; a file that was replaced is opened anew."""
    try:
        status = path.stat()
    except OSError:
        return read_shard(path)  # which says what is wrong
    return _mapped_shard(path, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _mapped_shard(path: Path, _inode: int, _changed_ns: int) -> Float[Tensor, "n d"]:
    return read_shard(path)


class RowDataset(Dataset[Tensor | tuple[Tensor, object]]):
    """A layer's rows for a torch DataLoader, fetched a batch at a time."""

    def __init__(self, rows: LayerRows, labels: Sequence[object] | None = None) -> None:
        if labels is not None and len(labels) != len(rows):
            raise ConfigError(f"{len(labels)} labels for {len(rows)} rows", hint="give one label a row")
        if isinstance(labels, pd.Series):  # it would look a label up by its number, not by its place
            _refuse_reordered(labels, len(rows))
            labels = labels.to_numpy()
        self._rows = rows
        self._labels = labels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, object]:
        row = self._rows[index]
        return row if self._labels is None else (row, self._labels[index])

    def __getitems__(self, indices: list[int]) -> Sequence[Tensor | tuple[Tensor, object]]:
        rows = self._rows[indices].unbind()
        if self._labels is None:
            return list(rows)
        return [(row, self._labels[index]) for row, index in zip(rows, indices, strict=True)]
