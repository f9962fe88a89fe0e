"""What is to be trained and what came of it; the random streams that both ways of training share."""

# n training rows, m validation rows, p positions, b rows of a batch, h hidden layers, w their width

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from actlab.ground.seeds import derive_seed
from actlab.weights.config.networks import QuantizationScale
from actlab.weights.networks import Architecture, Weights

Tokens = Integer[np.ndarray, "n p"]
Labels = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Schedule:
    """How long and by what rules every network of a call is trained.

    Stage 1 trains on corrupted labels and ends at the first epoch whose validation loss is
    `min_improvement_threshold` below that of its epoch 0, or after `max_degraded_epochs`. Stage 2 trains on clean
    labels with a fresh Adam; its best checkpoint counts.
    """

    batch_size: int = 128
    epochs: int = 20
    """The most over both stages, but that stage 2 always has one."""
    max_degraded_epochs: int = 10
    """The most of stage 1."""
    min_improvement_threshold: float = 0.05
    improvement_epochs: int = 10
    """The most of stage 2."""
    improvement_lr_factor: float = 0.1
    patience: int = 5
    """Stage 2 ends after so many epochs without a better validation loss."""
    quantization: str = "none"
    """Ternary and binary train with quantised weights in both stages, the others in floats."""
    quantization_scale: QuantizationScale = "per-tensor"

    @property
    def n_degraded_epochs(self) -> int:
        """How many epochs stage 1 may take."""
        return max(1, min(self.max_degraded_epochs, self.epochs))

    def n_improvement_epochs(self, n_degraded_epochs: int) -> int:
        """Return how many epochs stage 2 may take after so many of stage 1."""
        return max(1, min(self.improvement_epochs, self.epochs - n_degraded_epochs))


@dataclass(frozen=True, eq=False)
class TrainingSpec:
    """One network to be trained."""

    architecture: Architecture
    initial: Weights
    learning_rate: float
    """Of stage 1."""
    seed: int
    """The batches' order and the dropout derive from it."""
    train_tokens: Tokens
    corrupted_labels: Labels
    clean_labels: Labels
    validation_tokens: Tokens
    validation_labels: Labels

    def __post_init__(self) -> None:
        n, m = len(self.train_tokens), len(self.validation_tokens)
        if not (n == len(self.corrupted_labels) == len(self.clean_labels) > 0 and m == len(self.validation_labels) > 0):
            raise ValueError(f"{n} training and {m} validation rows: none may be empty, each needs its labels")


class Epoch(NamedTuple):
    """One pass over the training rows, and the measurement after it."""

    stage: int
    """1 on corrupted labels, 2 on clean ones."""
    epoch: int
    """From 0 within the stage."""
    train_loss: float
    """Mean over the rows, each as it was when its batch came, dropout included."""
    validation_loss: float
    validation_accuracy: float

    @staticmethod
    def measured(
        stage: int, epoch: int, train_loss: float, validation_loss: float, validation_accuracy: float
    ) -> "Epoch":
        """Round the losses to six decimals.

        Networks of few-valued weights often have equal losses from one epoch to the next: which checkpoint is the
        first of the best must not hang on rounding errors.
        """
        return Epoch(stage, epoch, round(train_loss, 6), round(validation_loss, 6), validation_accuracy)


class Trained(NamedTuple):
    """A network after both stages; the weights are floats, whatever the quantisation."""

    degraded: Weights
    """At the end of stage 1."""
    improved: Weights
    """At the lowest validation loss of stage 2, the first of equals."""
    history: tuple[Epoch, ...]


def order_stream(seed: int, stage: int) -> np.random.Generator:
    """Return the generator whose k-th permutation is the order of the rows in epoch k of the stage."""
    return np.random.default_rng(derive_seed(seed, "order", stage))


def dropout_stream(seed: int, stage: int) -> np.random.Generator:
    """Return the generator that `dropout_factors` takes, batch after batch of the stage."""
    return np.random.default_rng(derive_seed(seed, "dropout", stage))


def dropout_factors(architecture: Architecture, n_rows: int, rng: np.random.Generator) -> Float[np.ndarray, "h b w"]:
    """Draw what one batch's activations are multiplied by: 0, or 1 / (1 - rate)."""
    shape = (architecture.num_layers, n_rows, architecture.neurons_per_layer)
    kept = rng.random(shape, dtype=np.float32) >= architecture.dropout_rate
    return kept * np.float32(1 / (1 - architecture.dropout_rate))
