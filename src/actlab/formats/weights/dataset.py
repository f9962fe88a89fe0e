"""The way back from a dataset's tables to arrays."""

# o outputs of a layer, i its inputs, n rows, p positions

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Integer

from actlab.formats.weights.tables import (
    ATTEMPTS,
    ATTEMPTS_FILE,
    CONFIG_FILE,
    KIND,
    SIGNATURE_FILE,
    SPLITS,
    STORE,
    TASKS,
    Spec,
    TaskRow,
    tokens_of,
)
from actlab.ground.errors import DataError, StorageError
from actlab.ground.integrity import check_sealed, sealed_manifest
from actlab.ground.manifest import METADATA, Identity, damaged_files, stored_files
from actlab.ground.options import read_yaml


class Layer(NamedTuple):
    """One Linear's parameters."""

    weight: Float[np.ndarray, "o i"]
    bias: Float[np.ndarray, " o"]


class StoredRows(NamedTuple):
    """An example's stored rows of one part, or those of patterns that are not its own."""

    tokens: Integer[np.ndarray, "n p"]
    labels: Bool[np.ndarray, " n"]
    patterns: list[str | None]
    """For which a row was drawn; None where it satisfies none of the network's."""

    def indices(self, names: Sequence[str]) -> Integer[np.ndarray, " n"]:
        """Return each row's pattern as its place among the network's patterns, -1 for none."""
        places: dict[str | None, int] = {name: place for place, name in enumerate(names)}
        return np.array([places.get(pattern, -1) for pattern in self.patterns], dtype=np.int16)


class WeightsDataset:
    """A sealed dataset of weights, read table by table; of examples that are named, only their units' files.

    A file is compared with the manifest before anything of it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = sealed_manifest(folder)
        if manifest is None or manifest["kind"] != KIND or not (folder / METADATA).is_file():
            raise StorageError(f"{folder} is no dataset of weights", hint="name a folder that run-data-gen made")
        if damaged := damaged_files(folder, stored_files(manifest)):
            raise StorageError(f"{folder} is damaged: {damaged[0]}", hint="actlab verify tells all")
        self.manifest = manifest
        self.identity: Identity = manifest["identity"]
        self.n_slots: int = self.identity["dataset.output_dataset_length"]
        self._unit_size: int = self.identity["pipeline.checkpoint_interval"]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it has."""
        return tuple(task for task in TASKS if self.identity[f"task_generation.include_{task}"])

    def settings(self) -> Mapping[str, object]:
        """Return its `config.yaml`, with the path of its signature dataset."""
        check_sealed(self.folder / CONFIG_FILE)
        return {**read_yaml(self.folder / CONFIG_FILE), "signature.dataset_path": self.folder / SIGNATURE_FILE}

    def unit_of(self, example_id: int) -> range:
        """Return all ids of the unit in which an example was made, given-up ones too."""
        first = example_id - example_id % self._unit_size
        return range(first, min(first + self._unit_size, self.n_slots))

    def by_unit(self, example_ids: Iterable[int]) -> list[list[int]]:
        """Share ids out by unit, both in ascending order."""
        return [list(some) for _, some in groupby(sorted(example_ids), key=lambda one: one // self._unit_size)]

    def table(self, name: str, example_ids: Iterable[int] | None = None) -> pa.Table:
        """Read a table of the store, or the rows of some examples, in the examples' order.

        Raises:
            StorageError: A file is missing or damaged.
        """
        return self._read(f"store/{name}", STORE[name], None if example_ids is None else list(example_ids))

    def ids(self, name: str) -> set[int]:
        """Return the examples of which a table of the store has rows."""
        with self._damage():
            columns = [_read_table(file, columns=["example_id"]) for file in self._files(f"store/{name}", None)]
        return {example_id for column in columns for example_id in column["example_id"].unique().to_pylist()}

    def attempts(self) -> pa.Table:
        """Read what came of every network that was trained.

        Raises:
            StorageError: The file is missing or damaged.
        """
        with self._damage():
            return _read_table(self.folder / ATTEMPTS_FILE, schema=ATTEMPTS)

    def specs(self, example_ids: Iterable[int] | None = None) -> list[Spec]:
        """Return the rows of `specs`.

        Raises:
            DataError: One of the examples is not in the dataset.
        """
        wanted = None if example_ids is None else list(example_ids)
        rows: list[Spec] = self.table("specs", wanted).to_pylist()
        there = {row["example_id"] for row in rows}
        if absent := [example_id for example_id in wanted or () if example_id not in there]:
            raise DataError(f"there is no example {absent[0]} in {self.folder}", hint="see its store/specs")
        return rows

    def weights(self, example_ids: Iterable[int]) -> dict[tuple[int, str], tuple[Layer, ...]]:
        """Return the layers of examples' networks, by example and "degraded" or "improved"."""
        table = self.table("weights", example_ids).combine_chunks()
        places = table.select(["example_id", "model", "n_outputs", "n_inputs"]).to_pylist()
        networks: dict[tuple[int, str], tuple[Layer, ...]] = {}
        for row, weight, bias in zip(places, _arrays(table["weight"]), _arrays(table["bias"]), strict=True):
            key = (row["example_id"], row["model"])
            layer = Layer(weight.reshape(row["n_outputs"], row["n_inputs"]), bias)
            networks[key] = (*networks.get(key, ()), layer)
        return networks

    def rows(self, example_ids: Iterable[int], part: str = "test") -> dict[int, StoredRows]:
        """Return examples' stored rows of "train", "validation" or "test"."""
        table = self._read("store/rows", STORE["rows"], list(example_ids), ("part", "==", part))
        return _by_example(table, table["label"].to_numpy() > 0)

    def unlisted(self, example_ids: Iterable[int]) -> dict[int, StoredRows]:
        """Return examples' rows of patterns that are not their own; all ask for a no."""
        table = self.table("unlisted", example_ids)
        return _by_example(table, np.zeros(table.num_rows, dtype=bool))

    def records(
        self, task: str, example_ids: Iterable[int] | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[str, TaskRow]]:
        """Yield the split and the columns of each example of a task.

        Raises:
            StorageError: A file is damaged.
        """
        wanted = None if example_ids is None else set(example_ids)
        for split in SPLITS:
            for file in self._files(f"{task}/{split}", wanted):
                with self._damage():
                    check_sealed(file)
                    for batch in pq.ParquetFile(file).iter_batches(batch_size=64, columns=columns):
                        for row in batch.to_pylist():
                            if wanted is None or row["example_id"] in wanted:
                                yield split, row

    def _read(self, name: str, schema: pa.Schema, wanted: list[int] | None, *also: tuple[str, str, str]) -> pa.Table:
        filters = None if wanted is None else [("example_id", "in", wanted), *also]
        with self._damage():
            tables = [_read_table(file, schema=schema, filters=filters) for file in self._files(name, wanted)]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def _files(self, name: str, wanted: Iterable[int] | None) -> list[Path]:
        if wanted is None:
            return sorted(self.folder.glob(f"{name}-*.parquet"))
        units = sorted({example_id // self._unit_size for example_id in wanted})
        files = [self.folder / f"{name}-{unit:05d}.parquet" for unit in units]
        return [file for file in files if file.is_file()]

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{self.folder}: {error}", hint="actlab verify tells what is damaged") from error


def _read_table(file: Path, **options: object) -> pa.Table:
    """Read a table of a file that is as it was sealed: hashed once, however many of its units' examples are read."""
    check_sealed(file)
    return pq.read_table(file, **options)


def _by_example(table: pa.Table, labels: Bool[np.ndarray, " n"]) -> dict[int, StoredRows]:
    sequences, patterns = table["sequence"].to_pylist(), table["pattern"].to_pylist()
    ids = table["example_id"].to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
    return {
        int(ids[first]): StoredRows(tokens_of(sequences[first:end]), labels[first:end], patterns[first:end])
        for first, end in pairwise(bounds)
        if first < end
    }


def _arrays(column: pa.ChunkedArray) -> list[np.ndarray]:
    """Return each list of a column as an array."""
    return [
        array
        for chunk in column.chunks
        for array in np.split(chunk.flatten().to_numpy().copy(), np.cumsum(chunk.value_lengths())[:-1])
    ]
