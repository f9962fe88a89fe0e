from actlab.cli.common import set_loudness
from actlab.cli.sequences import report_sequences
from actlab.ground import options
from actlab.weights.config.sequence_sets import BenchmarkConfig


@options.command(BenchmarkConfig)
def command(config: BenchmarkConfig) -> None:
    """\b
    actlab create-benchmark-dataset --config-path configs/run_data_gen_quick.yaml --filename benchmark.json
    """
    from actlab.weights.sequence_sets import create_benchmark_dataset

    set_loudness(config.quiet)
    report_sequences(create_benchmark_dataset(config), config)
