"""The settings of `actlab generate-datasets`."""

from dataclasses import dataclass
from typing import Literal

from actlab.ground.errors import ConfigError
from actlab.ground.layers import parse_layers_arg
from actlab.ground.options import CommonOptions, execution

Strategy = Literal["embedding-to-feature", "hidden-to-feature", "hidden-to-concept", "feature-to-concept"]
_MOST = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class ReadOptions(CommonOptions):
    """What all datasets from one folder share."""

    rows: Literal["final", "all", "mean"] = "final"
    """The rows of a sentence: its final token's, all (one sample each), or their mean."""
    average_l0: int | None = None
    """Which SAE, by its average L0; needed where a layer has several."""
    features_from: str | None = None
    """Take the features from a ranked_features.csv; {layer} and {feature} in --output tell several files apart."""
    top: int = 1
    """How many features to take from the ranking, the best first."""
    split: str | None = None
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

    def check_read(self) -> None:
        """Refuse what no folder could satisfy."""
        if not 1 <= self.top <= _MOST:
            raise ConfigError(f"--top {self.top} is too small", hint="use 1 or more")
        if self.top != 1 and self.features_from is None:
            raise ConfigError("--top is for --features-from", hint="give --features-from ranked_features.csv")
        if self.fit_norm == "train" and self.split is None:
            raise ConfigError("--fit-norm train needs --split", hint="make one: actlab split --input … --output …")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(ReadOptions):
    """Which input, which target, and how it is written."""

    strategy: Strategy
    """What predicts what."""
    input: str
    """A folder of sentence_*.npz files, as compute-features writes it."""
    output: str = execution()
    """The file to write; parent folders are made."""
    normalize: Literal["standardize", "minmax", "none"] = "standardize"
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
        self.check_read()
        if self.layers is not None:
            parse_layers_arg(self.layers)
        for name in ("target_layer", "target_feature", "input_layer", "layer"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < _MOST:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} {value} is not an index", hint="count from 0")
        _check_flags(self)

    @property
    def feature_list(self) -> tuple[int, ...]:
        """The features that the flags name, in their order.

        Raises:
            ConfigError: They do not parse, or one stands twice.
        """
        if self.target_feature is not None:
            return (self.target_feature,)
        if self.target_features is None:
            return ()
        items = [item.strip() for item in self.target_features.split(",")]
        if not all(item.isdecimal() and len(item) < 10 for item in items):
            raise ConfigError(
                f"--target-features {self.target_features!r} is not a list of features", hint='write "12,40,7"'
            )
        features = tuple(map(int, items))
        if len(set(features)) < len(features):
            raise ConfigError(f"--target-features {self.target_features!r} names one twice", hint="name each once")
        return features


def _check_flags(config: DatasetConfig) -> None:
    """Refuse flags that the strategy does not take, and the lack of those that it needs."""
    strategy = config.strategy
    for_features = ("target_layer", "target_feature", "target_features", "features_from", "average_l0")
    taken = {
        "embedding-to-feature": for_features,
        "hidden-to-feature": (*for_features, "input_layer"),
        "hidden-to-concept": ("layer", "layers"),
        "feature-to-concept": for_features,
    }[strategy]
    for name in (*for_features, "input_layer", "layer", "layers"):
        if getattr(config, name) is not None and name not in taken:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} is not for {strategy}", hint=f"see actlab generate-datasets --help, {flag}")
    if strategy == "hidden-to-concept":
        if (config.layer is None) == (config.layers is None):
            raise ConfigError(
                "hidden-to-concept needs --layer or --layers",
                hint="use --layer for one layer, --layers for several, not both",
            )
        return
    named = config.feature_list
    if config.target_feature is not None and config.target_features is not None:
        raise ConfigError("--target-feature and --target-features exclude each other", hint="use one of them")
    if config.features_from is not None:
        if named or config.target_layer is not None:
            raise ConfigError("--features-from chooses layer and feature itself", hint="omit --target-…")
    elif not named or config.target_layer is None:
        raise ConfigError(
            f"{strategy} needs --target-layer and --target-feature",
            hint="take them from ranked_features.csv, or give --features-from ranked_features.csv",
        )
