"""The settings of `actlab rank-features`."""

from dataclasses import dataclass
from typing import Literal

from actlab.ground.errors import ConfigError
from actlab.ground.layers import check_layers
from actlab.ground.options import CommonOptions, execution

_MOST_PERMUTATIONS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class RankConfig(CommonOptions):
    """Which sentences and features to rank, and what a feature must reach."""

    input: str = execution()
    """The folder of sentence_*.npz that compute-features wrote."""
    output: str = execution()
    """The folder to write: ranked_features.csv, feature_examples.json, plots."""
    split: str | None = execution(None)
    """A splits.json: rank on its training sentences only, so that a probe's test stays held out."""
    check: bool = execution(False)
    """Hash the sentence files first and compare them with their manifest. Without it only what is picked out of them
    is read, and the metadata says that they were not checked."""
    layers: str = "all"
    """Layers to rank: "all", "0,5,-1", "0-10", "0-10:2"."""
    average_l0: int | None = None
    """Rank only the SAEs of this average L0."""
    rows: Literal["final", "all", "mean", "max"] = "final"
    """Which rows count: each sentence's final token, every token, or the mean or maximum over its tokens."""
    min_pearson: float = 0.4
    """List features with at least this correlation with the label."""
    min_tpr: float = 0.5
    """List features above their threshold in at least this share of the highest label's rows."""
    max_fpr: float = 0.2
    """List features above their threshold in at most this share of the lowest label's rows."""
    top: int | None = None
    """List at most so many features."""
    permutations: int = 0
    """Permute the labels so many times, for the column p_permutation."""
    seed: int = 0
    """Of the permutations."""
    examples: int = 10
    """Sentences to show for each of the top features."""
    top_examples: int = 20
    """Features to show sentences for."""
    plots: bool = True
    """Draw the scores by layer, and the sentences of the best features shaded by activation."""

    def __post_init__(self) -> None:
        check_layers(self.layers)
        for name, least in {"top": 1, "permutations": 0, "examples": 0, "top_examples": 0, "average_l0": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name.replace('_', '-')} {value} is too small", hint=f"use {least} or more")
        if self.permutations > _MOST_PERMUTATIONS:
            raise ConfigError(f"--permutations {self.permutations} is too large", hint="1000 is plenty")
        if not -1 <= self.min_pearson <= 1:
            raise ConfigError(f"--min-pearson {self.min_pearson} is no correlation", hint="use -1 to 1")
        for name in ("min_tpr", "max_fpr"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value} is no share", hint="use 0 to 1")
