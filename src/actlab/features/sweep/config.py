"""The settings of `actlab sweep-datasets`."""

import re
from dataclasses import dataclass
from typing import Literal

from actlab.features.datasets.config import DatasetConfig, ReadOptions, Strategy
from actlab.ground.errors import ConfigError
from actlab.ground.options import execution

_TARGET = re.compile(r"(\d{1,9}):(\d{1,9})")
_SHARED = (
    *("rows", "average_l0", "split", "fit_norm", "groups", "format"),
    *("check", "on_bad", "overwrite", "dry_run", "quiet"),
)


@dataclass(frozen=True, kw_only=True)
class SweepConfig(ReadOptions):
    """Which datasets: every strategy with each of its layers or targets, in every normalisation."""

    input: tuple[str, ...]
    """A folder of sentence_*.npz files. May be given several times."""
    output: str = execution()
    """The files' name, with {name} (as h12_to_f7 or h0-5_to_concept), {input}, {normalize}, {layers}, … in it."""
    strategy: tuple[Strategy, ...]
    """What predicts what. May be given several times."""
    normalize: tuple[Literal["standardize", "minmax", "none"], ...] = ("standardize",)
    """How each column of X is scaled. May be given several times."""
    layers: tuple[str, ...] = ()
    """hidden-to-concept: one dataset for each: "12", "0-5", "0,12,25". May be given several times."""
    target: tuple[str, ...] = ()
    """LAYER:FEATURE, as 12:1234: one dataset for each with the strategies that have features."""

    def __post_init__(self) -> None:
        self.check_read()
        if not self.input or not self.strategy or not self.normalize:
            raise ConfigError("input, strategy and normalize need one value each", hint="see --help")
        for target in self.target:
            if _TARGET.fullmatch(target) is None:
                raise ConfigError(
                    f"--target {target!r} is not LAYER:FEATURE", hint='write 12:1234; in YAML with quotes, "12:1234"'
                )
        for folder in self.input:
            self.datasets(folder)

    def datasets(self, folder: str) -> list[DatasetConfig]:
        """Return the settings of each dataset from one folder.

        Raises:
            ConfigError: A strategy has no layers or targets, or a dataset's settings are wrong.
        """
        shared = {name: getattr(self, name) for name in _SHARED}
        made = []
        for strategy in self.strategy:
            for choice in self._choices(strategy):
                for normalize in self.normalize:
                    settings = shared | choice | {"strategy": strategy, "normalize": normalize}
                    made.append(DatasetConfig(input=folder, output=self.output, **settings))
        return made

    def _choices(self, strategy: Strategy) -> list[dict[str, object]]:
        """Return the layers or targets that a strategy runs over."""
        if strategy == "hidden-to-concept":
            if not self.layers:
                raise ConfigError("hidden-to-concept needs layers", hint='write  layers: ["0-5", "12"]')
            return [{"layers": spec, "average_l0": None} for spec in self.layers]
        if self.features_from is not None:
            return [{"features_from": self.features_from, "top": self.top}]
        if not self.target:
            raise ConfigError(f"{strategy} needs a target", hint='write  target: ["12:1234"], or features_from')
        pairs = [target.split(":") for target in self.target]
        return [{"target_layer": int(layer), "target_feature": int(feature)} for layer, feature in pairs]
