"""\b
actlab create-benchmark-dataset --config-path configs/run_data_gen_quick.yaml --filename benchmark.json
"""

from actlab.cli.common import job_command
from actlab.weights.config.sequence_sets import BenchmarkConfig

command = job_command(BenchmarkConfig, __doc__)
