"""Activation dumps: `{root}/{model}/{dataset}/{split}/layer_00/shard_000.pt` and `metadata.json`.

Layer k holds the output of block k. `docs/formats.md` is the normative page.
"""

# n rows (examples), d model width

import bisect
import io
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from actlab.ground.errors import ConfigError, StorageError
from actlab.ground.manifest import METADATA, read_json, read_manifest, stored_files

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

    Raises:
        StorageError: It cannot be read, or holds something else than one 2-D float tensor.
    """
    hint = "the file is damaged or is no shard; actlab verify DIR tells"
    try:
        try:
            tensor = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # torch's old file format cannot be mapped
            tensor = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StorageError(f"{path} is not there", hint="actlab verify DIR tells what is missing") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"cannot read {path}: {reason}", hint=hint) from error
    if not isinstance(tensor, Tensor) or tensor.ndim != 2 or tensor.dtype not in DTYPES:
        raise StorageError(f"{path} does not hold a 2-D float tensor", hint=hint)
    return tensor


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return the entries of a folder named by a pattern with one number, in the numbers' order.

    >>> numbered(Path("no/such/folder"), r"shard_(\\d+)\\.pt")
    {}
    """
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(pattern, path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def layer_folders(split_folder: Path) -> dict[int, Path]:
    """Return a split's layer folders by layer."""
    return numbered(split_folder, r"layer_(\d+)")


def shard_files(layer_folder: Path) -> dict[int, Path]:
    """Return a layer's shards by number: by number, not by text, so 1000 comes after 999."""
    return numbered(layer_folder, r"shard_(\d+)\.pt")


def load_activations(base_path: str | Path, layer_idx: int) -> Iterator[Float[Tensor, "n d"]]:
    """Yield the shards of one layer of a split's folder, in order.

    Raises:
        StorageError: The folder has no such layer.
    """
    folders = layer_folders(Path(base_path))
    if layer_idx not in folders:
        known = ", ".join(map(str, folders)) or "none"
        raise StorageError(f"{base_path} has no layer {layer_idx}", hint=f"its layers: {known}")
    for path in shard_files(folders[layer_idx]).values():
        yield read_shard(path)


def split_folders(dataset_folder: Path) -> dict[str, Path]:
    """Return the splits of a dataset's folder by name."""
    found = sorted(path.parent for path in dataset_folder.glob(f"*/{METADATA}"))
    return {path.name: path for path in found if layer_folders(path)}


def read_metadata(split_folder: Path) -> dict[str, Any]:
    """Return a split's metadata.

    Raises:
        StorageError: It is missing, or does not say what every dump's has to say.
    """
    path = split_folder / METADATA
    metadata = read_json(path)
    layers = metadata.get("layers", []) if isinstance(metadata, dict) else None
    if not isinstance(layers, list) or not all(isinstance(one, int) for one in layers):
        raise StorageError(f"{path} is no metadata of activations", hint="was it edited by hand?")
    for key in ("total_examples", "hidden_dim", "num_layers"):
        if not isinstance(metadata.get(key), int):
            raise StorageError(f"{path} has no number for {key}", hint="was it edited by hand?")
    return dict(metadata)


def open_activations(path: str | Path, split: str | None = None) -> "Activations":
    """Open one split of a dump, lazily.

    `path` is a split's folder, or a dataset's folder together with `split` (not needed where there is only
    one). Dumps of other programs with the same layout open too.

    Raises:
        StorageError: There is no finished dump.
    """
    folder = Path(path)
    if split is None and (folder / METADATA).is_file():
        return Activations(folder)
    splits = split_folders(folder)
    if not splits:
        raise StorageError(f"{path} holds no finished activations", hint=_why_not(folder))
    if split is None and len(splits) == 1:
        return Activations(next(iter(splits.values())))
    if split not in splits:
        asked = "has several splits" if split is None else f"has no split {split!r}"
        raise StorageError(f"{path} {asked}", hint="open one of " + ", ".join(str(p) for p in splits.values()))
    return Activations(splits[split])


def _why_not(folder: Path) -> str:
    if folder.name.endswith(".partial") or (folder.parent / f"{folder.name}.partial").is_dir():
        return "it is still being made: run its command again, or actlab seal DIR when all parts are done"
    return "give the folder that holds metadata.json"


class Activations:
    """One split of a dump. Nothing is read before it is asked for.

    `acts[7][10:20]` are rows 10 to 19 of layer 7, whatever shards they lie in; `acts.examples` says where
    each row comes from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = read_metadata(folder)
        self._layer_folders = layer_folders(folder)
        if not self._layer_folders:
            raise StorageError(f"{folder} has no layer folders", hint="give a split's folder")
        self.layers = tuple(self._layer_folders)
        """The layers that are saved, ascending."""

    @property
    def split(self) -> str:
        """The split's name."""
        return str(self.metadata.get("split", self.folder.name))

    @cached_property
    def rows_per_shard(self) -> tuple[int, ...]:
        """Rows of each shard, from the manifest, or counted where there is none."""
        first = self._layer_folders[self.layers[0]]
        shards = shard_files(first)
        manifest = read_manifest(self.folder.parent)
        if manifest is not None:
            rows = {stored.path: stored.rows for stored in stored_files(manifest)}
            prefix = f"{self.folder.name}/{first.name}"
            known = [rows.get(f"{prefix}/{path.name}") for path in shards.values()]
            if None not in known:
                return tuple(count for count in known if count is not None)
        return tuple(len(read_shard(path)) for path in shards.values())

    @property
    def hidden_dim(self) -> int:
        """The model's width."""
        return int(self.metadata["hidden_dim"])

    def __len__(self) -> int:
        return sum(self.rows_per_shard)

    def __getitem__(self, layer: int) -> "LayerRows":
        if layer not in self._layer_folders:
            raise ConfigError(
                f"layer {layer} is not in {self.folder}", hint="saved: " + ", ".join(map(str, self.layers))
            )
        return LayerRows(self._layer_folders[layer], self.rows_per_shard, self.hidden_dim)

    def iter_shards(self, layer: int) -> Iterator[Float[Tensor, "n d"]]:
        """Yield a layer's shards, in order."""
        return self[layer].iter_shards()

    def dataset(self, layer: int, labels: Sequence[Any] | None = None) -> "RowDataset":
        """Return a torch Dataset of a layer's rows, or of (row, label) pairs."""
        return RowDataset(self[layer], labels)

    @cached_property
    def examples(self) -> pd.DataFrame:
        """The per-example table: source line, tokens, truncation, the token whose state was saved.

        Raises:
            StorageError: The dump has none (another program wrote it).
        """
        path = self.folder / EXAMPLES
        if not path.is_file():
            raise StorageError(
                f"{self.folder} has no {EXAMPLES}",
                hint="dumps of other programs say nothing about their rows",
            )
        try:
            table: pd.DataFrame = pq.read_table(path, schema=EXAMPLES_SCHEMA).to_pandas()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StorageError(f"cannot read {path}: {error}", hint="run actlab verify DIR") from error
        return table

    def __repr__(self) -> str:
        model, name = self.metadata.get("model_name"), self.metadata.get("dataset_name")
        return (
            f"Activations({model} on {name}/{self.split}: {len(self)} rows, "
            f"{len(self.layers)} layers, width {self.hidden_dim})"
        )


class LayerRows:
    """The rows of one layer across its shards."""

    def __init__(self, folder: Path, rows_per_shard: Sequence[int], hidden_dim: int) -> None:
        self._paths = list(shard_files(folder).values())
        self._folder = folder
        self._hidden_dim = hidden_dim
        self._starts = [0]
        for rows in rows_per_shard:
            self._starts.append(self._starts[-1] + rows)
        if len(self._paths) != len(rows_per_shard):
            raise StorageError(
                f"{folder} has {len(self._paths)} shards, another layer {len(rows_per_shard)}",
                hint="actlab verify DIR tells what is missing",
            )

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Tensor:
        """Return a row [d], or rows [n, d]: only their bytes are read."""
        if isinstance(rows, slice):
            return self._gather(range(*rows.indices(len(self))))
        if isinstance(rows, Tensor):
            if rows.dtype == torch.bool:
                rows = rows.nonzero()[:, 0]
            rows = rows.tolist() if rows.ndim else int(rows)
        if isinstance(rows, Sequence):
            return self._gather([self._checked(int(row)) for row in rows])
        return self._gather([self._checked(int(rows))])[0]

    def iter_shards(self) -> Iterator[Float[Tensor, "n d"]]:
        """Yield the shards, in order."""
        for shard in range(len(self._paths)):
            yield self._shard(shard)

    def _checked(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return row % len(self)

    def _gather(self, rows: Sequence[int]) -> Tensor:
        by_shard: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_shard.setdefault(bisect.bisect_right(self._starts, row) - 1, []).append(place)
        gathered: Tensor | None = None
        for shard, places in by_shard.items():
            tensor = self._shard(shard)
            if gathered is None:
                gathered = torch.empty(len(rows), tensor.shape[1], dtype=tensor.dtype)
            if (tensor.shape[1], tensor.dtype) != (gathered.shape[1], gathered.dtype):
                raise StorageError(
                    f"the shards in {self._folder} differ in width or dtype", hint="run actlab verify DIR"
                )
            inside = torch.tensor([rows[place] - self._starts[shard] for place in places])
            gathered[torch.tensor(places)] = tensor[inside]
        if gathered is None:
            dtype = self._shard(0).dtype if self._paths else torch.float32
            return torch.empty(0, self._hidden_dim, dtype=dtype)
        return gathered

    def _shard(self, shard: int) -> Tensor:
        path = self._paths[shard]
        status = path.stat()
        tensor = _mapped_shard(path, status.st_ino, status.st_mtime_ns)
        expected = self._starts[shard + 1] - self._starts[shard]
        if len(tensor) != expected:
            raise StorageError(
                f"{self._paths[shard]} has {len(tensor)} rows, not {expected}", hint="run actlab verify DIR"
            )
        return tensor


@lru_cache(maxsize=32)
def _mapped_shard(path: Path, _inode: int, _changed_ns: int) -> Tensor:
    """Keep the last shards mapped; a file that was replaced is opened anew."""
    return read_shard(path)


class RowDataset(Dataset[Any]):
    """A layer's rows for a torch DataLoader, fetched a batch at a time."""

    def __init__(self, rows: LayerRows, labels: Sequence[Any] | None = None) -> None:
        if labels is not None and len(labels) != len(rows):
            raise ConfigError(f"{len(labels)} labels for {len(rows)} rows", hint="give one label a row")
        self._rows = rows
        self._labels = labels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        row = self._rows[index]
        return row if self._labels is None else (row, self._labels[index])

    def __getitems__(self, indices: list[int]) -> list[Any]:
        rows = self._rows[indices].unbind()
        if self._labels is None:
            return list(rows)
        return [(row, self._labels[index]) for row, index in zip(rows, indices, strict=True)]
