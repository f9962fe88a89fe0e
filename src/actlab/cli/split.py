import json
import sys

from actlab.cli.common import EXIT_DROPPED, echo, set_loudness, warn
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
    from actlab.features.split.run import make_split, plan_split
    from actlab.formats.splits import SIDES

    set_loudness(config.quiet)
    made = plan_split(config) if config.dry_run else make_split(config)
    sizes = {side: len(made.splits.indices(side)) for side in SIDES}
    if config.json:
        described = {"path": str(made.path), "fingerprint": made.splits.fingerprint, **sizes}
        echo(json.dumps({**described, "n_dropped": made.n_dropped}, indent=2))
    elif config.dry_run:
        echo(f"{made.path}: " + ", ".join(f"{side} {size}" for side, size in sizes.items()))
    else:
        echo(str(made.path))
    if made.n_dropped:
        warn("%d files or rows of the input are on no side", made.n_dropped)
        sys.exit(EXIT_DROPPED)
