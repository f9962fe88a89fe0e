"""An accepted example: two networks, their signatures, what is asked of an interpreter."""

from dataclasses import dataclass
from functools import partial

from actlab.weights.compute.judge import Pair
from actlab.weights.compute.recorded import digits_of
from actlab.weights.config.methods import check_methods
from actlab.weights.prompts import PromptStyle, Subject, Task, classification_task, modification_task, weights_json
from actlab.weights.sampler import Attempt, Sampler
from actlab.weights.signatures import Signature, signature
from actlab.weights.training.spec import Epoch


@dataclass(frozen=True, eq=False)
class Example:
    """All that the dataset holds of one accepted attempt."""

    attempt: Attempt
    history: tuple[Epoch, ...]
    pair: Pair
    degraded_signature: Signature
    improved_signature: Signature
    degraded_json: str
    """Weights as prompts and completions write them."""
    improved_json: str
    tasks: dict[str, Task]
    """By "modification" and "classification", those that were asked for."""
    n_tokens: dict[str, tuple[int, int]]
    """Of a task's prompt and completion; empty without a tokenizer."""

    def is_too_long(self, most: int | None) -> bool:
        """Whether a prompt has more tokens than allowed."""
        return most is not None and any(n_prompt > most for n_prompt, _ in self.n_tokens.values())


def example_of(sampler: Sampler, attempt: Attempt, history: tuple[Epoch, ...], pair: Pair) -> Example:
    """Make the example of an accepted attempt.

    Raises:
        DataError: An activation overflows.
    """
    degraded, improved = pair.degraded, pair.improved
    config = sampler.config
    style = PromptStyle(config.signature.prompt_format.style, digits_of(config))
    profiled = partial(
        signature,
        attempt.architecture,
        rows=sampler.signature_rows,
        methods=check_methods(config.signature.neuron_profile_methods),
    )
    before = Subject(attempt.architecture, degraded.weights, profiled(degraded.weights))
    after = Subject(attempt.architecture, improved.weights, profiled(improved.weights))
    descriptions = {pattern.name: pattern.describe(sampler.space) for pattern in sampler.patterns}
    tasks: dict[str, Task] = {}
    if config.task_generation.include_modification:
        target = attempt.target_name
        tasks["modification"] = modification_task(
            before, improved.weights, target=target, description=descriptions[target], style=style
        )
    if config.task_generation.include_classification:
        tasks["classification"] = classification_task(after, attempt.names, candidates=descriptions, style=style)
    count = sampler.n_tokens
    return Example(
        attempt=attempt,
        history=history,
        pair=pair,
        degraded_signature=before.signature,
        improved_signature=after.signature,
        degraded_json=weights_json(attempt.architecture, degraded.weights, style.digits),
        improved_json=weights_json(attempt.architecture, improved.weights, style.digits),
        tasks=tasks,
        n_tokens={}
        if count is None
        else {name: (count(task.prompt), count(task.completion)) for name, task in tasks.items()},
    )
