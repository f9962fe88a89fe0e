"""What is ranked: the sentences of a folder, and the activations of their wanted rows."""

# c configuration, n row, r row of one sentence, f feature, s feature asked for, i sentence

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from actlab.features.rank.config import RankConfig
from actlab.formats.ranking import RankedFeature
from actlab.formats.sentences.file import Sentence
from actlab.formats.sentences.folder import Lost, SentenceFolder, load_all_sentences
from actlab.formats.sentences.rows import rows_kept, rows_read
from actlab.formats.splits import read_splits
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.layers import parse_layers, parse_layers_arg
from actlab.ground.log import log
from actlab.ground.manifest import InputEntry


class Configuration(NamedTuple):
    """A layer with its SAE, as the sentence files name it."""

    place: int
    """Among the files' configurations."""
    layer: int
    average_l0: int | None
    neuronpedia_id: str | None
    """Of the SAE that Neuronpedia hosts, "gemma-2-2b/12-gemmascope-res-16k"; None where it hosts none."""

    def url(self, feature: int) -> str:
        """Return the feature's page on Neuronpedia; empty where there is none."""
        return f"https://www.neuronpedia.org/{self.neuronpedia_id}/{feature}" if self.neuronpedia_id else ""


def layer_and_l0(of: RankedFeature | Configuration) -> tuple[int, int]:
    """Return what configurations are ordered by; -1 for an average L0 that is not known."""
    return of.layer, -1 if of.average_l0 is None else of.average_l0


class Source(NamedTuple):
    """What is to be read, known before the activations are."""

    folder: SentenceFolder
    sentences: tuple[Sentence, ...]
    """Those to rank on."""
    configurations: tuple[Configuration, ...]
    ranked_on: str
    """"all", or "train:" and the split's fingerprint."""

    def as_input(self) -> InputEntry:
        """Return the manifest's entry for the sentence files, those left out named."""
        return {**self.folder.as_input(), "left_out": [one.name for one in self.folder.lost]}


@dataclass(frozen=True)
class Activations:
    """The wanted rows of every configuration, and whose they are."""

    sentences: tuple[Sentence, ...]
    """Those that could be read."""
    matrices: tuple[scipy.sparse.csc_array, ...]
    """Of float32, [row, feature], for each configuration."""
    sentence_n: Int[np.ndarray, " n"]
    """Each row's place in `sentences`."""
    lost: tuple[Lost, ...]
    """Files that were found bad only here."""

    @property
    def label_i(self) -> Float[np.ndarray, " i"]:
        """Each sentence's label."""
        return np.array([sentence.facts.label for sentence in self.sentences])

    @property
    def labels(self) -> list[float]:
        """The labels that there are, ascending."""
        return [float(label) for label in np.unique(self.label_i)]


def open_source(config: RankConfig) -> Source:
    """Find the sentences to rank on and the configurations to rank.

    Raises:
        ConfigError: The folder, or a layer or SAE asked for, is not there.
        DataError: The split is of other sentences, or fewer than two labels are left.
    """
    folder = load_all_sentences(config.input, check=config.check)
    sentences, ranked_on = folder.sentences, "all"
    if config.split is not None:
        splits = read_splits(config.split)
        sides = splits.sides(sentence.facts.index for sentence in folder)
        splits.check_texts({sentence.facts.index: sentence.text for sentence in folder if splits.text_ids})
        sentences = tuple(one for one, side in zip(folder.sentences, sides, strict=True) if side == "train")
        ranked_on = f"train:{splits.fingerprint}"
    check_labels(sentences)
    return Source(folder, sentences, _configurations(folder, config), ranked_on)


def check_labels(sentences: Sequence[Sentence]) -> None:
    """Refuse sentences that nothing can be ranked on.

    Raises:
        DataError: They have fewer than two labels.
    """
    labels = {sentence.facts.label for sentence in sentences}
    if len(labels) < 2:
        there = f"all {len(sentences)} sentences have the label {labels.pop():g}" if labels else "no sentence is left"
        raise DataError(f"nothing to rank on: {there}", hint="give sentences of at least two concept_strength_labels")


def read_activations(source: Source, rows: str, tick: Callable[[int], None] = lambda more: None) -> Activations:
    """Read the wanted rows of all configurations, in one pass over the files.

    A file that is damaged, or has a value that is not finite, is left out, logged and listed.

    Raises:
        DataError: With it the second label is lost, or no feature is left.
    """
    kept: list[Sentence] = []
    lost: list[Lost] = []
    pieces: list[list[scipy.sparse.csr_array]] = []
    for sentence in source.sentences:
        chosen = rows_read(sentence, rows)
        try:
            with sentence:
                read = (sentence.latents(one.place, chosen) for one in source.configurations)
                pieces.append([scipy.sparse.csr_array(rows_kept(sentence, values_rf, rows)) for values_rf in read])
        except DataError as error:
            log.warning("left out: %s", error)
            lost.append(Lost.by(sentence.path, error))
        else:
            kept.append(sentence)
        tick(1)
    check_labels(kept)
    matrices = tuple(scipy.sparse.vstack(piece, format="csc") for piece in zip(*pieces, strict=True))
    sentence_n = np.repeat(np.arange(len(kept)), [one[0].shape[0] for one in pieces])
    return Activations(tuple(kept), matrices, sentence_n, tuple(lost))


def read_tokens(
    activations: Activations, wanted: Mapping[tuple[int, int], Sequence[int]]
) -> dict[tuple[int, int, int], list[float | None]]:
    """Read features' activations on every row: what is wanted is features by (sentence's place, configuration).

    Returns:
        The rows' activations by (sentence's place, configuration, feature), None where one is not finite;
        sentences with damage outside the ranked rows are logged and left away.
    """
    found = {}
    for (i, configuration), features in sorted(wanted.items()):
        sentence = activations.sentences[i]
        try:
            with sentence:
                values_rs = sentence.latents(configuration, np.arange(sentence.facts.n_rows), np.array(features))
        except DataError as error:
            log.warning("not among the examples: %s", error)
            continue
        for feature, values in zip(features, values_rs.T.astype(np.float64).tolist(), strict=True):
            found[i, configuration, feature] = [value if math.isfinite(value) else None for value in values]
    return found


def _configurations(folder: SentenceFolder, config: RankConfig) -> tuple[Configuration, ...]:
    facts = folder.facts
    wanted = _wanted_layers(config.layers, facts.layers)
    hosted = _neuronpedia_ids(folder.path)
    found = [
        Configuration(place, layer, None if l0 < 0 else l0, hosted.get((layer, l0)))
        for place, (layer, l0) in enumerate(zip(facts.layers, facts.average_l0s, strict=True))
        if layer in wanted and config.average_l0 in (None, l0)
    ]
    if not found:
        known = ", ".join(map(str, sorted(set(facts.average_l0s))))
        raise ConfigError(
            f"average_l0 mismatch: no layer asked for has an SAE of average_l0 {config.average_l0}",
            hint=f"the files have {known}",
        )
    return tuple(found)


def _wanted_layers(spec: str, layers: Sequence[int]) -> set[int]:
    if spec.strip() == "all":
        return set(layers)
    negative = any(part.strip().startswith("-") or "--" in part for part in spec.split(","))
    wanted = set(parse_layers(spec, max(layers) + 1) if negative else parse_layers_arg(spec))
    if missing := sorted(wanted - set(layers)):
        known = ", ".join(map(str, sorted(set(layers))))
        raise ConfigError(f"Layer {missing[0]} not found in data", hint=f"the files have the layers {known}")
    return wanted


def _neuronpedia_ids(folder: Path) -> dict[tuple[int, int], str]:
    """Return what the folder's manifest knows of the SAEs that Neuronpedia hosts, by layer and average L0."""
    manifest = sealed_manifest(folder)
    saes = manifest["identity"].get("saes") if manifest else None
    found: dict[tuple[int, int], str] = {}
    for sae in saes if isinstance(saes, list) else []:
        if isinstance(sae, dict) and isinstance(sae.get("neuronpedia_id"), str) and isinstance(sae.get("layer"), int):
            l0 = sae.get("average_l0")
            found[sae["layer"], l0 if isinstance(l0, int) else -1] = sae["neuronpedia_id"]
    return found
