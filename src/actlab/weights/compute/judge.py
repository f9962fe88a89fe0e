"""Is an example what it claims to be? Measured on its test rows, both networks as stored and as prompts show them."""

# n rows, k patterns of the network

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from actlab.weights.compute.recorded import digits_of
from actlab.weights.compute.stored import StoredNetwork, as_stored, is_finite
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.networks import Architecture, Weights, answers
from actlab.weights.patterns.pattern import Pattern
from actlab.weights.patterns.space import Space
from actlab.weights.prompts import parse_weights, weights_json
from actlab.weights.rows import Rows
from actlab.weights.sampler import ACCEPTANCE, Attempt, Sampler
from actlab.weights.training.spec import Epoch, Trained

ACCEPTED = "accepted"
DIVERGED = "training diverged"
UNTRAINED = "degraded network answers one way"
DEAD = "improved network answers one way"
NEAR_CHANCE = "degraded network is near chance on its other patterns"
NOT_DEGRADED = "degraded network still recognises the target pattern"
NOT_REPAIRED = "improved network is near chance on the target pattern"
NOT_LEARNT = "improved network is near chance on another pattern"
TARGET = "target pattern gains too little"
OTHERS = "another pattern loses too much"
TOO_LITTLE = "overall accuracy gains too little"
UNLISTED = "improved network recognises a pattern that is not its own"
ROUNDED = "criteria are not met by the weights as prompts show them"
UNCORRUPTED = "no row of the target pattern is corrupted"
NOT_DRAWN = "patterns leave too few rows"
TOO_LONG = "prompt is too long"

KEYS = {
    DIVERGED: "lower model.learning_rate",
    UNTRAINED: "raise staged_training.max_degraded_epochs or min_improvement_threshold, or model.learning_rate",
    DEAD: "lower model.learning_rate, or raise model.neurons_per_layer or improvement_epochs",
    NEAR_CHANCE: "raise staged_training.max_degraded_epochs or dataset.patterns.target_total_examples",
    NOT_DEGRADED: "raise staged_training.corruption_rate",
    NOT_REPAIRED: "raise staged_training.improvement_epochs or improvement_lr_factor, or leave out hard patterns",
    NOT_LEARNT: "raise dataset.patterns.target_total_examples or training.epochs, or leave out hard patterns",
    TARGET: "raise staged_training.corruption_rate, improvement_epochs or improvement_lr_factor",
    OTHERS: "raise validation.test_set_size or staged_training.max_degraded_epochs, or lower improvement_lr_factor",
    TOO_LITTLE: "raise staged_training.corruption_rate, or lower dataset.patterns.max_patterns_per_batch",
    UNLISTED: "raise dataset.patterns.target_total_examples or negative_ratio",
    ROUNDED: "raise signature.prompt_format.digits, or set it to round-trip",
    UNCORRUPTED: "raise staged_training.corruption_rate or dataset.patterns.target_total_examples",
    NOT_DRAWN: "enable larger patterns, or lower dataset.patterns.max_patterns_per_batch",
    TOO_LONG: "raise --max-prompt-tokens, or lower model.num_layers or neurons_per_layer",
}
"""For each reason to reject, what to change when it is the usual one."""


class Accuracies(NamedTuple):
    """How often a network is right: balanced, the mean of its accuracies on yes rows and on no rows."""

    yes_k: Float[np.ndarray, " k"]
    """On the rows that were drawn for each pattern."""
    no: float
    """On the rows that satisfy none of the network's patterns, which all patterns share."""
    overall_yes: float
    """On all rows that satisfy one."""
    yes_share: float
    """How often it answers yes, where half of the rows ask for it."""

    @property
    def by_pattern(self) -> Float[np.ndarray, " k"]:
        """Each pattern's balanced accuracy."""
        return np.asarray((self.yes_k + self.no) / 2)

    @property
    def one_sided(self) -> float:
        """How often it gives the answer that it prefers."""
        return max(self.yes_share, 1 - self.yes_share)

    @property
    def overall(self) -> float:
        """The balanced accuracy over all patterns together."""
        return (self.overall_yes + self.no) / 2


def measure(architecture: Architecture, weights: Weights, test: Rows, n_patterns: int) -> Accuracies:
    """Measure a network on a test set."""
    return accuracies(answers(architecture, weights, test.tokens), test, n_patterns)


def accuracies(yes_n: Bool[np.ndarray, " n"], test: Rows, n_patterns: int) -> Accuracies:
    """Return how often answers are right, by pattern and over all."""
    yes_k = np.array([yes_n[test.patterns == pattern].mean() for pattern in range(n_patterns)])
    no = 1 - yes_n[~test.labels].mean()
    overall_yes = yes_n[test.labels].mean()
    return Accuracies(yes_k, float(no), float(overall_yes), yes_share=float((overall_yes + 1 - no) / 2))


class Change(NamedTuple):
    """What stage 2 changed, in balanced accuracy."""

    target_gain: float
    worst_other: float
    """The smallest change of another pattern, negative for a loss; 0 where there is no other."""
    overall_gain: float


def change(degraded: Accuracies, improved: Accuracies, target: int) -> Change:
    """Compare the two networks of an example."""
    change_k = improved.by_pattern - degraded.by_pattern
    others = np.delete(change_k, target)
    return Change(
        float(change_k[target]), float(others.min()) if len(others) else 0.0, improved.overall - degraded.overall
    )


def verdict(
    degraded: Accuracies, improved: Accuracies, target: int, config: WeightsSettings, *, acceptance: int = ACCEPTANCE
) -> str:
    """Return `ACCEPTED`, or the first criterion of a version that is not met on the network's own patterns."""
    settings = config.validation
    changed = change(degraded, improved, target)
    others_k, least = np.delete(degraded.by_pattern, target), settings.min_accuracy
    by_pattern = settings.pattern_specific
    is_second = by_pattern and acceptance >= 2
    checks = [
        (UNTRAINED, degraded.one_sided > settings.max_one_sided),
        (DEAD, improved.one_sided > settings.max_one_sided),
        (NEAR_CHANCE, by_pattern and len(others_k) > 0 and others_k.mean() < least),
        (NOT_DEGRADED, is_second and degraded.by_pattern[target] >= settings.max_degraded_accuracy),
        (NOT_REPAIRED, by_pattern and improved.by_pattern[target] < least),
        (NOT_LEARNT, is_second and improved.by_pattern.min() < least),
        (TARGET, by_pattern and changed.target_gain < settings.min_pattern_improvement),
        (OTHERS, by_pattern and -changed.worst_other > settings.max_other_degradation),
        (TOO_LITTLE, changed.overall_gain < config.training.min_degradation_threshold),
    ]
    return next((reason for reason, is_met in checks if is_met), ACCEPTED)


class Unlisted(NamedTuple):
    """How an improved network answers the dataset's patterns that are not its own."""

    names: tuple[str, ...]
    """Those that can be told from its own."""
    rows: Rows
    """As `Sampler.unlisted_rows` draws them: all ask for a no."""
    accuracies_k: Float[np.ndarray, " k"]
    """Balanced: yes on a pattern's rows, no on the test's negatives that it does not have. 1 is a network that knows
    the pattern as if it were its own."""

    @property
    def highest(self) -> float | None:
        """The best recognised one's; None where there is no such pattern."""
        return float(self.accuracies_k.max()) if len(self.names) else None


class Pair(NamedTuple):
    """The two networks of an example as they are stored, and how often they are right on the test rows."""

    degraded: StoredNetwork
    improved: StoredNetwork
    before: Accuracies
    """The degraded network's."""
    after: Accuracies
    """The improved network's."""
    unlisted: Unlisted | None = None
    """The improved network's; None where another criterion was not met, or patterns are not looked at."""


def measure_unlisted(
    architecture: Architecture,
    weights: Weights,
    rows: Rows,
    negatives_np: UInt8[np.ndarray, "n p"],
    patterns: Sequence[Pattern],
    space: Space,
) -> Unlisted:
    """Measure how well a network recognises patterns by rows that satisfy none of its own."""
    yes_n, refused_n = answers(architecture, weights, rows.tokens), ~answers(architecture, weights, negatives_np)
    places = np.unique(rows.patterns).tolist()
    accuracies_k = [
        (yes_n[rows.patterns == place].mean() + refused_n[~patterns[place].holds(negatives_np, space)].mean()) / 2
        for place in places
    ]
    return Unlisted(tuple(patterns[place].name for place in places), rows, np.array(accuracies_k))


def judge(sampler: Sampler, attempt: Attempt, trained: Trained) -> tuple[str, Attempt, tuple[Epoch, ...], Pair | None]:
    """Measure a trained attempt; return the verdict, the attempt with its history, and what was measured."""
    model = sampler.config.model
    degraded, improved = (
        as_stored(weights, model.quantization, model.quantization_scale, model.precision)
        for weights in (trained.degraded, trained.improved)
    )
    if not (is_finite(degraded.weights) and is_finite(improved.weights)):
        return DIVERGED, attempt, trained.history, None
    reason, before, after = _judged(sampler, attempt, degraded.weights, improved.weights)
    pair = Pair(degraded, improved, before, after)
    if reason == ACCEPTED and sampler.config.validation.pattern_specific:
        pair = pair._replace(unlisted=_unlisted(sampler, attempt, improved.weights, sampler.unlisted_rows(attempt)))
        reason = UNLISTED if _recognises(sampler, pair.unlisted) else reason
    if reason == ACCEPTED and not _is_met_as_shown(sampler, attempt, pair):
        reason = ROUNDED
    return reason, attempt, trained.history, pair


def _judged(
    sampler: Sampler, attempt: Attempt, degraded: Weights, improved: Weights
) -> tuple[str, Accuracies, Accuracies]:
    before, after = (
        measure(attempt.architecture, weights, attempt.rows.test, len(attempt.patterns))
        for weights in (degraded, improved)
    )
    return verdict(before, after, attempt.target, sampler.config), before, after


def _unlisted(sampler: Sampler, attempt: Attempt, improved: Weights, rows: Rows) -> Unlisted:
    test = attempt.rows.test
    negatives_np = test.tokens[~test.labels]
    return measure_unlisted(attempt.architecture, improved, rows, negatives_np, sampler.patterns, sampler.space)


def _recognises(sampler: Sampler, found: Unlisted | None) -> bool:
    highest = found.highest if found is not None else None
    return highest is not None and highest >= sampler.config.validation.max_unlisted_accuracy


def _is_met_as_shown(sampler: Sampler, attempt: Attempt, pair: Pair) -> bool:
    """Judge the weights once more, read back from how prompts and completions write them."""
    digits = digits_of(sampler.config)
    degraded, improved = (
        parse_weights(weights_json(attempt.architecture, network.weights, digits), attempt.architecture)
        for network in (pair.degraded, pair.improved)
    )
    reason, _, _ = _judged(sampler, attempt, degraded, improved)
    if reason != ACCEPTED or pair.unlisted is None:
        return reason == ACCEPTED
    return not _recognises(sampler, _unlisted(sampler, attempt, improved, pair.unlisted.rows))
