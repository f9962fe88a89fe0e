"""The settings of `actlab train-gpt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.ground.errors import ConfigError
from actlab.ground.options import CommonOptions, argument, check_counts, execution


@dataclass(frozen=True, kw_only=True)
class TrainGptConfig(CommonOptions):
    """Which tokens, which model, how long."""

    job: ClassVar[str] = "actlab.text.train_gpt.job"
    input: Path = argument()
    """A token dataset that actlab tokenize-text made."""
    output: Path = execution()
    """The folder to make: a model in Hugging Face format, with its tokenizer."""
    model_size: Literal["tiny", "small", "medium", "large"] = "tiny"
    """tiny 128 wide, 6 layers; small 384, 6; medium 512, 8; large 768, 12."""
    architecture: Literal["llama", "gpt2"] = "llama"
    """Whose blocks: Llama's (rotary positions, RMS norm, gated MLP) or GPT-2's."""
    steps: int | None = None
    """Training steps; 4 epochs, and at least 400 steps, where neither is given."""
    epochs: float | None = None
    """Passes over the training tokens, instead of steps."""
    batch_size: int = 8
    """Windows a step."""
    context: int = 128
    """Tokens a window."""
    learning_rate: float = 3e-3
    """AdamW's highest rate; larger models want less, some 1e-3 for small and 6e-4 for large."""
    warm_up: float = 0.1
    """Share of the steps in which the rate rises; then it falls to a tenth as a cosine."""
    weight_decay: float = 0.1
    """Of matrices, embeddings included."""
    boundaries: Literal["pack", "doc"] = "pack"
    """pack: windows run over documents' ends; doc: one document a row."""
    eval_every: int = 100
    """Steps between looks at the validation loss, each with a sample."""
    eval_tokens: int = 32768
    """Most validation tokens of a look on the way; the last one reads all."""
    n_samples: int = 2
    """Texts to sample at each look."""
    sample_tokens: int = 40
    """Tokens of a sampled text."""
    seed: int = 0
    """Decides the weights, the order of windows and the samples."""
    checkpoint_every: int = execution(100)
    """Steps between checkpoints, from which a stopped run goes on; two are kept, in <output>.checkpoints/."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("auto")
    """Where to train. Runs are repeatable on one kind of device and number of threads."""
    tensorboard: bool = execution(True)
    """Write losses, rate and samples to <output>.tensorboard/."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps", "batch_size", "context", "eval_every", "eval_tokens", "checkpoint_every")
        check_counts(self, "n_samples", "sample_tokens")
        if self.steps is not None and self.epochs is not None:
            raise ConfigError("--steps and --epochs are both given", hint="keep one of them")
        if self.epochs is not None and not 0 < self.epochs <= 100_000:
            raise ConfigError(
                f"--epochs {self.epochs} is out of range", hint="use more than 0, as 4, and at most 100000"
            )
        if not 0 < self.learning_rate < 1:
            raise ConfigError(
                f"--learning-rate {self.learning_rate} is out of range",
                hint="use more than 0 and less than 1, as 0.001",
            )
        for flag, share in (("--warm-up", self.warm_up), ("--weight-decay", self.weight_decay)):
            if not 0 <= share < 1:
                raise ConfigError(f"{flag} {share} is out of range", hint="use 0 or more and less than 1, as 0.1")
