import sys
from typing import TYPE_CHECKING

from actlab.cli.common import EXIT_DROPPED, echo, format_bytes, info, print_json, print_plan, set_loudness, warn
from actlab.ground import options
from actlab.weights.config.data_gen import DataGenConfig

if TYPE_CHECKING:
    from actlab.weights.run import PlannedGeneration


@options.command(DataGenConfig)
def command(config: DataGenConfig) -> None:
    """Stage 1 trains on rows of which one pattern's labels are corrupted, stage 2 on clean ones. An example is accepted
    when that pattern gains and no other loses, measured on held-out rows with the weights as they are stored.
    configs/ has a quick config, one of good values, and the reference values; --set changes single keys.

    \b
    actlab create-sig-dataset --config-path configs/run_data_gen_quick.yaml --filename sig.json --size 200
    actlab run-data-gen --config-path configs/run_data_gen_quick.yaml
    actlab run-data-gen --config-path FILE.yaml --set dataset.output_dataset_length=5000 --workers 8
    """
    from actlab.weights.run import plan_data_gen, run_data_gen

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_data_gen(config), _plan_as_text, as_json=config.json)
        return
    done = run_data_gen(config)
    if config.json:
        print_json(done)
    elif done.is_sealed:
        echo(str(done.path))
    if not done.is_sealed:
        info("%s: this part is done; the last part to finish seals (or: actlab seal)", done.path)
        return
    share = done.n_examples / max(done.n_attempts, 1)
    info("%d examples of %d networks that were judged (%.1f %%)", done.n_examples, done.n_attempts, 100 * share)
    if done.url:
        info("sent to %s", done.url)
    if done.n_dropped:
        warn("%s: %d slots have no example, listed in its dropped.jsonl", done.path, done.n_dropped)
        sys.exit(EXIT_DROPPED)


def _plan_as_text(plan: "PlannedGeneration") -> str:
    heldout = f"\n  held out: networks with both {' and '.join(plan.heldout_pair)}" if plan.heldout_pair else ""
    return (
        f"{plan.path}\n"
        f"  {plan.n_units} units, {plan.n_examples} examples, networks of {plan.n_parameters[0]} to "
        f"{plan.n_parameters[1]} parameters\n"
        f"  patterns: {', '.join(plan.patterns)}{heldout}\n"
        f"  about {format_bytes(plan.bytes_to_write)} to write, {format_bytes(plan.bytes_free)} free; "
        f"about {format_bytes(plan.bytes_of_memory)} of memory a worker"
    )
