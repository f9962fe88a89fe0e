"""The settings of `actlab run-data-gen`, and what they may be."""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from actlab.ground.errors import ConfigError, did_you_mean
from actlab.ground.options import RunOptions, group, options_of
from actlab.weights.config.methods import check_methods
from actlab.weights.config.networks import (
    DatasetSettings,
    ModelSettings,
    PipelineSettings,
    StagedTraining,
    TrainingSettings,
    ValidationSettings,
)
from actlab.weights.config.output import HubSettings, MetricsSettings, SignatureSettings, TaskSettings
from actlab.weights.config.quantisations import QUANTISATIONS


@dataclass(frozen=True, kw_only=True)
class WeightsSettings:
    """The groups of the YAML file, which every command that reads it shares.

    Raises:
        ConfigError: A setting is out of its range, or does not go with another.
    """

    signature: SignatureSettings = group(SignatureSettings())
    """Signatures."""
    model: ModelSettings = group(ModelSettings())
    """Subject networks."""
    dataset: DatasetSettings = group(DatasetSettings())
    """The dataset."""
    training: TrainingSettings = group(TrainingSettings())
    """Training."""
    staged_training: StagedTraining = group(StagedTraining())
    """The two stages."""
    validation: ValidationSettings = group(ValidationSettings())
    """Acceptance."""
    pipeline: PipelineSettings = group(PipelineSettings())
    """The run."""
    metrics: MetricsSettings = group(MetricsSettings(), is_execution=True)
    """Following the run."""
    task_generation: TaskSettings = group(TaskSettings())
    """Prompts."""
    hub: HubSettings = group(HubSettings(), is_execution=True)
    """The hub."""

    def __post_init__(self) -> None:
        _refuse(_bounds(self))
        _refuse(_checks(self))
        _refuse(_pattern_checks(self))
        check_methods(self.signature.neuron_profile_methods)


@dataclass(frozen=True, kw_only=True)
class DataGenConfig(WeightsSettings, RunOptions):
    """Which networks to train and how to write them."""

    job: ClassVar[str] = "actlab.weights.job"

    def __post_init__(self) -> None:
        WeightsSettings.__post_init__(self)
        RunOptions.__post_init__(self)
        _refuse(_claims(self))
        _check_rounding(self)
        is_sent_in_part = self.hub.dataset_name is not None and self.part is not None
        hint = "omit it, then: actlab push DIR --repo-id NAME"
        _refuse([(is_sent_in_part, "hub.dataset_name does not go with --part", hint)])


BOUNDS: dict[str, tuple[float, float]] = {
    "model.num_layers.min": (1, 100),
    "model.num_layers.max": (1, 100),
    "model.neurons_per_layer.min": (1, 1024),
    "model.neurons_per_layer.max": (1, 1024),
    "model.dropout_rate": (0.0, 0.9),
    "model.vocab_size": (5, 26),
    "model.sequence_length": (4, 20),
    "model.learning_rate.min": (1e-7, 1.0),
    "model.learning_rate.max": (1e-7, 1.0),
    "dataset.output_dataset_length": (1, 10**7),
    "dataset.patterns.min_patterns_per_batch": (1, 100),
    "dataset.patterns.max_patterns_per_batch": (1, 100),
    "dataset.patterns.samples_per_pattern.min": (2, 10**5),
    "dataset.patterns.negative_ratio": (0.05, 0.95),
    "dataset.patterns.target_total_examples": (20, 10**5),
    "dataset.patterns.max_total_examples": (20, 10**5),
    "dataset.splits.validation": (0.0, 0.5),
    "dataset.splits.test": (0.0, 0.5),
    "training.epochs": (2, 10**4),
    "training.batch_size": (1, 10**5),
    "training.early_stopping.patience": (1, 10**4),
    "training.min_degradation_threshold": (0.0, 1.0),
    "training.validation_split": (0.05, 0.5),
    "staged_training.max_degraded_epochs": (1, 10**4),
    "staged_training.min_improvement_threshold": (0.0, 10.0),
    "staged_training.improvement_epochs": (1, 10**4),
    "staged_training.improvement_lr_factor": (1e-4, 100.0),
    "staged_training.corruption_rate": (0.0, 1.0),
    "validation.min_pattern_improvement": (0.0, 1.0),
    "validation.max_other_degradation": (0.0, 1.0),
    "validation.max_one_sided": (0.5, 1.0),
    "validation.min_accuracy": (0.0, 1.0),
    "validation.max_degraded_accuracy": (0.5, 1.0),
    "validation.max_unlisted_accuracy": (0.5, 1.0),
    "validation.test_set_size": (20, 10**5),
    "pipeline.random_seed": (0, 2**63 - 1),
    "pipeline.checkpoint_interval": (1, 10**5),
    "pipeline.max_threads": (1, 1024),
    "pipeline.max_tries": (1, 10**5),
    "metrics.tensorboard.port": (1, 65535),
    "metrics.tensorboard.update_freq": (1, 10**6),
    "task_generation.max_prompt_tokens": (1, 10**9),
}
"""The smallest and the largest value of each number."""

_CHANCE = 0.5
"""The balanced accuracy of a network that knows nothing."""

_MOST_ROUNDING = 0.1
"""The largest rounding error of a prompt's weights, as a share of theirs: at 0.2 every third network is another."""

_RANGES = ("model.num_layers", "model.neurons_per_layer", "model.learning_rate")

_REFUSED: dict[str, tuple[Any, str]] = {
    "pipeline.num_workers": (0, "there is no DataLoader: leave it 0; pipeline.max_threads sets the worker processes"),
    "pipeline.pin_memory": (False, "there is no DataLoader: leave it false"),
    "metrics.checkpoint.save_every_epoch": (
        False,
        "leave it false: the weights after stage 1 and the best of stage 2 are what the dataset holds",
    ),
    "metrics.checkpoint.save_optimizer_state": (
        False,
        "leave it false: an interrupted unit is trained again, from the same streams, to the same bytes",
    ),
    "hub.upload_only_at_end": (True, "leave it true: nothing unfinished is published"),
}
"""Keys of which only one value can be honoured, and why."""


_Check: TypeAlias = tuple[bool, str, str]
"""Whether it is wrong, what is, and what helps."""


def _refuse(checks: Iterable[_Check]) -> None:
    """Refuse the first that is wrong."""
    for is_wrong, what, hint in checks:
        if is_wrong:
            raise ConfigError(what, hint=hint)


def _get(config: WeightsSettings, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)


def _bounds(config: WeightsSettings) -> Iterator[_Check]:
    about = {option.name: option.help for option in options_of(WeightsSettings)}
    for name, (low, high) in BOUNDS.items():
        value = _get(config, name)
        is_wrong = value is not None and not (low <= value <= high and math.isfinite(value))
        yield is_wrong, f"{name} {value} is not from {low} to {high}", about[name]
    for name in _RANGES:
        ends = _get(config, name)
        yield ends.min > ends.max, f"{name}: min {ends.min} is more than max {ends.max}", "swap them"
    for name, (only, hint) in _REFUSED.items():
        yield _get(config, name) != only, f"{name} cannot be {_get(config, name)!r}", hint


def _checks(config: WeightsSettings) -> list[_Check]:
    """Say what every command refuses; numbers are within their bounds by now."""
    splits, tasks, tensorboard = config.dataset.splits, config.task_generation, config.metrics.tensorboard
    types, digits = config.model.activation_types, config.signature.prompt_format.digits
    return [
        (
            splits.validation + splits.test > 0.8,
            "dataset.splits leaves too little for train",
            "lower validation or test",
        ),
        (
            config.hub.token is not None,
            "hub.token holds a token",
            "take it out of the file: use HF_TOKEN or the hub's own login (hf auth login)",
        ),
        (
            not types or len(set(types)) < len(types),
            f"model.activation_types is {list(types)}",
            "name at least one, each once: [relu, gelu]",
        ),
        (
            tensorboard.auto_launch and not tensorboard.enabled,
            "metrics.tensorboard.auto_launch has nothing to show",
            "set metrics.tensorboard.enabled to true",
        ),
        (
            digits != "round-trip" and not (digits.isdecimal() and 1 <= int(digits) <= 17),
            f"signature.prompt_format.digits cannot be {digits!r}",
            "use 1 to 17 decimals, or round-trip",
        ),
        (
            not (tasks.include_modification or tasks.include_classification),
            "no task is chosen",
            "set task_generation.include_modification or include_classification to true",
        ),
        (
            tasks.max_prompt_tokens is not None and tasks.tokenizer is None,
            "--max-prompt-tokens counts with no tokenizer",
            "give --tokenizer DIR",
        ),
    ]


def _pattern_checks(config: WeightsSettings) -> Iterator[_Check]:
    """Say what every command refuses of patterns and rows."""
    patterns = config.dataset.patterns
    most = patterns.max_total_examples
    yield (
        patterns.target_total_examples > most,
        f"dataset.patterns.target_total_examples {patterns.target_total_examples} is more than "
        f"max_total_examples {most}",
        "raise max_total_examples",
    )
    yield (
        patterns.min_patterns_per_batch > patterns.max_patterns_per_batch,
        f"dataset.patterns.min_patterns_per_batch {patterns.min_patterns_per_batch} is more than "
        f"max_patterns_per_batch {patterns.max_patterns_per_batch}",
        "swap them",
    )
    for name, n in Counter(patterns.enabled_patterns).items():
        yield n > 1, f"dataset.patterns.enabled_patterns names {name!r} twice", "name each pattern once"
    letters = [chr(ord("A") + token) for token in range(config.model.vocab_size)]
    for key in ("starts_with_token", "ends_with_token"):
        token = getattr(patterns, key)
        hint = did_you_mean(token, letters, otherwise=f"use A to {letters[-1]}")
        yield token not in letters, f"dataset.patterns.{key} cannot be {token!r}", hint
    fewest = math.ceil(
        patterns.samples_per_pattern.min * patterns.max_patterns_per_batch / (1 - patterns.negative_ratio)
    )
    yield (
        fewest > most,
        f"dataset.patterns.samples_per_pattern.min takes {fewest} rows for "
        f"{patterns.max_patterns_per_batch} patterns, more than max_total_examples {most}",
        "lower it, or raise max_total_examples",
    )


# Datasets were made with what the rest refuses, and still open: it binds new ones only.


def _claims(config: WeightsSettings) -> list[_Check]:
    """Say under which settings a dataset would not be what its prompts and its card say.

    Nothing is corrupted, no gain is asked for, or chance is good enough.
    """
    validation, by_pattern = config.validation, config.validation.pattern_specific
    return [
        (
            config.staged_training.corruption_rate == 0,
            "staged_training.corruption_rate 0 corrupts no row: no pattern would be forgotten",
            "use a share above 0, such as 0.8",
        ),
        (
            not by_pattern and config.task_generation.include_classification,
            "task_generation.include_classification does not go with validation.pattern_specific false: nobody "
            "would look whether a network recognises the patterns that are its answer",
            "set validation.pattern_specific to true, or include_classification to false",
        ),
        (
            not by_pattern and config.training.min_degradation_threshold == 0,
            "training.min_degradation_threshold 0 with validation.pattern_specific false asks for no gain at all",
            "use a share above 0, such as 0.05",
        ),
        (
            by_pattern and validation.min_pattern_improvement == 0,
            "validation.min_pattern_improvement 0 asks for no gain of the target pattern",
            "use a share above 0, such as 0.05",
        ),
        (
            by_pattern and validation.min_accuracy <= _CHANCE,
            f"validation.min_accuracy {validation.min_accuracy} is no more than chance: a network would have patterns "
            "that it does not recognise",
            "use more than 0.5, such as 0.6",
        ),
    ]


def _check_rounding(config: WeightsSettings) -> None:
    """Refuse so few decimals that prompts would show other networks than the ones that were measured.

    PyTorch's first weights of a layer of n inputs are uniform within 1 / sqrt(n), so their spread is 1 / sqrt(3 n);
    that of the rounding error to d decimals is 10^-d / sqrt(12).

    Raises:
        ConfigError: In the widest layer the error is more than a tenth of the weights.
    """
    digits = config.signature.prompt_format.digits
    if digits == "round-trip" or QUANTISATIONS[config.model.quantization].in_training:
        return
    widest = max(config.model.neurons_per_layer.max, config.model.sequence_length)
    share = 10.0 ** -int(digits) * math.sqrt(widest) / 2
    if share > _MOST_ROUNDING:
        needed = math.ceil(math.log10(math.sqrt(widest) / 2 / _MOST_ROUNDING))
        raise ConfigError(
            f"signature.prompt_format.digits {digits} is too few: in a layer of {widest} inputs rounding errors are "
            f"about {share:.0%} of the weights",
            hint=f"use {needed} or more (6 is usual), or round-trip",
        )
