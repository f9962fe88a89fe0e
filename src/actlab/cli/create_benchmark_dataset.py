from actlab.cli.common import run_command
from actlab.ground import options
from actlab.weights.config.sequence_sets import BenchmarkConfig


@options.command(BenchmarkConfig)
def command(config: BenchmarkConfig) -> None:
    """\b
    actlab create-benchmark-dataset --config-path configs/run_data_gen_quick.yaml --filename benchmark.json
    """
    run_command(config)
