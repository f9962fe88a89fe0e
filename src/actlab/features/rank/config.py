"""The settings of `actlab rank-features`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.ground.errors import ConfigError
from actlab.ground.layers import check_layers
from actlab.ground.options import CommonOptions, check_counts, execution

_MOST_PERMUTATIONS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class RankConfig(CommonOptions):
    """Which sentences and features to rank, and what a feature must reach."""

    job: ClassVar[str] = "actlab.features.rank.job"
    input: Path = execution()
    """The folder of sentence_*.npz that compute-features wrote."""
    output: Path = execution()
    """The folder to write: ranked_features.csv, feature_examples.json, plots."""
    split: Path | None = execution(None)
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
        super().__post_init__()
        check_layers(self.layers)
        check_counts(self, "top")
        check_counts(self, "examples", "top_examples", "average_l0", least=0)
        check_counts(self, "permutations", least=0, most=_MOST_PERMUTATIONS)
        if not -1 <= self.min_pearson <= 1:
            raise ConfigError(f"--min-pearson {self.min_pearson} is no correlation", hint="use -1 to 1")
        for name in ("min_tpr", "max_fpr"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value} is no share", hint="use 0 to 1")
