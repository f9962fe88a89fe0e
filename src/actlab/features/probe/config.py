"""The settings of `actlab train-probe`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.ground.errors import ConfigError
from actlab.ground.layers import check_layers
from actlab.ground.options import CommonOptions, check_counts, execution

_MOST_DRAWS = 100_000
_STRONGEST = 1e12
"""Weights are 0 to rounding long before. From about 1e18 on the logistic fit stops short of its optimum, measured, and
from 1e300 on it never stops."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(CommonOptions):
    """What to read, which probe to fit, and how to test it."""

    job: ClassVar[str] = "actlab.features.probe.job"
    input: tuple[Path, ...] = execution(())
    """A classifier dataset (NPZ or Parquet) of generate-datasets; or give --positive and --negative. Given several
    times, for datasets of the same rows, one is chosen by cross-validation on the training rows, and only it is
    tested."""
    positive: Path | None = execution(None)
    """The activations of class 1: a split's folder of a dump, or a dump that has only one split."""
    negative: Path | None = execution(None)
    """The activations of class 0."""
    output: Path = execution()
    """Folder to write: results.json, the weights and the plots."""
    model_type: Literal["auto", "logistic", "ridge", "difference-of-means"] = "auto"
    """The probe; "auto" is logistic for whole labels and ridge for a target of decimal numbers."""
    layers: str = "all"
    """Layers of the dumps: "all", "0,5,-1", "0-10", "0-10:2". One probe each."""
    split: Path | None = execution(None)
    """The splits.json of actlab split: fit on its train side, test on its test side. For --input only."""
    test_size: float = 0.2
    """Share of the rows to test on, whole groups at a time, where no split is given or in the file."""
    folds: int = 5
    """Folds of the cross-validation inside the training rows."""
    regularization: float = 1.0
    """Strength of the L2 penalty on standardised features, more is stronger: ridge's alpha, 1/C of logistic."""
    bootstrap: int | None = execution(None)
    """Has no effect any more: intervals are calculated, not resampled."""
    seed: int = 0
    """Seed of the test set, the folds and the shuffled labels."""
    allow_leak: bool = False
    """Go on although the test rows had a say in the input; results.json then says "held_out": false."""
    plots: bool = True
    """Draw the scores as PNG files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.input, Path):
            object.__setattr__(self, "input", (self.input,))
        self._check_inputs()
        check_layers(self.layers)
        if not 0.05 <= self.test_size <= 0.5:
            raise ConfigError(f"--test-size {self.test_size} is no share to test on", hint="use 0.05 to 0.5")
        check_counts(self, "folds", least=2, most=100)
        check_counts(self, "bootstrap", most=_MOST_DRAWS)
        if not 0 < self.regularization <= _STRONGEST:
            raise ConfigError(
                f"--regularization {self.regularization} is no strength",
                hint=f"use a number above 0, at most {_STRONGEST:g}",
            )

    def _check_inputs(self) -> None:
        on_dumps = self.positive is not None or self.negative is not None
        if on_dumps == bool(self.input):
            raise ConfigError(
                "train-probe takes one kind of input" if on_dumps else "train-probe has nothing to read",
                hint="give --input NPZ, or --positive DIR --negative DIR",
            )
        if len(set(self.input)) < len(self.input):
            raise ConfigError("--input names one dataset twice", hint="name each once")
        if on_dumps and (self.positive is None or self.negative is None):
            lacking = "--positive" if self.positive is None else "--negative"
            raise ConfigError(f"{lacking} is not given", hint="a probe on dumps needs --positive and --negative")
        if on_dumps and self.split is not None:
            raise ConfigError(
                "--split names sentences, which dumps do not have",
                hint="omit it: the test set is drawn by prompt from --test-size and --seed",
            )
        if not on_dumps and self.layers.strip() != "all":
            raise ConfigError(
                "--layers is for dumps; a dataset's layers are chosen when it is made",
                hint="omit it, or give --positive and --negative",
            )
