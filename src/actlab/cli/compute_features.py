import sys
from typing import TYPE_CHECKING

from actlab.cli.common import EXIT_DROPPED, echo, format_bytes, info, print_json, print_plan, set_loudness, warn
from actlab.features.encode.config import EncodeConfig
from actlab.ground import options

if TYPE_CHECKING:
    from actlab.features.encode.run import Planned


@options.command(EncodeConfig)
def command(config: EncodeConfig) -> None:
    """The input is a CSV with sentence,concept_strength_label. One forward pass serves all layers. Run it again
    after any interruption: it goes on where it stopped, and the bytes are the same.

    \b
    actlab compute-features --input sentences.csv --model DIR --sae SAES --output DIR
    actlab compute-features --from-hidden DIR --sae OTHER_SAES --output DIR2     no model needed
    """
    from actlab.features.encode.run import compute_features, plan_features

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_features(config), _plan_as_text, as_json=config.json)
        return
    done = compute_features(config)
    if config.json:
        print_json(done)
    elif done.is_sealed:
        echo(str(done.path))
    if not done.is_sealed:
        info("%s: this part is done; the last part to finish seals (or: actlab seal)", done.path)
    elif not done.n_sentences:  # an earlier version sealed it
        warn("%s: it is empty, every sentence was dropped", done.path)
    if done.n_dropped:
        warn("%s: %d sentences dropped, listed in its dropped.jsonl", done.path, done.n_dropped)
        sys.exit(EXIT_DROPPED)


def _plan_as_text(plan: "Planned") -> str:
    return (
        f"{plan.path}\n"
        f"  {plan.n_units} units, {plan.n_sentences} sentences, {plan.n_rows} rows\n"
        f"  to write about {format_bytes(plan.bytes_dense)} with --storage dense, "
        f"{format_bytes(plan.bytes_sparse)} with sparse; {format_bytes(plan.bytes_free)} free\n"
        f"  about {format_bytes(plan.bytes_of_memory)} of memory besides the model's"
    )
