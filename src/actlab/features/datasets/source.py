"""Read from each sentence file the rows that the datasets need, and nothing else."""

# n sample, c layer, d model width, f feature

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.features.datasets.recipe import Recipe
from actlab.features.split.config import SplitConfig
from actlab.formats.sentences.file import Endings, Sentence
from actlab.formats.sentences.final import as_labels
from actlab.formats.sentences.folder import Lost, SentenceFolder
from actlab.ground.errors import DataError
from actlab.ground.scripts import is_surely_latin

log = logging.getLogger("actlab")


@dataclass(frozen=True)
class Wanted:
    """What is read of each file."""

    embeddings: bool
    hidden_layers: tuple[int, ...]
    features: dict[int, tuple[int, ...]]
    """By configuration."""

    @classmethod
    def by(cls, recipes: Iterable[Recipe]) -> "Wanted":
        """Return what the recipes need together, each thing once."""
        layers: dict[int, None] = {}
        features: dict[int, dict[int, None]] = {}
        embeddings = False
        for recipe in recipes:
            embeddings |= recipe.input_source == "embeddings"
            if recipe.input_source == "hidden_states":
                layers |= dict.fromkeys(recipe.input_layers)
            for one in recipe.features:
                features.setdefault(one.config, {})[one.feature] = None
        return cls(embeddings, tuple(layers), {config: tuple(sorted(features[config])) for config in sorted(features)})

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
    embeddings_nd: Float[np.ndarray, "n d"] | None
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
        from actlab.features.split.compute.duplicates import near_duplicate_groups

        indices, first, place_n = np.unique(self.sentence_indices, return_index=True, return_inverse=True)
        texts = [self.texts[place] for place in first.tolist()]
        told = [i for i, text in enumerate(texts) if text.strip()]
        group_i = np.arange(len(texts))
        if told:
            group_i[told] = len(texts) + near_duplicate_groups([texts[i] for i in told], SplitConfig.near_duplicates)
        first_of, group_i = np.unique(group_i, return_index=True, return_inverse=True)[1:]
        return np.asarray(indices[first_of[group_i]][place_n])


def text_versions(folder: SentenceFolder) -> dict[str, int]:
    """Return what an identity says of the rules for near-equal texts; a file whose text is damaged says nothing."""
    texts = []
    for sentence in folder:
        with suppress(DataError):  # who reads its rows says why
            texts.append(sentence.text)
    if all(map(is_surely_latin, texts)):
        return {}
    from actlab.features.split.compute.duplicates import versions_for

    return versions_for(texts)


def read_bank(folder: SentenceFolder, wanted: Wanted, *, rows: str, on_bad: str, more: Callable[[int], None]) -> Bank:
    """Read what is wanted of every file. Memory is what is returned, and one file's share of it.

    Raises:
        DataError: No file is left, or one is bad and `on_bad` is "error".
    """
    n = sum(sentence.facts.n_rows if rows == "all" else 1 for sentence in folder)
    dim = folder.facts.hidden_dim
    embeddings_nd = np.empty((n, dim), np.float32) if wanted.embeddings else None
    hidden_ncd = np.empty((n, len(wanted.hidden_layers), dim), np.float32)
    latents = {config: np.empty((n, len(some)), np.float32) for config, some in wanted.features.items()}
    labels: list[float] = []
    indices: list[int] = []
    row_indices: list[int] = []
    endings: list[Endings] = []
    lost = list(folder.lost)
    for sentence in folder:
        taken = _rows(sentence, rows)
        here = slice(len(labels), len(labels) + (1 if rows == "mean" else len(taken)))
        try:
            with sentence:
                ending = sentence.endings(np.array([sentence.facts.final_row]) if rows == "mean" else taken)
                if embeddings_nd is not None:
                    embeddings_nd[here] = _kept(sentence.embeddings(taken), rows, sentence)
                if wanted.hidden_layers:
                    configs = [folder.hidden_config(layer) for layer in wanted.hidden_layers]
                    states_crd = sentence.hidden(configs, taken)
                    for place in range(len(configs)):
                        hidden_ncd[here, place] = _kept(states_crd[place], rows, sentence)
                for config, some in wanted.features.items():
                    latents[config][here] = _kept(sentence.latents(config, taken, np.array(some)), rows, sentence)
        except DataError as error:
            if on_bad == "error":
                raise
            log.warning("left out: %s", error)
            lost.append(Lost.by(sentence.path, error))
        else:
            n_here = here.stop - here.start
            labels += [sentence.facts.label] * n_here
            indices += [sentence.facts.index] * n_here
            row_indices += [-1] if rows == "mean" else taken.tolist()
            endings.append(ending)
        more(1)
    if not labels:
        raise DataError(f"no good sentence file is left; {lost[0].reason}", hint="actlab compute-features makes them")
    kept = slice(0, len(labels))
    return Bank(
        wanted=wanted,
        labels=as_labels(labels),
        sentence_indices=np.array(indices),
        row_indices=np.array(row_indices),
        embeddings_nd=None if embeddings_nd is None else embeddings_nd[kept],
        hidden_ncd=hidden_ncd[kept],
        latents={config: values[kept] for config, values in latents.items()},
        texts=tuple(one.text for one in endings for _ in one.n_tokens),
        n_tokens=np.concatenate([one.n_tokens for one in endings]),
        last_tokens=_all_tokens(endings),
        lost=lost,
        is_checked=folder.is_checked,
    )


def _all_tokens(endings: Sequence[Endings]) -> tuple[str, ...] | None:
    """Return every sample's last token; None where a file does not say its own."""
    if any(one.tokens is None for one in endings):
        return None
    return tuple(token for one in endings for token in one.tokens or ())


def _rows(sentence: Sentence, rows: str) -> Int[np.ndarray, " r"]:
    if rows == "final":
        return np.array([sentence.facts.final_row])
    return np.arange(sentence.facts.n_rows)


def _kept(values_rk: Float[np.ndarray, "r k"], rows: str, sentence: Sentence) -> Float[np.ndarray, "n k"]:
    """Return the values to keep, float32, or refuse the file."""
    if rows == "mean":
        values_rk = values_rk.mean(axis=0, dtype=np.float64, keepdims=True)
    with np.errstate(over="ignore"):
        values_rk = values_rk.astype(np.float32, copy=False)
    if not np.isfinite(values_rk).all():
        raise DataError(f"{sentence.path} holds NaN, inf or a number too large for float32", hint="make it again")
    return values_rk
