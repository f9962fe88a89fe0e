"""The groups that say which networks are made, from which rows, and when one is good enough."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actlab.ground.options import chosen, execution, group, setting
from actlab.weights.config.quantisations import QUANTISATIONS

ActivationType = Literal["relu", "gelu", "tanh", "sigmoid", "leaky_relu"]
Precision = Literal["float32", "float16", "bfloat16"]
QuantizationScale = Literal["per-tensor", "per-channel"]


@dataclass(frozen=True, kw_only=True)
class IntRange:
    """Whole numbers, ends included."""

    min: int
    """The smallest."""
    max: int
    """The largest."""


@dataclass(frozen=True, kw_only=True)
class FloatRange:
    """Numbers between two ends."""

    min: float
    """The smallest."""
    max: float
    """The largest."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The subject networks."""

    num_layers: IntRange = group(IntRange(min=6, max=9))
    """Hidden layers of a network."""
    neurons_per_layer: IntRange = group(IntRange(min=25, max=40))
    """Width, one a network."""
    activation_types: tuple[ActivationType, ...] = ("relu", "gelu")
    """One is drawn for each network."""
    dropout_rate: float = 0.0
    """After each activation, in training."""
    vocab_size: int = 7
    """Letters from A on, 5 to 26."""
    sequence_length: int = 7
    """Letters in a sequence, 4 to 20."""
    precision: Precision = "float32"
    """What the stored weights fit in; training is in float32."""
    quantization: str = chosen(QUANTISATIONS, "none")
    """Of both stored networks; ternary and binary are trained that way."""
    quantization_scale: QuantizationScale = setting("per-tensor", flag="quantization_scale")
    """Whether a weight tensor has one quantisation scale, or one for each output neuron."""
    learning_rate: FloatRange = group(FloatRange(min=0.001, max=0.01))
    """Of stage 1, drawn evenly on a logarithmic scale."""


@dataclass(frozen=True, kw_only=True)
class SamplesPerPattern:
    """How many positives a pattern has."""

    min: int = 10
    """At least so many in train and validation together, where the pattern has them."""


@dataclass(frozen=True, kw_only=True)
class PatternSettings:
    """The patterns, and the rows that show them."""

    enabled_patterns: tuple[str, ...] = ()
    """Names of patterns; all where none is named."""
    min_patterns_per_batch: int = 2
    """The fewest patterns that a network learns."""
    max_patterns_per_batch: int = 5
    """The most patterns that a network learns."""
    samples_per_pattern: SamplesPerPattern = group(SamplesPerPattern())
    """Rows of a pattern."""
    negative_ratio: float = 0.5
    """The share of rows that satisfy none of the network's patterns."""
    target_total_examples: int = 500
    """Rows for train and validation."""
    max_total_examples: int = 2500
    """Never more rows than this for train and validation."""
    starts_with_token: str = "A"
    """The letter that starts_with means."""
    ends_with_token: str = "A"
    """The letter that ends_with means."""
    allow_equivalent: bool = False
    """Let a network have two patterns that are the same set, as sorted_ascending and increasing_pairs are."""
    strict: bool = setting(False, flag="strict")
    """Refuse a pattern that is too small to hold out ten test sequences, instead of leaving it out."""


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How examples are shared out, by family: the pattern set and the architecture."""

    validation: float = 0.1
    """Share of the families."""
    test: float = 0.1
    """Share of the families."""
    heldout: bool = True
    """Keep two patterns apart: every network that has both goes to the split "heldout", and no other does."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """What the dataset holds."""

    output_dataset_length: int = 1000
    """Accepted examples."""
    patterns: PatternSettings = group(PatternSettings())
    """The patterns."""
    splits: SplitSettings = group(SplitSettings())
    """The splits."""


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When stage 2 ends early."""

    patience: int = 5
    """After so many epochs without a better validation loss."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What both stages share."""

    epochs: int = 20
    """The most over both stages."""
    batch_size: int = 128
    """Rows a step."""
    early_stopping: EarlyStopping = group(EarlyStopping())
    """An early end."""
    min_degradation_threshold: float = 0.05
    """An example is accepted when stage 2 lifts the overall test accuracy by at least this."""
    validation_split: float = 0.2
    """The share of rows by which training is stopped and checkpoints are chosen."""


@dataclass(frozen=True, kw_only=True)
class StagedTraining:
    """Stage 1 on corrupted rows, stage 2 on clean ones."""

    max_degraded_epochs: int = 10
    """The most epochs of stage 1."""
    min_improvement_threshold: float = 0.05
    """Stage 1 ends when the validation loss is so far below that of its first epoch."""
    improvement_epochs: int = 10
    """The most epochs of stage 2."""
    improvement_lr_factor: float = 0.1
    """Stage 2's learning rate is stage 1's times this."""
    corruption_rate: float = 0.3
    """The share of the target pattern's training rows whose label is flipped in stage 1."""


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """When an example is accepted, on held-out test rows, both networks as they are stored."""

    pattern_specific: bool = True
    """Look at each pattern; otherwise at the overall accuracy alone."""
    min_pattern_improvement: float = 0.05
    """The target pattern gains at least this."""
    max_other_degradation: float = 0.02
    """No other pattern of the network loses more than this."""
    max_one_sided: float = 0.95
    """A network that answers one way on more than this share of the test rows was not trained, or died."""
    min_accuracy: float = 0.6
    """A degraded network below this on its other patterns was not trained, an improved one below it on any of its
    patterns does not recognise that one; in balanced accuracy, where 0.5 is chance."""
    max_degraded_accuracy: float = 0.75
    """A degraded network that reaches this on the target pattern still recognises it."""
    max_unlisted_accuracy: float = 0.75
    """An improved network that reaches this on another of the dataset's patterns recognises one that is not listed."""
    test_set_size: int = 100
    """A pattern's test rows: half satisfy it, half none of the network's patterns."""


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """Where and how the work is done."""

    output_dir: Path = execution(Path("weights_dataset"), flag="output")
    """The folder to make."""
    random_seed: int = setting(42, flag="seed")
    """Everything drawn derives from it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("cpu", flag="device")
    """Where networks are trained; these are so small that a CPU core is seldom beaten."""
    checkpoint_interval: int = 1000
    """Examples in a unit: trained together, written together, redone together after an interruption."""
    max_threads: int = execution(1, flag="workers")
    """Worker processes, a unit each at a time, one thread each."""
    max_tries: int = 200
    """A slot of the dataset is given up after so many rejected attempts."""
    num_workers: int = execution(0)
    """Only 0: rows are tensors in memory, there is no DataLoader whose workers could be counted."""
    pin_memory: bool = execution(False)
    """Only false: there is no DataLoader."""
