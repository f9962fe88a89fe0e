import json
import sys
from typing import TYPE_CHECKING

from actlab.cli.common import echo, set_loudness
from actlab.ground import options
from actlab.weights.config.examples import ReproduceConfig

if TYPE_CHECKING:
    from actlab.weights.reproduce import Reproduced


@options.command(ReproduceConfig)
def command(config: ReproduceConfig) -> None:
    """Where it was made every bit is the same. Elsewhere the largest difference is told. Exit status 0 where the
    same try was accepted and the earlier ones were rejected for the same reasons, otherwise 1.

    \b
    actlab reproduce Weights/quick --example-id 3
    """
    from actlab.weights.reproduce import reproduce

    set_loudness(config.quiet)
    done = reproduce(config)
    echo(json.dumps(done._asdict(), indent=2, default=str) if config.json else _comparison_as_text(done))
    if not done.same_decisions:
        sys.exit(1)


def _comparison_as_text(done: "Reproduced") -> str:
    lines = [
        f"{done.path}: example {done.example_id}: {'identical' if done.identical else 'not identical'}",
        f"  trained its whole unit again: {done.n_slots} slots in {done.elapsed_s:.1f} s",
    ]
    if not done.identical:
        errors = (done.weight_error, done.accuracy_error)
        weights, accuracies = ("cannot be compared" if one is None else f"{one:.3g}" for one in errors)
        lines += [
            f"  largest difference of a weight: {weights}; of an accuracy: {accuracies}",
            f"  decisions (accepted try, why not the earlier ones): {'the same' if done.same_decisions else 'others'}",
            *[f"  differs: {one}" for one in done.differences],
        ]
    return "\n".join(lines)
