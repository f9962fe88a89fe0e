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
    """The token dataset of a run, window by window."""

    config: TrainGptConfig
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

    @property
    def steps_an_epoch(self) -> int:
        """The batches of an epoch, a smaller last one included."""
        return -(-len(self.train) // self.config.batch_size)

    @property
    def n_steps(self) -> int:
        """The steps of a run, given or counted from its epochs."""
        if self.config.epochs is not None:
            return max(1, round(self.config.epochs * self.steps_an_epoch))
        return self.config.steps or max(_LEAST_STEPS, _EPOCHS * self.steps_an_epoch)

    def inputs(self) -> list[InputEntry]:
        """Return the entries of what is read for the manifest."""
        return [
            {"role": "tokens", "name": one.path, "bytes": one.bytes, "sha256": one.sha256}
            for one in map(self.stored.__getitem__, _READ)
        ]

    def training_batches(self, first_step: int) -> Iterator[Batch]:
        """Yield batches without end, from a step of an uninterrupted run on."""
        epoch, step = divmod(first_step, self.steps_an_epoch)
        while True:
            for indices in EpochSampler(self.train, self.config.batch_size, self.train.seed, epoch, step):
                yield Batch(*self.train.batch(indices))
            epoch, step = epoch + 1, 0

    def validation_batches(self, val: TextDataset, most_tokens: int | None) -> Iterator[Batch]:
        """Yield the held-out windows, spread over the whole split where not all are wanted."""
        n = len(val) if most_tokens is None else min(len(val), max(1, most_tokens // val.context))
        chosen = np.linspace(0, len(val) - 1, n).astype(np.int64)
        for start in range(0, n, self.config.batch_size):
            yield Batch(*val.batch(chosen[start : start + self.config.batch_size]))


def open_source(config: TrainGptConfig) -> Source:
    """Open a token dataset with the tokenizer that lies in it.

    Raises:
        ActlabError: It is none, or damaged, or has nothing to predict.
    """
    folder = config.input
    stored = _whole_files(folder)
    tokenizer = find_tokenizer(str(folder.absolute() / TOKENIZER))
    train = TextDataset(
        folder, "train", config.context, None, config.boundaries, derive_seed(config.seed, "windows"), tokenizer
    )
    if not len(train):
        raise DataError(f"no document of {folder} has a token to predict", hint="tokenise longer texts")
    val = None
    if train.facts.n_tokens["val"] >= 2:
        val = TextDataset(folder, "val", config.context, None, config.boundaries, random_phase=False) or None
    return Source(config, stored, tokenizer, train, val)


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
    problems = [
        *(f"{name}: not in the manifest" for name in _READ if name not in stored),
        *(f"{path}: missing" for path in stored if not (folder / path).is_file()),
    ]
    if problems:
        raise DataError(
            f"{folder} is damaged: {problems[0]}",
            hint=f"actlab verify {folder} tells all; make it again with actlab tokenize-text --overwrite",
        )
    for path in stored:
        check_sealed(folder / path)
    return stored
