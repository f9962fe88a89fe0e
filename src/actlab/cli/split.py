from actlab.cli.common import run_command
from actlab.features.split.config import SplitConfig
from actlab.ground import options


@options.command(SplitConfig)
def command(config: SplitConfig) -> None:
    """Takes a sentence folder, a classifier dataset, a CSV or a documents.jsonl. Labels are in every side as they are
    in all; a sentence and its near-duplicates are on one side. rank-features, generate-datasets and train-probe
    take the file by --split.

    \b
    actlab split --input DIR --output splits.json
    actlab split --input texts.csv --by-column topic --test-values law,medicine
    actlab split --input Text/recipes --group-column skeleton
    """
    run_command(config)
