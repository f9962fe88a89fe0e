from typing import TYPE_CHECKING

from actlab.cli.common import echo, format_bytes, info, print_json, print_plan, set_loudness
from actlab.ground import options
from actlab.text.train_gpt.config import TrainGptConfig

if TYPE_CHECKING:
    from actlab.text.train_gpt.run import PlannedGpt


@options.command(TrainGptConfig)
def command(config: TrainGptConfig) -> None:
    """Saved as a Hugging Face folder with its tokenizer, which extract-activations takes. Run it again after any
    interruption: it goes on from its last checkpoint and comes to the same model.

    \b
    actlab train-gpt TOKENS --output MODEL
    actlab train-gpt TOKENS --model-size small --learning-rate 1e-3 --context 256 --epochs 4 --output MODEL
    tensorboard --logdir MODEL.tensorboard
    """
    from actlab.text.train_gpt.run import plan_gpt_training, train_gpt

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_gpt_training(config), _gpt_as_text, as_json=config.json)
        return
    done = train_gpt(config)
    if config.json:
        print_json(done)
        return
    if done.val_perplexity is not None:
        info("validation loss %.3f nats a token, perplexity %.2f", done.val_loss, done.val_perplexity)
    echo(str(done.path))


def _gpt_as_text(plan: "PlannedGpt") -> str:
    total, embeddings, blocks = plan.parameters
    return (
        f"{plan.path}\n"
        f"  {total:,} parameters: {embeddings:,} in embeddings, {blocks:,} in blocks\n"
        f"  {plan.n_steps} steps, {plan.n_epochs:.1f} epochs of {plan.n_train_tokens} tokens\n"
        f"  about {format_bytes(plan.bytes_to_write)} to write, and up to {format_bytes(plan.checkpoint_bytes)}"
        " of checkpoints while it trains"
    )
