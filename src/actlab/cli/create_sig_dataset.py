from actlab.cli.common import run_command
from actlab.ground import options
from actlab.weights.config.sequence_sets import SigDatasetConfig


@options.command(SigDatasetConfig)
def command(config: SigDatasetConfig) -> None:
    """Distinct sequences, the positives balanced over the enabled patterns, the negatives satisfying none.

    \b
    actlab create-sig-dataset --config-path configs/run_data_gen_quick.yaml --filename sig.json --size 200
    """
    run_command(config)
