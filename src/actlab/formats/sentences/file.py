"""One sentence file, read by row, layer and feature."""

# c configuration (a layer and its SAE), r row, d model width, f feature

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.formats.npz import NpzReader
from actlab.ground.errors import DataError

KIND = "sentence-features"
NAME = re.compile(r"sentence_(\d+)\.npz")
HINT = "make it again with actlab compute-features, or take it away"
_SPARSE = ("activations_data", "activations_indices", "activations_indptr", "activations_shape")
WRITTEN = {
    *("sentence", "concept_strength_label", "sentence_index", "num_features", "hidden_dim", "fragments"),
    *("token_positions", "is_final_token", "fragment_lengths", "layers", "average_l0s", "embeddings"),
    *("hidden_states", "activations", *_SPARSE),
}
"""Every array that actlab writes into a sentence file."""
_MOST_DIM = 1 << 32


def sentence_name(index: int) -> str:
    """Return the name of the file of the sentence with this index; numbers widen past 999999.

    >>> sentence_name(0)
    'sentence_000001.npz'
    """
    return f"sentence_{index + 1:06d}.npz"


@dataclass(frozen=True)
class SentenceFacts:
    """What a sentence file says besides its large arrays."""

    index: int
    label: float
    n_rows: int
    final_row: int
    layers: tuple[int, ...]
    """Of each configuration."""
    average_l0s: tuple[int, ...]
    n_features: int
    hidden_dim: int
    is_sparse: bool

    @property
    def shape(self) -> tuple[Any, ...]:
        """What must be alike in all files of a folder."""
        return self.layers, self.average_l0s, self.n_features, self.hidden_dim


class Endings(NamedTuple):
    """Where rows of a sentence file end."""

    text: str
    """The sentence; empty where the file has none."""
    n_tokens: Int[np.ndarray, " r"]
    """Tokens up to and with each row's, those in front not counted; rows, where the file does not say."""
    tokens: tuple[str, ...] | None
    """The text of each row's token; None where the file does not say."""


class Sentence(Mapping[str, Any]):
    """One sentence file, whose arrays are read when they are asked for.

    As a mapping it has the file's own keys, each read whole; `activations` comes dense from both layouts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = NpzReader(path)
        with self._reader:
            self.facts = self._read_facts()

    def __enter__(self) -> "Sentence":
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def __getitem__(self, key: str) -> Any:
        with self._reader:
            if key == "activations" and self.facts.is_sparse:
                rows = np.arange(self.facts.n_rows)
                return np.stack([self.latents(c, rows) for c in range(len(self.facts.layers))])
            if key not in self:
                raise KeyError(key)
            return self._reader.array(key, whole=True)

    def __iter__(self) -> Iterator[str]:
        names = [name for name in self._reader.names if name not in _SPARSE]
        return iter([*names, "activations"] if self.facts.is_sparse else names)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, key: object) -> bool:
        return key in list(iter(self))

    @property
    def arrays(self) -> list[str]:
        """The names of the file's arrays."""
        return self._reader.names

    @property
    def checksums(self) -> list[tuple[str, int, int]]:
        """Name, bytes and checksum of each array: what the file holds, without reading it."""
        return self._reader.checksums

    def problems(self) -> Iterator[str]:
        """Read every number, in bounded pieces, and yield what is wrong: checksums, values that are not finite."""
        with self._reader:
            for name in self._reader.names:
                try:
                    if not all(np.isfinite(part).all() for part in self._reader.parts(name) if part.dtype.kind == "f"):
                        yield f"{self.path}: {name} holds NaN or inf"
                except DataError as error:
                    yield str(error)

    def embeddings(self, rows: Int[np.ndarray, " r"]) -> Float[np.ndarray, "r d"]:
        """Read rows of the embeddings. Inside `with sentence:`."""
        return self._reader.pick("embeddings", (rows[:, None], np.arange(self.facts.hidden_dim)))

    def hidden(self, configs: Sequence[int], rows: Int[np.ndarray, " r"]) -> Float[np.ndarray, "c r d"]:
        """Read rows of some configurations' hidden states. Inside `with sentence:`."""
        index = (np.asarray(configs)[:, None, None], rows[:, None], np.arange(self.facts.hidden_dim))
        return self._reader.pick("hidden_states", index)

    def latents(
        self, config: int, rows: Int[np.ndarray, " r"], features: Int[np.ndarray, " f"] | None = None
    ) -> Float[np.ndarray, "r f"]:
        """Read rows of one configuration's SAE activations, of all features or of some. Inside `with sentence:`."""
        wanted = np.arange(self.facts.n_features) if features is None else features
        if not self.facts.is_sparse:
            return self._reader.pick("activations", (np.int64(config), rows[:, None], wanted))
        dense = np.zeros((len(rows), self.facts.n_features), dtype=self._reader.header("activations_data").dtype)
        first = config * self.facts.n_rows
        for place, row in enumerate(rows.tolist()):
            start, stop = self._reader.pick("activations_indptr", (np.arange(first + row, first + row + 2),)).tolist()
            if not 0 <= start <= stop <= self._reader.header("activations_data").shape[0]:
                raise DataError(f"{self.path}: its CSR arrays do not fit together", hint=HINT)
            inside = (np.arange(start, stop),)
            columns = self._reader.pick("activations_indices", inside)
            if columns.size and not (columns.min() >= 0 and columns.max() < self.facts.n_features):
                raise DataError(f"{self.path}: a feature index outside 0-{self.facts.n_features - 1}", hint=HINT)
            if np.unique(columns).size < columns.size:
                raise DataError(f"{self.path}: a feature stands twice in one row", hint=HINT)
            dense[place, columns] = self._reader.pick("activations_data", inside)
        return dense if features is None else dense[:, features]

    def endings(self, rows: Int[np.ndarray, " r"]) -> Endings:
        """Read the sentence, and where some of its rows end. Inside `with sentence:`."""
        n_rows, read = self.facts.n_rows, self._reader
        lengths = np.arange(1, n_rows + 1)
        if "fragment_lengths" in read:
            said = read.array("fragment_lengths", whole=True)
            lengths = said if said.shape == (n_rows,) and said.dtype.kind in "iu" else lengths
        tokens = None
        if "fragments" in read and (np.diff(lengths, prepend=0)[rows] == 1).all():  # else the row before is not there
            needed = np.unique(np.concatenate([rows, rows - 1]).clip(min=0))
            fragments = dict(zip(needed.tolist(), map(str, read.pick("fragments", (needed,))), strict=True)) | {-1: ""}
            pairs = [(fragments[row], fragments[row - 1]) for row in rows.tolist()]
            if all(fragment.startswith(before) for fragment, before in pairs):
                tokens = tuple(fragment[len(before) :] for fragment, before in pairs)
        return Endings(self.text, lengths[rows].astype(np.int64), tokens)

    @cached_property
    def text(self) -> str:
        """The sentence; empty where the file has none."""
        return str(self["sentence"]) if "sentence" in self else ""

    @cached_property
    def token_texts(self) -> tuple[str, ...]:
        """What each row's token adds to the sentence: fragments are prefixes."""
        fragments = [str(one) for one in self["fragments"]] if "fragments" in self else []
        before = ["", *fragments][: len(fragments)]
        return tuple(
            fragment[len(last) :] if fragment.startswith(last) else fragment
            for fragment, last in zip(fragments, before, strict=True)
        )

    def _read_facts(self) -> SentenceFacts:
        is_final = self._numbers("is_final_token", "b")
        layers = self._numbers("layers", "iu")
        l0s = self._numbers("average_l0s", "iuf") if "average_l0s" in self._reader else np.full(len(layers), -1)
        number = NAME.fullmatch(self.path.name)
        index = self._scalar("sentence_index") if "sentence_index" in self._reader else None
        is_sparse = "activations" not in self._reader and "activations_data" in self._reader
        n_rows, n_configs = len(is_final), len(layers)
        hidden_dim = self._shape("embeddings", 2)[1]
        activations = self._sparse_shape(n_configs * n_rows) if is_sparse else self._shape("activations", 3)
        shapes = {
            "embeddings": (self._shape("embeddings", 2), (n_rows, hidden_dim)),
            "hidden_states": (self._shape("hidden_states", 3), (n_configs, n_rows, hidden_dim)),
            "activations": (activations, (n_configs, n_rows, activations[-1])),
            "average_l0s": (l0s.shape, layers.shape),
        }
        texts = {"sentence": (), "fragments": (n_rows,)}
        headers = {name: self._reader.header(name) for name in texts if name in self._reader}
        pairs = set(zip(layers.tolist(), l0s.tolist(), strict=False))
        wrong = [
            *(["no row is_final_token"] if not is_final.any() else []),
            *(
                f"{name} is {header.dtype} {list(header.shape)}, not text"
                for name, header in headers.items()
                if header.dtype.kind != "U" or header.shape != texts[name]
            ),
            *(
                f"{name} is {list(there)}, and not {list(expected)} as the rest says"
                for name, (there, expected) in shapes.items()
                if there != expected
            ),
            *(
                ["a layer and average_l0 stands twice, or there is none"]
                if not pairs or len(pairs) < n_configs or min(layers) < 0 or not 0 < activations[-1] < _MOST_DIM
                else []
            ),
        ]
        if wrong:
            raise DataError(f"{self.path}: {wrong[0]}", hint=HINT)
        return SentenceFacts(
            index=int(index) if index is not None else max(0, int(number[1]) - 1) if number else 0,
            label=self._scalar("concept_strength_label"),
            n_rows=n_rows,
            final_row=int(is_final.argmax()),
            layers=tuple(map(int, layers)),
            average_l0s=tuple(map(int, l0s)),
            n_features=activations[-1],
            hidden_dim=hidden_dim,
            is_sparse=is_sparse,
        )

    def _sparse_shape(self, n_rows: int) -> tuple[int, ...]:
        shape = tuple(self._numbers("activations_shape", "iu").tolist())
        data, indices, indptr = (self._shape(name, 1)[0] for name in _SPARSE[:3])
        kinds = [self._reader.header(name).dtype.kind for name in _SPARSE[1:3]]
        if len(shape) != 3 or data != indices or indptr != n_rows + 1 or not set(kinds) <= set("iu"):
            raise DataError(f"{self.path}: its CSR arrays do not fit together", hint=HINT)
        return shape

    def _shape(self, name: str, n_dimensions: int) -> tuple[int, ...]:
        header = self._reader.header(name)
        if len(header.shape) != n_dimensions or header.dtype.kind not in ("f" if n_dimensions > 1 else "fiu"):
            raise DataError(
                f"{self.path}: {name} is {header.dtype} {list(header.shape)}, not floats in {n_dimensions} dimensions",
                hint=HINT,
            )
        return header.shape

    def _numbers(self, name: str, kinds: str) -> Shaped[np.ndarray, " n"]:
        values = self._reader.array(name)
        if values.ndim != 1 or values.dtype.kind not in kinds or not np.isfinite(values).all():
            raise DataError(f"{self.path}: {name} is {values.dtype} {list(values.shape)}", hint=HINT)
        return values

    def _scalar(self, name: str) -> float:
        value = self._reader.array(name)
        if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise DataError(f"{self.path}: {name} is no number", hint=HINT)
        return float(value.reshape(()))
