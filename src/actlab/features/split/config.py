"""The settings of `actlab split`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from actlab.ground.errors import ConfigError
from actlab.ground.options import CommonOptions, added, execution


@dataclass(frozen=True, kw_only=True)
class SplitConfig(CommonOptions):
    """What to divide, and how."""

    job: ClassVar[str] = "actlab.features.split.job"
    input: Path = execution()
    """A folder of sentence_*.npz, a classifier dataset (NPZ or Parquet), a CSV of sentences, or a documents.jsonl."""
    output: Path = execution(Path("splits.json"))
    """The file to write."""
    test_size: float = 0.2
    """The share of the sentences to test on; with --by-column its values choose them."""
    validation_size: float = 0.0
    """The share of the sentences to validate on."""
    seed: int = 0
    """Which of the possible divisions to take."""
    near_duplicates: float = 0.8
    """Keep sentences together whose sets of 5-character pieces overlap (Jaccard) this much; 0 or above 1: never.
    The groups that a classifier dataset itself records always hold."""
    text_column: str = "sentence"
    """A CSV's column with the sentences."""
    label_column: str = "concept_strength_label"
    """A CSV's column with the labels: numbers, or words that --labels knows."""
    labels: str | None = added(None)
    """The number that a label in words stands for, as "low=0,high=3"."""
    group_column: str | None = added(None)
    """Keep sentences together that have the same value in this column of the CSV, as topic, or the same label in a
    documents.jsonl, as skeleton. Rows without a value are on their own."""
    by_column: str | None = None
    """Test on other material: the test sentences are those with --test-values in this column of the CSV."""
    test_values: str | None = None
    """Values of --by-column, comma-separated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("test_size", "validation_size"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value} is no share", hint="use 0 to below 1, as 0.2")
        if not 0 < self.test_size + self.validation_size < 1:
            raise ConfigError(
                "nothing is left to train on, or nothing to test on",
                hint="--test-size and --validation-size must come to more than 0 and less than 1",
            )
        if not self.near_duplicates >= 0:
            raise ConfigError(
                f"--near-duplicates {self.near_duplicates} is no overlap", hint="use 0.8, or 0 to turn it off"
            )
        if (self.by_column is None) != (self.test_values is None):
            raise ConfigError("--by-column and --test-values belong together", hint="give both, or neither")
        if self.by_column is not None and self.group_column is not None:
            raise ConfigError(
                "--by-column does not go with --group-column: its values choose the test, whatever the groups",
                hint="give one of them",
            )

    @property
    def looks_for_duplicates(self) -> bool:
        """Whether texts that are nearly the same are looked for."""
        return 0 < self.near_duplicates <= 1

    @property
    def test_value_names(self) -> tuple[str, ...]:
        """The values of the column that make a test sentence."""
        return tuple(value.strip() for value in (self.test_values or "").split(",") if value.strip())
