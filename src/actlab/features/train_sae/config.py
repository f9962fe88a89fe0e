"""The settings of `actlab train-sae`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.ground.errors import ConfigError
from actlab.ground.layers import check_layers
from actlab.ground.options import RunOptions, check_counts, execution


@dataclass(frozen=True, kw_only=True)
class TrainSaeConfig(RunOptions):
    """Which model, which texts, which SAE."""

    job: ClassVar[str] = "actlab.features.train_sae.job"
    input: Path = execution()
    """Texts: JSONL of {"text"} or {"prompt", …} rows, or a CSV with a text column."""
    output: Path = execution()
    """The folder to make: layer_03/cfg.json and sae_weights.safetensors, in SAELens' format."""
    model: str = execution("actlab/tiny")
    """A local folder, a hub name, or actlab/tiny."""
    layers: str = "all"
    """Blocks to train an SAE for: "all", "0,5,-1", "0-10", "0-10:2"."""
    architecture: Literal["topk", "jumprelu"] = "topk"
    """topk keeps k features a token; jumprelu is trained on k features a token on average, then thresholded."""
    n_features: int = 1024
    """Features of the SAE."""
    k: int = 16
    """Features that fire on a token."""
    n_steps: int = 1000
    """Training steps."""
    batch_size: int = 512
    """Tokens a step."""
    learning_rate: float = 1e-3
    """Adam's rate; it falls to 0 over the last fifth of the steps."""
    text_column: str = "sentence"
    """A CSV's column with the texts."""
    limit: int | None = None
    """Read only so many texts."""
    max_length: int = 512
    """Most tokens of a text; what is longer is cut at its end."""
    seed: int = 0
    """Decides weights and the order of texts."""
    trust_remote_code: bool = False
    """Run the Python code that a model brings with it."""
    revision: str | None = execution(None)
    """A hub model's branch, tag or commit."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("auto")
    """Where to compute."""
    tensorboard: bool = execution(True)
    """Write loss, L0, explained variance and dead share to <output>.tensorboard/."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self.layers)
        check_counts(self, "n_features", "k", "n_steps", "batch_size", "limit", "max_length")
        if self.k >= self.n_features:
            raise ConfigError(f"--k {self.k} is not less than --n-features {self.n_features}", hint="use a small k")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"--learning-rate {self.learning_rate} is out of range", hint="use some 0.001")
