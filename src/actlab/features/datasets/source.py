"""Read from each sentence file the rows that the datasets need, and nothing else."""

# n sample, c layer, d model width, f feature

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.features.datasets.config import ReadOptions
from actlab.features.datasets.contents import Contents
from actlab.features.split.config import SplitConfig
from actlab.formats.sentences.file import Endings, SentenceFacts
from actlab.formats.sentences.folder import Lost, SentenceFolder, load_all_sentences
from actlab.formats.sentences.rows import as_labels, rows_kept, rows_read
from actlab.formats.splits import Splits, read_splits
from actlab.ground.errors import DataError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.log import log
from actlab.ground.progress import progress
from actlab.ground.scripts import is_surely_latin

_EXPECTED = 100
"""Sentences that the document's folders have."""


@dataclass(frozen=True)
class Wanted:
    """What is read of each file."""

    embeddings: bool
    hidden_layers: tuple[int, ...]
    features: dict[int, tuple[int, ...]]
    """By configuration."""

    @classmethod
    def by(cls, several: Sequence[Contents]) -> "Wanted":
        """Return what datasets need together, each thing once."""
        layers = [
            layer for one in several if one.strategy.input_source == "hidden_states" for layer in one.input_layers
        ]
        pairs = sorted({(one.config, one.feature) for contents in several for one in contents.features})
        return cls(
            any(one.strategy.input_source == "embeddings" for one in several),
            tuple(dict.fromkeys(layers)),
            {config: tuple(one for _, one in some) for config, some in itertools.groupby(pairs, lambda pair: pair[0])},
        )

    def n_columns(self, hidden_dim: int) -> int:
        """Return how many numbers are kept of each sample."""
        n_dims = (self.embeddings + len(self.hidden_layers)) * hidden_dim
        return n_dims + sum(map(len, self.features.values()))


@dataclass(frozen=True)
class Bank:
    """What was read of all files, sample by sample."""

    wanted: Wanted
    labels: Shaped[np.ndarray, " n"]
    sentence_indices: Int[np.ndarray, " n"]
    row_indices: Int[np.ndarray, " n"]
    """The row in the sentence's file; -1 for a mean."""
    embeddings_nd: Float[np.ndarray, "n d"]
    """[n, 0] where they are not wanted."""
    hidden_ncd: Float[np.ndarray, "n c d"]
    latents: dict[int, Float[np.ndarray, "n f"]]
    """By configuration, the wanted features ascending."""
    texts: tuple[str, ...]
    """Each sample's sentence; empty where its file has none."""
    n_tokens: Int[np.ndarray, " n"]
    """Tokens up to and with each sample's row; of a mean, of the sentence."""
    last_tokens: tuple[str, ...] | None
    """The token of each sample's row; of a mean, the sentence's last. None where a file does not say."""
    lost: list[Lost] = field(default_factory=list)
    is_checked: bool = False
    """Whether the files had been compared with their manifest."""

    @cached_property
    def text_groups(self) -> Int[np.ndarray, " n"]:
        """Each sample's sentence, or the first of those whose texts nearly equal its own, as `actlab split` has it."""
        from actlab.features.split.compute.duplicates import text_groups

        indices, first, place_n = np.unique(self.sentence_indices, return_index=True, return_inverse=True)
        texts = [self.texts[place] if self.texts[place].strip() else "" for place in first.tolist()]
        group_i = text_groups(texts, SplitConfig.near_duplicates)
        first_of = np.unique(group_i, return_index=True)[1]
        return np.asarray(indices[first_of[group_i]][place_n])


class Source:
    """A folder of sentence files and the split of its sentences, read once for all datasets that are made of it."""

    def __init__(self, path: Path, config: ReadOptions) -> None:
        self.config = config
        self.folder = load_all_sentences(path, check=config.check)
        if config.on_bad == "error" and self.folder.lost:
            raise DataError(self.folder.lost[0].reason, hint="mend it, or leave --on-bad drop to go on without it")
        self._wanting: list[Contents] = []
        self._bank: Bank | None = None

    @cached_property
    def splits(self) -> Splits | None:
        """The split, where there is one, compared with the texts."""
        if self.config.split is None:
            return None
        splits = read_splits(self.config.split)
        splits.check_texts({one.facts.index: one.text for one in self.folder if splits.text_ids})
        return splits

    @cached_property
    def versions(self) -> dict[str, int]:
        """What an identity says of the rules for near-equal texts; a file whose text is damaged says nothing."""
        texts = []
        for sentence in self.folder:
            with suppress(DataError):  # who reads its rows says why
                texts.append(sentence.text)
        if all(map(is_surely_latin, texts)):
            return {}
        from actlab.features.split.compute.duplicates import versions_for

        return versions_for(texts)

    def want(self, contents: Contents) -> None:
        """Note what is to be read for a dataset that is not there yet."""
        self._wanting.append(contents)

    def take(self, contents: Contents) -> tuple[Bank, bool]:
        """Return the rows of all that is wanted, read by now, and whether nobody else is going to need them."""
        bank = self._bank or self._read()
        self._wanting.remove(contents)
        self._bank = bank if self._wanting else None
        return bank, not self._wanting

    def _read(self) -> Bank:
        config, folder = self.config, self.folder
        manifest = sealed_manifest(folder.path)
        expected = manifest["identity"].get("n_sentences", _EXPECTED) if manifest else _EXPECTED
        if len(folder) < expected:
            log.warning("Only %d samples (expected ~%d)", len(folder), expected)
        with progress(folder.path.name, total=len(folder), unit="file", quiet=config.quiet) as more:
            return read_bank(folder, Wanted.by(self._wanting), rows=config.rows, on_bad=config.on_bad, more=more)


def read_bank(folder: SentenceFolder, wanted: Wanted, *, rows: str, on_bad: str, more: Callable[[int], None]) -> Bank:
    """Read what is wanted of every file. Memory is what is returned, and one file's share of it.

    Raises:
        DataError: No file is left, or one is bad and `on_bad` is "error".
    """
    n = sum(sentence.facts.n_rows if rows == "all" else 1 for sentence in folder)
    dim = folder.facts.hidden_dim
    configs = [folder.hidden_config(layer) for layer in wanted.hidden_layers]
    embeddings_nd = np.empty((n, dim if wanted.embeddings else 0), np.float32)
    hidden_ncd = np.empty((n, len(configs), dim), np.float32)
    latents = {config: np.empty((n, len(some)), np.float32) for config, some in wanted.features.items()}
    facts: list[SentenceFacts] = []
    row_indices: list[int] = []
    endings: list[Endings] = []
    lost = list(folder.lost)
    for sentence in folder:
        taken = rows_read(sentence, rows)
        here = slice(len(facts), len(facts) + (1 if rows == "mean" else len(taken)))
        try:
            with sentence:
                ending = sentence.endings(np.array([sentence.facts.final_row]) if rows == "mean" else taken)
                if wanted.embeddings:
                    embeddings_nd[here] = rows_kept(sentence, sentence.embeddings(taken), rows)
                for place, states_rd in enumerate(sentence.hidden(configs, taken) if configs else ()):
                    hidden_ncd[here, place] = rows_kept(sentence, states_rd, rows)
                for config, some in wanted.features.items():
                    latents[config][here] = rows_kept(sentence, sentence.latents(config, taken, np.array(some)), rows)
        except DataError as error:
            if on_bad == "error":
                raise
            log.warning("left out: %s", error)
            lost.append(Lost.by(sentence.path, error))
        else:
            facts += [sentence.facts] * (here.stop - here.start)
            row_indices += [-1] if rows == "mean" else taken.tolist()
            endings.append(ending)
        more(1)
    if not facts:
        raise DataError(f"no good sentence file is left; {lost[0].reason}", hint="actlab compute-features makes them")
    tokens = [one.tokens for one in endings if one.tokens is not None]
    return Bank(
        wanted=wanted,
        labels=as_labels([one.label for one in facts]),
        sentence_indices=np.array([one.index for one in facts]),
        row_indices=np.array(row_indices),
        embeddings_nd=embeddings_nd[: len(facts)],
        hidden_ncd=hidden_ncd[: len(facts)],
        latents={config: values[: len(facts)] for config, values in latents.items()},
        texts=tuple(one.text for one in endings for _ in one.n_tokens),
        n_tokens=np.concatenate([one.n_tokens for one in endings]),
        last_tokens=tuple(itertools.chain(*tokens)) if len(tokens) == len(endings) else None,
        lost=lost,
        is_checked=folder.is_checked,
    )
