"""The settings of `actlab tokenize-text`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from actlab.ground.errors import ConfigError
from actlab.ground.options import CommonOptions, argument, check_counts, execution


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig(CommonOptions):
    """Which documents, which tokenizer, how much is held out."""

    job: ClassVar[str] = "actlab.text.tokenize.job"
    input: Path = argument()
    """A folder with documents.jsonl, or a JSONL file of {"text": …} rows."""
    output: Path = execution()
    """The folder to make: train.bin, val.bin, document ends, the tokenizer."""
    tokenizer: str | None = execution(None)
    """A folder, a hub name, or actlab/tiny; by default one is trained here on the training documents."""
    vocab_size: int = 2048
    """Of the tokenizer that is trained here, at most."""
    validation: float = 0.1
    """Share of the documents to hold out, chosen by a hash of their text; 0 for none."""
    near_duplicates: float = 0.7
    """Documents at least so similar (Jaccard, word 3-grams) stay on one side; 0 looks for exact copies alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 258 <= self.vocab_size <= 1_000_000:
            raise ConfigError(f"--vocab-size {self.vocab_size} is out of range", hint="use 258 or more: 256 are bytes")
        check_counts(self, "near_duplicates", least=0, most=1)
        if not 0 <= self.validation <= 0.9:
            raise ConfigError(
                f"--validation {self.validation} is out of range", hint="use a share from 0 to 0.9, as 0.1"
            )
