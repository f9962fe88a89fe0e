"""The settings of `actlab generate-datasets`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.features.datasets.normalisations import NORMALISATIONS
from actlab.features.datasets.strategies import OWN_FLAGS, STRATEGIES
from actlab.ground.errors import ConfigError
from actlab.ground.layers import parse_layers_arg
from actlab.ground.options import CommonOptions, check_counts, chosen, execution

_MOST = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class ReadOptions(CommonOptions):
    """What all datasets from one folder share."""

    makes_many: ClassVar[bool] = True
    rows: Literal["final", "all", "mean"] = "final"
    """The rows of a sentence: its final token's, all (one sample each), or their mean."""
    average_l0: int | None = None
    """Which SAE, by its average L0; needed where a layer has several."""
    features_from: Path | None = None
    """Take the features from a ranked_features.csv; {layer} and {feature} in --output tell several files apart."""
    top: int = 1
    """How many features to take from the ranking, the best first."""
    split: Path | None = None
    """A splits.json of actlab split: each sample's side is kept, the normaliser sees the train rows only."""
    fit_norm: Literal["train", "all"] | None = None
    """The rows that the normaliser is fitted on. By default train with --split, all without."""
    groups: bool = False
    """Write the sentence index of each sample as meta_groups, for grouped cross-validation."""
    format: Literal["npz", "parquet"] | None = None
    """The form of the file. By default what --output ends in, else NPZ."""
    check: bool = execution(False)
    """Hash the sentence files first and compare them with their manifest. Without it only what is picked out of them
    is read, and the metadata says that they were not checked."""
    on_bad: Literal["drop", "error"] = execution("drop")
    """A damaged sentence file is left out and counted (exit status 3), or stops the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "top")
        if self.top != 1 and self.features_from is None:
            raise ConfigError("--top is for --features-from", hint="give --features-from ranked_features.csv")
        if self.fit_norm == "train" and self.split is None:
            raise ConfigError("--fit-norm train needs --split", hint="make one: actlab split --input … --output …")

    @property
    def fitted_on(self) -> str:
        """The rows that the normaliser sees."""
        return self.fit_norm or ("train" if self.split else "all")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(ReadOptions):
    """Which input, which target, and how it is written."""

    job: ClassVar[str] = "actlab.features.datasets.job"
    strategy: str = chosen(STRATEGIES)
    """What predicts what."""
    input: Path
    """A folder of sentence_*.npz files, as compute-features writes it."""
    output: Path = execution()
    """The file to write; parent folders are made."""
    normalize: str = chosen(NORMALISATIONS, "standardize")
    """How each column of X is scaled."""
    target_layer: int | None = None
    """The layer whose SAE has the target feature."""
    target_feature: int | None = None
    """The target feature's index."""
    target_features: str | None = None
    """Several features at once, as "12,40,7": y has a column for each (X, with feature-to-concept)."""
    input_layer: int | None = None
    """hidden-to-feature: the layer of the hidden states, if it is not the target's."""
    layer: int | None = None
    """hidden-to-concept: the layer of the hidden states."""
    layers: str | None = None
    """hidden-to-concept: several layers side by side: "0-5", "2,5,10", "0-2,10,15-17"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target_layer", "target_feature", "input_layer", "layer"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < _MOST:
                raise ConfigError(f"{_flag(name)} {value} is not an index", hint="count from 0")
        strategy = STRATEGIES[self.strategy]
        for name in OWN_FLAGS:
            if getattr(self, name) is not None and name not in strategy.takes:
                hint = f"see actlab generate-datasets --help, {_flag(name)}"
                raise ConfigError(f"{_flag(name)} is not for {strategy.name}", hint=hint)
        if strategy.names_layers and ((self.layer is None) == (self.layers is None) or not self.named_layers):
            raise ConfigError(f"{strategy.name} needs --layer or --layers", hint=strategy.hint)
        named = self.feature_list
        if self.target_feature is not None and self.target_features is not None:
            raise ConfigError("--target-feature and --target-features exclude each other", hint="use one of them")
        if self.features_from is not None and (named or self.target_layer is not None):
            raise ConfigError("--features-from chooses layer and feature itself", hint="omit --target-…")
        if strategy.has_features and self.features_from is None and (not named or self.target_layer is None):
            raise ConfigError(f"{strategy.name} needs --target-layer and --target-feature", hint=strategy.hint)

    @property
    def named_layers(self) -> tuple[int, ...]:
        """The layers of the hidden states that the flags name."""
        if self.layers is not None:
            return tuple(parse_layers_arg(self.layers))
        return tuple(layer for layer in (self.layer, self.input_layer) if layer is not None)

    @property
    def feature_list(self) -> tuple[int, ...]:
        """The features that the flags name, in their order.

        Raises:
            ConfigError: They do not parse, or one stands twice.
        """
        if self.target_feature is not None:
            return (self.target_feature,)
        items = [] if self.target_features is None else [item.strip() for item in self.target_features.split(",")]
        if not all(item.isdecimal() and len(item) < 10 for item in items):
            raise ConfigError(
                f"--target-features {self.target_features!r} is not a list of features", hint='write "12,40,7"'
            )
        features = tuple(map(int, items))
        if len(set(features)) < len(features):
            raise ConfigError(f"--target-features {self.target_features!r} names one twice", hint="name each once")
        return features


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
