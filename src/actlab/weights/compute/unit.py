"""Fill the slots of a unit: draw, train all at once, judge, draw again for the slots that are still open."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from actlab.ground.errors import DataError
from actlab.weights.compute.examples import Example, example_of
from actlab.weights.compute.judge import ACCEPTED, DIVERGED, KEYS, Accuracies, Change, change, measure, verdict
from actlab.weights.compute.stored import StoredNetwork, as_stored, is_finite
from actlab.weights.networks import Weights
from actlab.weights.source import Attempt, Source
from actlab.weights.training.batched import train_many
from actlab.weights.training.spec import Epoch, Trained

NOT_DRAWN = "patterns leave too few rows"
TOO_LONG = "prompt is too long"
SURPLUS = "an earlier try of the slot was accepted"

_ROUND = 16
"""The fewest networks of a round: fewer cost nearly as much, so open slots try several times at once."""
_ENOUGH_ATTEMPTS = 200
_LEAST_YIELD = 0.02
"""Below this share of accepted attempts a run stops: the settings are wrong, not the luck."""


class Judged(NamedTuple):
    """An attempt and what came of it."""

    slot: int
    number: int
    reason: str
    """`ACCEPTED`, or why not."""
    attempt: Attempt | None = None
    """None where it could not be drawn."""
    history: tuple[Epoch, ...] = ()
    degraded: Accuracies | None = None
    """None where nothing was measured."""
    improved: Accuracies | None = None
    changed: Change | None = None


@dataclass
class Filled:
    """What a unit came to."""

    examples: list[Example] = field(default_factory=list)
    """In the order of the slots."""
    attempts: list[Judged] = field(default_factory=list)
    """In the order of the slots and their tries."""
    given_up: list[int] = field(default_factory=list)
    """Slots of which no try was accepted."""


Told = Callable[[int, int], None]
"""Told after each round how many more were accepted, and attempted."""


def fill(source: Source, slots: Sequence[int], *, device: str, told: Told = lambda accepted, attempted: None) -> Filled:
    """Fill slots until each has an accepted example or has been tried `max_tries` times.

    The result is a function of the source and the slots: rounds are arranged by what was accepted before.

    Raises:
        DataError: So few attempts are accepted that the settings must be wrong.
    """
    filled = Filled()
    tries = dict.fromkeys(slots, 0)
    while tries:
        judged, examples = _round(source, tries, device)
        filled.attempts += judged
        filled.examples += examples
        told(len(examples), sum(one.reason != SURPLUS for one in judged))
        refuse_low_yield(filled.attempts)
        for one in judged:
            if one.slot in tries:
                tries[one.slot] = one.number + 1
        for example in examples:
            del tries[example.attempt.slot]
        spent = [slot for slot, n in tries.items() if n >= source.config.pipeline.max_tries]
        filled.given_up += spent
        for slot in spent:
            del tries[slot]
    filled.examples.sort(key=lambda example: example.attempt.slot)
    filled.attempts.sort(key=lambda one: (one.slot, one.number))
    filled.given_up.sort()
    return filled


def _round(source: Source, tries: dict[int, int], device: str) -> tuple[list[Judged], list[Example]]:
    """Train and judge the next tries of the open slots, in the slots' order."""
    at_once = max(1, _ROUND // len(tries))
    most = source.config.pipeline.max_tries
    drawn: list[Attempt] = []
    judged: list[Judged] = []
    for slot, first in tries.items():
        for number in range(first, min(first + at_once, most)):
            try:
                drawn.append(source.attempt(slot, number))
            except DataError:
                judged.append(Judged(slot, number, NOT_DRAWN))
    specs = [source.training_spec(attempt) for attempt in drawn]
    examples: dict[int, Example] = {}
    for attempt, trained in zip(drawn, train_many(specs, source.schedule(), device=device), strict=True):
        if attempt.slot in examples:
            judged.append(Judged(attempt.slot, attempt.number, SURPLUS, attempt, trained.history))
            continue
        one, example = judge(source, attempt, trained)
        judged.append(one)
        if example is not None:
            examples[attempt.slot] = example
    return judged, list(examples.values())


def judge(source: Source, attempt: Attempt, trained: Trained) -> tuple[Judged, Example | None]:
    """Measure a trained pair of networks, and make the example if it is accepted."""
    model = source.config.model

    def stored(weights: Weights) -> StoredNetwork:
        return as_stored(weights, model.quantization, model.quantization_scale, model.precision)

    found = Judged(attempt.slot, attempt.number, DIVERGED, attempt, trained.history)
    degraded, improved = stored(trained.degraded), stored(trained.improved)
    if not (is_finite(degraded.weights) and is_finite(improved.weights)):
        return found, None
    before, after = (
        measure(attempt.architecture, network.weights, attempt.rows.test, len(attempt.patterns))
        for network in (degraded, improved)
    )
    changed = change(before, after, attempt.target)
    reason = verdict(before, after, changed, source.config)
    found = found._replace(reason=reason, degraded=before, improved=after, changed=changed)
    if reason != ACCEPTED:
        return found, None
    example = example_of(source, attempt, trained.history, degraded, improved, before, after)
    if example.is_too_long(source.config.task_generation.max_prompt_tokens):
        return found._replace(reason=TOO_LONG), None
    return found, example


def refuse_low_yield(attempts: Sequence[Judged]) -> None:
    """Stop when enough attempts show that the settings are wrong.

    Raises:
        DataError: With the reasons for which attempts were rejected, and the keys to change.
    """
    reasons = Counter(one.reason for one in attempts if one.reason != SURPLUS)
    total, accepted = reasons.total(), reasons.pop(ACCEPTED, 0)
    if total < _ENOUGH_ATTEMPTS or accepted >= _LEAST_YIELD * total:
        return
    account = "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    usual = reasons.most_common(1)[0][0]
    other_keys = {
        NOT_DRAWN: "enable larger patterns, or lower dataset.patterns.max_patterns_per_batch",
        TOO_LONG: "raise --max-prompt-tokens, or lower model.num_layers or neurons_per_layer",
    }
    raise DataError(f"only {accepted} of {total} attempts were accepted: {account}", hint=(KEYS | other_keys)[usual])
