from actlab.cli.common import run_command
from actlab.features.rank.config import RankConfig
from actlab.ground import options


@options.command(RankConfig)
def command(config: RankConfig) -> None:
    """Reads the folder that compute-features wrote. Writes ranked_features.csv (score, correlations, AUROC,
    q-values), feature_examples.json and plots. Features that fail a filter are not listed.

    \b
    actlab rank-features --input DIR --output Rankings/honesty
    actlab rank-features --input DIR --split splits.json --permutations 1000 --output Rankings/honesty
    """
    run_command(config)
