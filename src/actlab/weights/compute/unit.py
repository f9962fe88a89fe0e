"""Fill the slots of a unit: draw, train all at once, judge, draw again for the slots that are still open."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from actlab.ground.errors import DataError
from actlab.weights.compute.examples import Example, example_of
from actlab.weights.compute.judge import (
    ACCEPTED,
    DIVERGED,
    KEYS,
    NOT_DRAWN,
    ROUNDED,
    TOO_LONG,
    UNCORRUPTED,
    Pair,
    judge,
)
from actlab.weights.sampler import Attempt, Sampler
from actlab.weights.training.batched import train_many
from actlab.weights.training.spec import Epoch

SURPLUS = "an earlier try of the slot was accepted"

_ROUND = 16
"""The fewest networks of a round: fewer cost nearly as much, so open slots try several times at once."""
_ENOUGH_ATTEMPTS = 200
_ENOUGH_ROUNDED = 10
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
    pair: Pair | None = None
    """None where it was not drawn, or diverged."""


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


def fill(
    sampler: Sampler, slots: Sequence[int], *, device: str, told: Told = lambda accepted, attempted: None
) -> Filled:
    """Fill slots until each has an accepted example or has been tried `max_tries` times.

    The result is a function of the sampler and the slots: rounds are arranged by what was accepted before.

    Raises:
        DataError: So few attempts are accepted that the settings must be wrong.
    """
    filled = Filled()
    tries = dict.fromkeys(slots, 0)
    while tries:
        judged, examples = _round(sampler, tries, device)
        filled.attempts += judged
        filled.examples += examples
        told(len(examples), sum(one.reason != SURPLUS for one in judged))
        refuse_low_yield(Counter(one.reason for one in filled.attempts))
        for one in judged:
            if one.slot in tries:
                tries[one.slot] = one.number + 1
        for example in examples:
            del tries[example.attempt.slot]
        filled.given_up += [slot for slot, n in tries.items() if n >= sampler.config.pipeline.max_tries]
        tries = {slot: n for slot, n in tries.items() if n < sampler.config.pipeline.max_tries}
    filled.examples.sort(key=lambda example: example.attempt.slot)
    filled.attempts.sort(key=lambda one: (one.slot, one.number))
    filled.given_up.sort()
    return filled


def _round(sampler: Sampler, tries: dict[int, int], device: str) -> tuple[list[Judged], list[Example]]:
    """Train and judge the next tries of the open slots, in the slots' order."""
    at_once = max(1, _ROUND // len(tries))
    drawn: list[Attempt] = []
    judged: list[Judged] = []
    for slot, first in tries.items():
        for number in range(first, min(first + at_once, sampler.config.pipeline.max_tries)):
            try:
                attempt = sampler.attempt(slot, number)
            except DataError:
                judged.append(Judged(slot, number, NOT_DRAWN))
                continue
            if attempt.corrupted.any():
                drawn.append(attempt)
            else:
                judged.append(Judged(slot, number, UNCORRUPTED, attempt))
    specs = [sampler.training_spec(attempt) for attempt in drawn]
    examples: dict[int, Example] = {}
    for attempt, trained in zip(drawn, train_many(specs, sampler.schedule(), device=device), strict=True):
        one = Judged(attempt.slot, attempt.number, *judge(sampler, attempt, trained))
        if attempt.slot in examples:
            one = one._replace(reason=SURPLUS)
        elif one.reason == ACCEPTED:
            one, example = _written(sampler, one)
            if example is not None:
                examples[attempt.slot] = example
        judged.append(one)
    return judged, list(examples.values())


def _written(sampler: Sampler, one: Judged) -> tuple[Judged, Example | None]:
    """Make the example of an accepted attempt, unless it cannot be written."""
    assert one.attempt is not None
    assert one.pair is not None
    try:
        example = example_of(sampler, one.attempt, one.history, one.pair)
    except DataError:  # its activations overflow
        return one._replace(reason=DIVERGED), None
    if example.is_too_long(sampler.config.task_generation.max_prompt_tokens):
        return one._replace(reason=TOO_LONG), None
    return one, example


def refuse_low_yield(reasons: Counter[str]) -> None:
    """Stop when enough attempts, counted by reason, show that the settings are wrong.

    They are, too, when most of the networks that meet the criteria do not meet them as prompts show their weights.

    Raises:
        DataError: With the reasons for which attempts were rejected, and the keys to change.
    """
    total = reasons.total() - reasons[SURPLUS]
    is_low = total >= _ENOUGH_ATTEMPTS and reasons[ACCEPTED] < _LEAST_YIELD * total
    if is_low or reasons[ROUNDED] >= max(_ENOUGH_ROUNDED, reasons[ACCEPTED] + 1):
        raise low_yield(reasons)


def low_yield(reasons: Counter[str]) -> DataError:
    """Return the error that says why too few were accepted, and which keys to change."""
    rejected = Counter({reason: n for reason, n in reasons.items() if reason not in (ACCEPTED, SURPLUS)})
    account = "; ".join(f"{reason}: {count}" for reason, count in rejected.most_common())
    # what was rejected for its text alone met all else
    by_text = next((reason for reason in (ROUNDED, TOO_LONG) if reasons[reason] > reasons[ACCEPTED]), None)
    usual = by_text or rejected.most_common(1)[0][0]
    return DataError(
        f"only {reasons[ACCEPTED]} of {reasons.total() - reasons[SURPLUS]} attempts were accepted: {account}",
        hint=KEYS[usual],
    )
