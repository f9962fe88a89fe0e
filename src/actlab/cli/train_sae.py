"""Saved in SAELens' format, layer_03/cfg.json and sae_weights.safetensors. For SAEs to publish, use SAELens.

\b
actlab train-sae --input texts.jsonl --layers 2,4 --output SAES
tensorboard --logdir SAES.tensorboard
"""

from actlab.cli.common import job_command
from actlab.features.train_sae.config import TrainSaeConfig

command = job_command(TrainSaeConfig, __doc__)
