from typing import TYPE_CHECKING

from actlab.cli.common import echo, format_bytes, info, print_json, print_plan, set_loudness
from actlab.features.train_sae.config import TrainSaeConfig
from actlab.ground import options

if TYPE_CHECKING:
    from actlab.features.train_sae.run import PlannedSaes


@options.command(TrainSaeConfig)
def command(config: TrainSaeConfig) -> None:
    """Saved in SAELens' format, layer_03/cfg.json and sae_weights.safetensors. For SAEs to publish, use SAELens.

    \b
    actlab train-sae --input texts.jsonl --layers 2,4 --output SAES
    tensorboard --logdir SAES.tensorboard
    """
    from actlab.features.train_sae.run import plan_sae_training, train_sae

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_sae_training(config), _sae_plan_as_text, as_json=config.json)
        return
    done = train_sae(config)
    if config.json:
        print_json(done)
    elif done.is_sealed:
        echo(str(done.path))
    if not done.is_sealed:
        info("%s: this part is done; the last part to finish seals", done.path)


def _sae_plan_as_text(plan: "PlannedSaes") -> str:
    return (
        f"{plan.path}\n"
        f"  {len(plan.layers)} layers, {plan.n_steps} steps each, on {plan.n_tokens} tokens of {plan.n_texts} texts\n"
        f"  {format_bytes(plan.bytes_to_write)} to write"
    )
