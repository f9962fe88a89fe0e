"""The settings of `actlab score-interpreter` and `actlab reproduce`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actlab.ground.options import argument, execution


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Whose predictions, and measured on what."""

    dir: Path = argument()
    """A dataset of weights."""
    predictions: Path = argument()
    """A JSON Lines file: example_id, completion, and task where the dataset has both."""
    benchmark: Path | None = execution(None)
    """A file of create-benchmark-dataset to measure repaired networks on, instead of each example's own test rows."""
    output: Path | None = execution(None)
    """A JSON Lines file to make, with a row a prediction."""
    overwrite: bool = execution(False)
    """Replace the output file."""
    plugins: tuple[str, ...] = execution(())
    """A module of your own that adds patterns: its name, or a .py file. May be given several times."""
    quiet: bool = execution(False)
    """Show no bar and no log, only warnings and errors."""
    json: bool = execution(False)
    """Print the report as JSON."""


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Which example, and what its dataset does not hold."""

    dir: Path = argument()
    """A dataset of weights."""
    example_id: int = execution()
    """The example's number."""
    tokenizer: str | None = execution(None)
    """The tokenizer that the dataset was made with; only where it has a limit of prompt tokens."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("cpu")
    """Where to train."""
    plugins: tuple[str, ...] = execution(())
    """A module of your own that adds patterns: its name, or a .py file. May be given several times."""
    quiet: bool = execution(False)
    """Show no bar and no log, only warnings and errors."""
    json: bool = execution(False)
    """Print the comparison as JSON."""
