"""Saved as a Hugging Face folder with its tokenizer, which extract-activations takes. Run it again after any
interruption: it goes on from its last checkpoint and comes to the same model.

\b
actlab train-gpt TOKENS --output MODEL
actlab train-gpt TOKENS --model-size small --learning-rate 1e-3 --context 256 --epochs 4 --output MODEL
tensorboard --logdir MODEL.tensorboard
"""

from actlab.cli.common import job_command
from actlab.text.train_gpt.config import TrainGptConfig

command = job_command(TrainGptConfig, __doc__)
