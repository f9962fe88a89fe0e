"""Sentence feature files: `sentence_000001.npz`, one a sentence, one row a token; read by row, layer and feature.

`docs/formats.md` is the normative page.
"""

# c configuration (a layer and its SAE), r row, d model width, f feature

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from actlab.formats.npz import NpzReader, write_npz
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.manifest import fingerprint, read_manifest, stored_files

log = logging.getLogger("actlab")

KIND = "sentence-features"
_NAME = re.compile(r"sentence_(\d+)\.npz")
_SPARSE = ("activations_data", "activations_indices", "activations_indptr", "activations_shape")
_FINAL_KEYS = ("embeddings", "hidden_states", "activations", "labels", "sentence_indices", "layers", "average_l0s")
_HINT = "make it again with actlab compute-features, or take it away"
_MOST_DIM = 1 << 32


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
                raise DataError(f"{self.path}: its CSR arrays do not fit together", hint=_HINT)
            inside = (np.arange(start, stop),)
            columns = self._reader.pick("activations_indices", inside)
            if columns.size and not (columns.min() >= 0 and columns.max() < self.facts.n_features):
                raise DataError(f"{self.path}: a feature index outside 0-{self.facts.n_features - 1}", hint=_HINT)
            if np.unique(columns).size < columns.size:
                raise DataError(f"{self.path}: a feature stands twice in one row", hint=_HINT)
            dense[place, columns] = self._reader.pick("activations_data", inside)
        return dense if features is None else dense[:, features]

    @cached_property
    def text(self) -> str:
        """The sentence; empty where the file has none."""
        return str(self["sentence"]) if "sentence" in self else ""

    @cached_property
    def token_texts(self) -> list[str]:
        """What each row's token adds to the sentence: fragments are prefixes."""
        fragments = [str(one) for one in self["fragments"]] if "fragments" in self else []
        before = ["", *fragments][: len(fragments)]
        return [
            fragment[len(last) :] if fragment.startswith(last) else fragment
            for fragment, last in zip(fragments, before, strict=True)
        ]

    def _read_facts(self) -> SentenceFacts:
        is_final = self._numbers("is_final_token", "b")
        if not is_final.any():
            raise DataError(f"{self.path}: no row is_final_token", hint=_HINT)
        layers = self._numbers("layers", "iu")
        l0s = self._numbers("average_l0s", "iuf") if "average_l0s" in self._reader else np.full(len(layers), -1)
        number = _NAME.fullmatch(self.path.name)
        index = self._scalar("sentence_index") if "sentence_index" in self._reader else None
        is_sparse = "activations" not in self._reader and "activations_data" in self._reader
        n_rows, n_configs = len(is_final), len(layers)
        hidden_dim = self._shape("embeddings", 2)[1]
        if is_sparse:
            shape = self._numbers("activations_shape", "iu")
            activations = tuple(shape.tolist())
            self._check_sparse(n_configs * n_rows)
        else:
            activations = self._shape("activations", 3)
        expected = {
            "embeddings": (self._shape("embeddings", 2), (n_rows, hidden_dim)),
            "hidden_states": (self._shape("hidden_states", 3), (n_configs, n_rows, hidden_dim)),
            "activations": (activations, (n_configs, n_rows, activations[-1])),
            "average_l0s": (l0s.shape, layers.shape),
        }
        for name, (shape_there, shape_expected) in expected.items():
            if shape_there != shape_expected:
                raise DataError(
                    f"{self.path}: {name} is {list(shape_there)}, and not {list(shape_expected)} as the rest says",
                    hint=_HINT,
                )
        pairs = list(zip(layers.tolist(), l0s.tolist(), strict=True))
        if not pairs or len(set(pairs)) < len(pairs) or min(layers) < 0 or not 0 < activations[-1] < _MOST_DIM:
            raise DataError(f"{self.path}: a layer and average_l0 stands twice, or there is none", hint=_HINT)
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

    def _check_sparse(self, n_rows: int) -> None:
        data, indices, indptr = (self._shape(name, 1)[0] for name in _SPARSE[:3])
        kinds = [self._reader.header(name).dtype.kind for name in _SPARSE[1:3]]
        if data != indices or indptr != n_rows + 1 or not set(kinds) <= set("iu"):
            raise DataError(f"{self.path}: its CSR arrays do not fit together", hint=_HINT)

    def _shape(self, name: str, n_dimensions: int) -> tuple[int, ...]:
        header = self._reader.header(name)
        if len(header.shape) != n_dimensions:
            raise DataError(f"{self.path}: {name} has {len(header.shape)} dimensions, not {n_dimensions}", hint=_HINT)
        if header.dtype.kind not in ("f" if n_dimensions > 1 else "fiu"):
            raise DataError(f"{self.path}: {name} holds {header.dtype}, not floats", hint=_HINT)
        return header.shape

    def _numbers(self, name: str, kinds: str) -> Shaped[np.ndarray, " n"]:
        values = self._reader.array(name)
        if values.ndim != 1 or values.dtype.kind not in kinds or not np.isfinite(values).all():
            raise DataError(f"{self.path}: {name} is {values.dtype} {list(values.shape)}", hint=_HINT)
        return values

    def _scalar(self, name: str) -> float:
        value = self._reader.array(name)
        if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise DataError(f"{self.path}: {name} is no number", hint=_HINT)
        return float(value.reshape(()))


class Lost(NamedTuple):
    """A file that is not used, and why."""

    name: str
    reason: str

    @classmethod
    def by(cls, path: Path, why: object) -> "Lost":
        """Return the file with its reason, which names no folder: what is written depends on no place."""
        return cls(path.name, str(why).replace(str(path), path.name))


@dataclass(frozen=True)
class SentenceFolder(Sequence[Sentence]):
    """The sentence files of a folder that are good, alike, and in the order of their numbers."""

    path: Path
    sentences: tuple[Sentence, ...]
    lost: tuple[Lost, ...]

    def __getitem__(self, place: Any) -> Any:
        return self.sentences[place]

    def __len__(self) -> int:
        return len(self.sentences)

    def as_input(self) -> dict[str, Any]:
        """Return the manifest's entry for these files: their checksums stand for their bytes."""
        manifest = read_manifest(self.path)
        content = [[sentence.path.name, sentence.checksums] for sentence in self.sentences]
        entry = {"role": "sentences", "name": self.path.resolve().name, "files": len(self.sentences)}
        made = {} if manifest is None else {"made_by": manifest["fingerprint"]}
        return entry | {"checksums_sha256": fingerprint(content)} | made

    @property
    def facts(self) -> SentenceFacts:
        """What the files have in common: layers, SAEs, sizes."""
        return self.sentences[0].facts

    def config_of(self, layer: int, average_l0: int | None = None) -> int:
        """Return the place of a layer's SAE in the files.

        Raises:
            ConfigError: The layer is not there, or has several SAEs and none is chosen, or not that one.
        """
        places = [place for place, of in enumerate(self.facts.layers) if of == layer]
        if not places:
            known = ", ".join(map(str, sorted(set(self.facts.layers))))
            raise ConfigError(f"Layer {layer} not found in data", hint=f"the files have the layers {known}")
        l0s = {self.facts.average_l0s[place]: place for place in places}
        known = ", ".join(map(str, sorted(l0s)))
        if average_l0 is None and len(l0s) > 1:
            raise ConfigError(
                f"layer {layer} has {len(l0s)} SAEs, and none is chosen", hint=f"give --average-l0, one of {known}"
            )
        if average_l0 is not None and average_l0 not in l0s:
            raise ConfigError(
                f"average_l0 mismatch: layer {layer} has no SAE of average_l0 {average_l0}", hint=f"it has {known}"
            )
        return next(iter(l0s.values())) if average_l0 is None else l0s[average_l0]

    def hidden_config(self, layer: int) -> int:
        """Return a place of a layer's hidden states: they do not depend on the SAE."""
        if layer not in self.facts.layers:
            self.config_of(layer)
        return self.facts.layers.index(layer)


def sentence_name(index: int) -> str:
    """Return the name of the file of the sentence with this index; numbers widen past 999999.

    >>> sentence_name(0)
    'sentence_000001.npz'
    """
    return f"sentence_{index + 1:06d}.npz"


def sentence_paths(folder: str | Path) -> list[Path]:
    """Return a folder's sentence files in the order of their numbers.

    Raises:
        ConfigError: There is none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", hint="give the folder that actlab compute-features wrote")
    found = {}
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            found[int(match[1]), path.name] = path
    if not found:
        inside = "; it is still being made" if folder.name.endswith(".partial") else ""
        raise ConfigError(
            f"No sentence_*.npz files found in {folder}{inside}",
            hint="check --input; layer-wise files are another form",
        )
    return [found[key] for key in sorted(found)]


def load_all_sentences(folder: str | Path) -> SentenceFolder:
    """Open the sentence files of a folder, reading only what describes them.

    A file that is damaged, stands twice for one sentence, or has other layers or sizes than most is left out,
    logged and listed in `lost`.

    Raises:
        ConfigError: The folder has none.
        DataError: No file is good, or they are of several makes and none is most.
    """
    opened: list[Sentence] = []
    lost: list[Lost] = []
    missing, changed = _against_manifest(Path(folder).expanduser())
    lost += [Lost(name, f"{name} is in the manifest and not in the folder") for name in missing]
    for path in sentence_paths(folder):
        try:
            if path.name in changed:
                raise DataError(f"{path} is not the file that was sealed", hint=_HINT)
            opened.append(Sentence(path))
        except DataError as error:
            lost.append(Lost.by(path, error))
    if not opened:
        raise DataError(f"none of the {len(lost)} files is good; {lost[0].reason}", hint=_HINT)
    shapes = [sentence.facts.shape for sentence in opened]
    usual, n_usual = Counter(shapes).most_common(1)[0]
    if 2 * n_usual <= len(shapes) and len(shapes) > 1:
        other = next(sentence for sentence in opened if sentence.facts.shape != usual)
        raise DataError(
            f"{other.path} has other layers or sizes than half of the files",
            hint="keep the files of one run in a folder",
        )
    kept: dict[int, Sentence] = {}
    for sentence in opened:
        if sentence.facts.shape != usual:
            lost.append(Lost.by(sentence.path, f"{sentence.path} has other layers or sizes than most files"))
        elif sentence.facts.index in kept:
            first = kept[sentence.facts.index].path.name
            lost.append(Lost.by(sentence.path, f"{sentence.path} is sentence {sentence.facts.index}, as {first} is"))
        else:
            kept[sentence.facts.index] = sentence
    for one in lost:
        log.warning("left out: %s", one.reason)
    return SentenceFolder(Path(folder).expanduser(), tuple(kept.values()), tuple(lost))


def _against_manifest(folder: Path) -> tuple[list[str], set[str]]:
    """Name the sentence files that a sealed folder lacks, and those that are there in another size, or not its own."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["kind"] != KIND:
        return [], set()
    sealed = {stored.path: stored.bytes for stored in stored_files(manifest) if _NAME.fullmatch(stored.path)}
    there = {path.name: path.stat().st_size for path in folder.glob("sentence_*.npz")}
    changed = {name for name, size in there.items() if sealed.get(name) != size}
    return sorted(sealed.keys() - there.keys()), changed


class FinalTokenData(Mapping[str, Any]):
    """The final rows of all sentences; each array is read when it is first asked for."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self._sentences = sentences
        self._read: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in _FINAL_KEYS:
            raise KeyError(key)
        if key not in self._read:
            self._read[key] = self._gather(key)
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_FINAL_KEYS)

    def __len__(self) -> int:
        return len(_FINAL_KEYS)

    def _gather(self, key: str) -> Shaped[np.ndarray, "n ..."]:
        facts = [sentence.facts for sentence in self._sentences]
        if key == "labels":
            return as_labels([one.label for one in facts])
        if key == "sentence_indices":
            return np.array([one.index for one in facts])
        if key in ("layers", "average_l0s"):
            return np.array(getattr(facts[0], key))
        configs = range(len(facts[0].layers))
        rows = []
        for sentence in self._sentences:
            final = np.array([sentence.facts.final_row])
            with sentence:
                if key == "embeddings":
                    rows.append(sentence.embeddings(final)[0])
                elif key == "hidden_states":
                    rows.append(sentence.hidden(configs, final)[:, 0])
                else:
                    rows.append(np.stack([sentence.latents(config, final)[0] for config in configs]))
        return np.stack(rows)


def get_final_token_data(sentences: Sequence[Sentence]) -> FinalTokenData:
    """Return the final rows of sentences: `embeddings` [n, d], `hidden_states` [n, c, d], `labels` [n] and more.

    Raises:
        DataError: There is no sentence.
    """
    if not len(sentences):
        raise DataError("there is no sentence", hint="load some: load_all_sentences(folder)")
    return FinalTokenData(sentences)


def as_labels(labels: Sequence[float]) -> Shaped[np.ndarray, " n"]:
    """Return labels as int64 where all are whole, else as float64."""
    values = np.asarray(labels, dtype=np.float64)
    return values.astype(np.int64) if (values == np.round(values)).all() else values


@dataclass(frozen=True)
class NewSentence:
    """What is written of one sentence."""

    index: int
    text: str
    label: float
    fragments: Sequence[str]
    """The sentence up to and with each row's token."""
    token_positions: Sequence[int]
    """Places among the model's tokens, BOS counted."""
    fragment_lengths: Sequence[int]
    """Tokens in each fragment, BOS not counted."""
    is_final: Bool[np.ndarray, " r"]
    embeddings_rd: Float[np.ndarray, "r d"]
    hidden_crd: Float[np.ndarray, "c r d"]
    layers: Sequence[int]
    average_l0s: Sequence[int]
    latents: Any
    """A `scipy.sparse.csr_array`, [configuration and row, feature]."""


def write_sentence(file: BinaryIO, new: NewSentence, *, sparse: bool, dtype: str) -> None:
    """Write one sentence file: dense and deflated as in the document, or sparse and stored.

    Raises:
        DataError: A value is too large for the dtype.
    """

    def narrowed(what: str, values: Any) -> Any:
        with np.errstate(over="ignore"):
            kept = values.astype(dtype, copy=False)
        if not np.isfinite(kept).all():
            largest = float(np.abs(values).max())
            raise DataError(
                f"sentence {new.index}: {what} go up to {largest:.0f}, too large for {dtype}",
                hint="use --dtype float32",
            )
        return kept

    n_configs, n_rows, hidden_dim = new.hidden_crd.shape
    n_features = new.latents.shape[1]
    label = np.array(int(new.label) if float(new.label).is_integer() else new.label)
    arrays: dict[str, Any] = {
        "sentence": np.array(new.text),
        "concept_strength_label": label,
        "sentence_index": np.array(new.index, dtype=np.int64),
        "num_features": np.array(n_features, dtype=np.int64),
        "hidden_dim": np.array(hidden_dim, dtype=np.int64),
        "fragments": np.array(list(new.fragments), dtype=np.str_),
        "token_positions": np.array(new.token_positions, dtype=np.int64),
        "is_final_token": np.array(new.is_final, dtype=bool),
        "fragment_lengths": np.array(new.fragment_lengths, dtype=np.int64),
        "layers": np.array(new.layers, dtype=np.int64),
        "average_l0s": np.array(new.average_l0s, dtype=np.int64),
        "embeddings": narrowed("embeddings", new.embeddings_rd),
        "hidden_states": narrowed("hidden states", new.hidden_crd),
    }
    if sparse:
        arrays |= {
            "activations_data": narrowed("SAE activations", new.latents.data),
            "activations_indices": new.latents.indices.astype(np.int32),
            "activations_indptr": new.latents.indptr.astype(np.int64),
            "activations_shape": np.array([n_configs, n_rows, n_features], dtype=np.int64),
        }
    else:
        dense = narrowed("SAE activations", new.latents.toarray())
        arrays["activations"] = dense.reshape(n_configs, n_rows, n_features)
    write_npz(file, arrays, compressed=not sparse)
