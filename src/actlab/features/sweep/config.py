"""The settings of `actlab sweep-datasets`."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from actlab.features.datasets.config import DatasetConfig, ReadOptions
from actlab.features.datasets.normalisations import NORMALISATIONS
from actlab.features.datasets.strategies import STRATEGIES, Strategy
from actlab.ground.errors import ConfigError
from actlab.ground.options import chosen, execution

_TARGET = re.compile(r"(\d{1,9}):(\d{1,9})")
_NO_FEATURES = {"average_l0": None, "features_from": None, "top": 1}


@dataclass(frozen=True, kw_only=True)
class SweepConfig(ReadOptions):
    """Which datasets: every strategy with each of its layers or targets, in every normalisation."""

    job: ClassVar[str] = "actlab.features.sweep.job"
    input: tuple[Path, ...]
    """A folder of sentence_*.npz files. May be given several times."""
    output: Path = execution()
    """The files' name, with {name} (as h12_to_f7 or h0-5_to_concept), {input}, {normalize}, {layers}, … in it."""
    strategy: tuple[str, ...] = chosen(STRATEGIES)
    """What predicts what. May be given several times."""
    normalize: tuple[str, ...] = chosen(NORMALISATIONS, ("standardize",))
    """How each column of X is scaled. May be given several times."""
    layers: tuple[str, ...] = ()
    """hidden-to-concept: one dataset for each: "12", "0-5", "0,12,25". May be given several times."""
    target: tuple[str, ...] = ()
    """LAYER:FEATURE, as 12:1234: one dataset for each with the strategies that have features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input or not self.strategy or not self.normalize:
            raise ConfigError("input, strategy and normalize need one value each", hint="see --help")
        for target in self.target:
            if _TARGET.fullmatch(target) is None:
                raise ConfigError(
                    f"--target {target!r} is not LAYER:FEATURE", hint='write 12:1234; in YAML with quotes, "12:1234"'
                )
        for folder in self.input:
            self.datasets(folder)

    def datasets(self, folder: Path) -> list[DatasetConfig]:
        """Return the settings of each dataset from one folder.

        Raises:
            ConfigError: A strategy has no layers or targets, or a dataset's settings are wrong.
        """
        shared = {one.name: getattr(self, one.name) for one in fields(ReadOptions)}
        return [
            DatasetConfig(**{**shared, **choice}, input=folder, output=self.output, strategy=name, normalize=normalize)
            for name in self.strategy
            for choice in self._choices(STRATEGIES[name])
            for normalize in self.normalize
        ]

    def _choices(self, strategy: Strategy) -> list[dict[str, object]]:
        """Return the layers or targets that a strategy runs over."""
        if strategy.names_layers and not self.layers:
            raise ConfigError(f"{strategy.name} needs layers", hint='write  layers: ["0-5", "12"]')
        if not strategy.has_features:
            layers = self.layers if strategy.names_layers else (None,)
            return [{**_NO_FEATURES, "layers": one} for one in layers]
        if self.features_from is not None:
            return [{}]
        if not self.target:
            raise ConfigError(f"{strategy.name} needs a target", hint='write  target: ["12:1234"], or features_from')
        pairs = [target.split(":") for target in self.target]
        return [{"target_layer": int(layer), "target_feature": int(feature)} for layer, feature in pairs]
