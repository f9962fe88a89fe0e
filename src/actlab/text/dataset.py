"""A token dataset as windows to train on, and the order in which they are read."""

# b window, t token, L context

import operator
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from actlab.backends.token_count import find_tokenizer, tokenizer_sha256
from actlab.backends.tokenizers import FastTokenizer
from actlab.formats.tokens import (
    SPLITS,
    map_ends,
    map_tokens,
    read_token_folder,
    refuse_other_tokenizer,
    refuse_strange_ids,
)
from actlab.ground.errors import ConfigError
from actlab.ground.options import as_path
from actlab.ground.seeds import derive_seed
from actlab.text.windows import Rows, document_rows, stream_rows

NOT_A_TARGET = -100
"""What torch's cross entropy leaves out."""

Indices = Sequence[int] | Int64[np.ndarray, " b"]


class Batch(NamedTuple):
    """Windows: the target of a token is the one after it, or -100."""

    input: Int64[Tensor, "b L"]
    target: Int64[Tensor, "b L"]


class MaskedBatch(NamedTuple):
    """Windows in which no document is to see another."""

    input: Int64[Tensor, "b L"]
    target: Int64[Tensor, "b L"]
    """-100 where the next token begins another document."""
    position_ids: Int64[Tensor, "b L"]
    """Counted from a document's first token in the window."""
    document_ids: Int64[Tensor, "b L"]
    """The document's number in its split; attention is allowed between equal ones. -1 is padding."""


class TextDataset(Dataset[tuple[Tensor, ...]]):
    """Windows of a split of a token dataset: `dataset[i]` is (input, target), the target shifted by one.

    Every token but the first is a target exactly once an epoch, whatever the stride: a window's targets are
    its last `stride` ones, what another window counts is -100. Boundaries between documents are ignored
    ("pack"), hidden ("mask": a window also has position and document ids), or kept ("doc": a row holds tokens
    of one document, padded with EOS, and the first token of each is no target).

    An epoch has `len(dataset)` windows. Indices from there on are those of the next epochs, whose windows
    begin elsewhere: nothing is to be set between epochs, and worker processes need not be told.

    Raises:
        DataError: The folder is no token dataset, damaged, or of another tokenizer.
        ConfigError: The split is empty or unknown, or the stride is longer than the context.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        context: int = 256,
        stride: int | None = None,
        boundaries: Literal["pack", "mask", "doc"] = "pack",
        seed: int = 0,
        tokenizer: FastTokenizer | str | os.PathLike[str] | None = None,
        *,
        random_phase: bool = True,
    ) -> None:
        """Open a dataset; a tokenizer (or its name) is compared with the one that made it.

        Without `random_phase`, every epoch has the first one's windows, and they begin at the first token.
        """
        self.folder: Path = as_path(folder)
        self.facts = read_token_folder(self.folder)
        self.split, self.context, self.seed = split, operator.index(context), seed
        self.boundaries = boundaries
        stride = self.context if stride is None else operator.index(stride)
        _check(split, self.context, stride, boundaries)
        if tokenizer is not None:
            loaded = find_tokenizer(os.fspath(tokenizer)) if isinstance(tokenizer, str | os.PathLike) else tokenizer
            refuse_other_tokenizer(self.folder, self.facts, tokenizer_sha256(loaded))
        refuse_strange_ids(self.folder, self.facts, split)
        if self.facts.n_tokens[split] < 2:
            raise ConfigError(
                f"the {split} split of {self.folder} has {self.facts.n_tokens[split]} tokens",
                hint="tokenise more text" if split == "train" else "tokenise with --validation 0.1",
            )
        self._map()
        phases = derive_seed(seed, "phase") if random_phase else None
        self._rows: Rows = (
            document_rows(self._ends, stride) if boundaries == "doc" else stream_rows(len(self._tokens), stride, phases)
        )

    def _map(self) -> None:
        self._ends = map_ends(self.folder, self.split)
        self._tokens = map_tokens(self.folder, self.facts, self.split)

    def __len__(self) -> int:
        return self._rows.n

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.batch([operator.index(index)]))

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the first epoch's windows in their order."""
        return (self[index] for index in range(len(self)))

    def __getitems__(self, indices: Indices) -> "Windows":
        """Return several windows, read at once: DataLoader calls this; see `whole` for its `collate_fn`."""
        return Windows(self.batch(indices))

    def batch(self, indices: Indices) -> Batch | MaskedBatch:
        """Return several windows as one tensor each for input, target and what else there is.

        Raises:
            IndexError: An index lies before the first epoch; -1 is that epoch's last window.
            TypeError: An index is no whole number.
        """
        ranges = self._rows.ranges(_whole_numbers(indices, len(self)))
        start_b = np.maximum(ranges.low_b, ranges.last_b - self.context)
        place_bt = start_b[:, None] + np.arange(self.context + 1)
        is_short = bool((start_b + self.context > ranges.high_b).any())
        ids_bt = self._tokens[np.minimum(place_bt, ranges.high_b[:, None]) if is_short else place_bt].astype(np.int64)
        if is_short:
            ids_bt[place_bt > ranges.high_b[:, None]] = self.facts.eos_id
        target_bt = ids_bt[:, 1:].copy()  # who masks the input in place keeps the targets
        is_partly_seen = bool((ranges.last_b - ranges.first_b < self.context - 1).any())
        if is_partly_seen or is_short or self.boundaries == "mask":
            counts_bt = (place_bt[:, 1:] >= ranges.first_b[:, None]) & (place_bt[:, 1:] <= ranges.last_b[:, None])
            target_bt = np.where(counts_bt, target_bt, NOT_A_TARGET)
        if self.boundaries != "mask":
            return Batch(torch.from_numpy(ids_bt)[:, :-1], torch.from_numpy(target_bt))
        return self._masked(place_bt, ids_bt, target_bt)

    def _masked(
        self, place_bt: Int[np.ndarray, "b t"], ids_bt: Int[np.ndarray, "b t"], target_bt: Int[np.ndarray, "b L"]
    ) -> MaskedBatch:
        """Add which document each token belongs to, and drop the targets that lie in another."""
        # of another type than the ends, searchsorted would copy all ends
        document_bt = np.searchsorted(self._ends, place_bt.astype(np.uint64), side="right")
        document_bt = np.where(place_bt < len(self._tokens), document_bt, -1)
        crosses_bt = document_bt[:, 1:] != document_bt[:, :-1]
        target_bt = np.where(crosses_bt, NOT_A_TARGET, target_bt)
        step_t = np.arange(self.context)
        begins_bt = np.where(np.pad(crosses_bt[:, :-1], ((0, 0), (1, 0))), step_t, 0)
        position_bt = step_t - np.maximum.accumulate(begins_bt, axis=1)
        return MaskedBatch(*map(torch.from_numpy, (ids_bt[:, :-1], target_bt, position_bt, document_bt[:, :-1])))

    def __getstate__(self) -> dict[str, object]:
        """Leave the memory maps behind: a worker process maps the files itself."""
        return {**vars(self), "_tokens": None, "_ends": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Map the files again."""
        vars(self).update(state)
        self._map()


class Windows(Sequence[tuple[Tensor, ...]]):
    """A batch that any collate function can take apart, and `whole` need not."""

    def __init__(self, batch: Batch | MaskedBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch.input)

    def __getitem__(self, index: Any) -> Any:
        """Return one window."""
        return tuple(part[index] for part in self.batch)


def whole(windows: Windows) -> Batch | MaskedBatch:
    """Return a batch as it was read: the `collate_fn` for `DataLoader(dataset, collate_fn=whole)`."""
    return windows.batch


class EpochSampler(Sampler[list[int]]):
    """The batches of one epoch in an order of its own, from any step on: a DataLoader's `batch_sampler`.

    The order depends on the seed and the epoch alone, so a run that starts at step k reads what an
    uninterrupted one reads from step k. It holds 8 bytes a window.

    Raises:
        ConfigError: The batch size is below 1, or the epoch or the step below 0.
    """

    def __init__(
        self, dataset: TextDataset, batch_size: int, seed: int = 0, epoch: int = 0, start_step: int = 0
    ) -> None:
        self._n = len(dataset)
        self._batch_size = _at_least(1, batch_size, "a batch size")
        self._seed = seed
        self._epoch = _at_least(0, epoch, "an epoch")
        self._start_step = _at_least(0, start_step, "a start step")

    def __len__(self) -> int:
        """Return how many batches are left."""
        return max(0, -(-self._n // self._batch_size) - self._start_step)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(derive_seed(self._seed, "order", self._epoch))
        order = self._epoch * self._n + rng.permutation(self._n)
        for start in range(self._start_step * self._batch_size, self._n, self._batch_size):
            yield order[start : start + self._batch_size].tolist()


def _whole_numbers(indices: Indices, n: int) -> Int64[np.ndarray, " b"]:
    """Return windows' indices, those below 0 counted back from the first epoch's end."""
    index_b = np.asarray(indices)
    if index_b.size and index_b.dtype.kind not in "iu":
        raise TypeError(f"a window's index is a whole number, not {index_b.dtype}")
    index_b = np.where(index_b < 0, index_b.astype(np.int64) + n, index_b.astype(np.int64))
    if (index_b < 0).any():
        raise IndexError(f"there are {n} windows an epoch")
    return index_b


def _at_least(least: int, value: int, what: str) -> int:
    value = operator.index(value)
    if value < least:
        raise ConfigError(f"{what} cannot be {value}", hint=f"use {least} or more")
    return value


def _check(split: str, context: int, stride: int, boundaries: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"there is no split {split!r}", hint="use " + " or ".join(SPLITS))
    if boundaries not in ("pack", "mask", "doc"):
        raise ConfigError(f"boundaries cannot be {boundaries!r}", hint="use pack, mask or doc")
    if context < 1:
        raise ConfigError(f"a context of {context} tokens is none", hint="use 1 or more")
    if not 1 <= stride <= context:
        raise ConfigError(
            f"a stride of {stride} does not fit a context of {context}: it would skip tokens", hint="use 1 to context"
        )
