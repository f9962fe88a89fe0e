"""The tokens of a run, window by window."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from actlab.backends.gpt_trainer import Vocabulary
from actlab.backends.token_count import find_tokenizer
from actlab.backends.tokenizers import FastTokenizer
from actlab.formats.tokens import KIND, SPLITS, TOKENIZER
from actlab.ground.errors import DataError
from actlab.ground.integrity import check_sealed, sealed_manifest
from actlab.ground.manifest import METADATA, InputEntry, Stored, stored_files
from actlab.ground.seeds import derive_seed
from actlab.text.dataset import Batch, EpochSampler, TextDataset
from actlab.text.train_gpt.config import TrainGptConfig

_READ = (METADATA, *(f"{split}.{kind}" for split in SPLITS for kind in ("bin", "idx")))
_EPOCHS = 4
_LEAST_STEPS = 400
"""On 150,000 tokens of template recipes `tiny` came to a perplexity on held-out text of
45.7 after 100 steps, 2.7 after 300 (2 epochs) and 2.2 after 500; an interpolated Kneser-Ney bigram has 10.3."""


class Source(NamedTuple):
    """The token dataset of a run."""

    stored: dict[str, Stored]
    """Its files by their paths, as the manifest names them."""
    tokenizer: FastTokenizer
    train: TextDataset
    val: TextDataset | None
    """None where nothing was held out."""

    @property
    def prefix_ids(self) -> list[int]:
        """What a text begins with: BOS, or the end of the text before it."""
        return self.train.facts.prefix_ids or [self.train.facts.eos_id]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the model has to know of the tokenizer."""
        return Vocabulary(self.train.facts.vocab_size, self.tokenizer.bos_token_id, self.train.facts.eos_id)

    def inputs(self) -> list[InputEntry]:
        """Return the entries of what is read for the manifest."""
        entries = [self.stored[name] for name in _READ]
        return [{"role": "tokens", "name": one.path, "bytes": one.bytes, "sha256": one.sha256} for one in entries]


def open_source(config: TrainGptConfig) -> Source:
    """Open a token dataset with the tokenizer that lies in it.

    Raises:
        ActlabError: It is none, or damaged, or has nothing to predict.
    """
    folder = config.input
    stored = _whole_files(folder)
    tokenizer = find_tokenizer(str(folder.absolute() / TOKENIZER))
    seed = derive_seed(config.seed, "windows")
    train = TextDataset(folder, "train", config.context, None, config.boundaries, seed, tokenizer)
    if not len(train):
        raise DataError(f"no document of {folder} has a token to predict", hint="tokenise longer texts")
    return Source(stored, tokenizer, train, _held_out(folder, train, config))


def _held_out(folder: Path, train: TextDataset, config: TrainGptConfig) -> TextDataset | None:
    if train.facts.n_tokens["val"] < 2:
        return None
    val = TextDataset(folder, "val", config.context, None, config.boundaries, random_phase=False)
    return val if len(val) else None


def _whole_files(folder: Path) -> dict[str, Stored]:
    """Return what a token dataset's manifest names, by its path, compared with the files.

    Raises:
        DataError: It is no token dataset, or a file is missing.
        StorageError: A file is not the one that was written.
    """
    manifest = sealed_manifest(folder)
    if manifest is None or manifest["kind"] != KIND:
        raise DataError(f"{folder} is no token dataset", hint="make one with actlab tokenize-text DIR --output DIR")
    stored = {one.path: one for one in stored_files(manifest)}
    problems = [f"{name}: not in the manifest" for name in _READ if name not in stored]
    problems += [f"{path}: missing" for path in stored if not (folder / path).is_file()]
    if problems:
        hint = f"actlab verify {folder} tells all; make it again with actlab tokenize-text --overwrite"
        raise DataError(f"{folder} is damaged: {problems[0]}", hint=hint)
    for path in stored:
        check_sealed(folder / path)
    return stored


def steps_an_epoch(source: Source, batch_size: int) -> int:
    """Return the batches of an epoch, a smaller last one included."""
    return -(-len(source.train) // batch_size)


def count_steps(source: Source, config: TrainGptConfig) -> int:
    """Return the steps of a run, given or counted from its epochs."""
    if config.steps is not None:
        return config.steps
    an_epoch = steps_an_epoch(source, config.batch_size)
    if config.epochs is not None:
        return max(1, round(config.epochs * an_epoch))
    return max(_LEAST_STEPS, _EPOCHS * an_epoch)


def training_batches(source: Source, config: TrainGptConfig, first_step: int) -> Iterator[Batch]:
    """Yield batches without end, from a step of an uninterrupted run on."""
    epoch, step = divmod(first_step, steps_an_epoch(source, config.batch_size))
    while True:
        for indices in EpochSampler(source.train, config.batch_size, source.train.seed, epoch, step):
            batch = source.train.batch(indices)
            assert isinstance(batch, Batch)
            yield batch
        epoch, step = epoch + 1, 0


def validation_batches(val: TextDataset, batch_size: int, most_tokens: int | None) -> Iterator[Batch]:
    """Yield the held-out windows, spread over the whole split where not all are wanted."""
    n = len(val) if most_tokens is None else min(len(val), max(1, most_tokens // val.context))
    chosen = np.linspace(0, len(val) - 1, n).astype(np.int64)
    for start in range(0, n, batch_size):
        batch = val.batch(chosen[start : start + batch_size])
        assert isinstance(batch, Batch)
        yield batch
