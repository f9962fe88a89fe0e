"""The settings of `actlab create-sig-dataset` and `actlab create-benchmark-dataset`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from actlab.ground.errors import ConfigError
from actlab.ground.options import CommonOptions, execution
from actlab.weights.config.data_gen import WeightsSettings


@dataclass(frozen=True, kw_only=True)
class _SequencesConfig(WeightsSettings, CommonOptions):
    job: ClassVar[str] = "actlab.weights.sequence_sets"

    def __post_init__(self) -> None:
        WeightsSettings.__post_init__(self)
        CommonOptions.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class SigDatasetConfig(_SequencesConfig):
    """How many sequences, and where to."""

    filename: Path = execution()
    """The JSON file to make."""
    size: int = 200
    """Sequences in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.size <= 10**5:
            raise ConfigError(f"--size {self.size} is not from 2 to 100000", hint="200 is a good size")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(_SequencesConfig):
    """How many sequences of each pattern, and where to."""

    filename: Path = execution()
    """The JSON file to make."""
    samples_per_pattern: int = 35
    """Sequences of each pattern."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.samples_per_pattern <= 10**5:
            raise ConfigError(
                f"--samples-per-pattern {self.samples_per_pattern} is not from 1 to 100000", hint="35 is a good number"
            )
