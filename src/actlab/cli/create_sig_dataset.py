"""Distinct sequences, the positives balanced over the enabled patterns, the negatives satisfying none.

\b
actlab create-sig-dataset --config-path configs/run_data_gen_quick.yaml --filename sig.json --size 200
"""

from actlab.cli.common import job_command
from actlab.weights.config.sequence_sets import SigDatasetConfig

command = job_command(SigDatasetConfig, __doc__)
