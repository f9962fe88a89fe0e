from actlab.cli.common import set_loudness
from actlab.cli.sequences import report_sequences
from actlab.ground import options
from actlab.weights.config.sequence_sets import SigDatasetConfig


@options.command(SigDatasetConfig)
def command(config: SigDatasetConfig) -> None:
    """Distinct sequences, the positives balanced over the enabled patterns, the negatives satisfying none.

    \b
    actlab create-sig-dataset --config-path configs/run_data_gen_quick.yaml --filename sig.json --size 200
    """
    from actlab.weights.sequence_sets import create_sig_dataset

    set_loudness(config.quiet)
    report_sequences(create_sig_dataset(config), config)
