from actlab.cli.common import run_command
from actlab.features.train_sae.config import TrainSaeConfig
from actlab.ground import options


@options.command(TrainSaeConfig)
def command(config: TrainSaeConfig) -> None:
    """Saved in SAELens' format, layer_03/cfg.json and sae_weights.safetensors. For SAEs to publish, use SAELens.

    \b
    actlab train-sae --input texts.jsonl --layers 2,4 --output SAES
    tensorboard --logdir SAES.tensorboard
    """
    run_command(config)
