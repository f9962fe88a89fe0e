from actlab.activations.config import ExtractConfig
from actlab.cli.common import echo, run_command
from actlab.ground import options
from actlab.ground.errors import DataError


@options.command(ExtractConfig)
def command(config: ExtractConfig) -> None:
    """Writes ROOT/MODEL/DATASET/SPLIT/layer_00/shard_000.pt and so on, with metadata.json in each split.
    Run it again after any interruption: it goes on where it stopped, and the bytes are the same.

    \b
    actlab extract-activations --model DIR --dataset FILE.jsonl --layers 0-10:2
    actlab extract-activations --model DIR --preview 2
    actlab extract-activations --model DIR --part 2/3        one task of three
    """
    if config.preview is None:
        run_command(config)
        return
    from actlab.activations.job import preview_texts

    texts = list(preview_texts(config))
    for text in texts:
        echo(text)
    if not texts:
        raise DataError("no record of the first dataset makes an example", hint="--dry-run counts what is dropped")
