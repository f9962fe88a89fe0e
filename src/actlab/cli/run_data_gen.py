"""Stage 1 trains on rows of which one pattern's labels are corrupted, stage 2 on clean ones. An example is accepted
when that pattern gains and no other loses, measured on held-out rows with the weights as they are stored.
configs/ has a quick config, one of good values, and the reference values; --set changes single keys.

\b
actlab create-sig-dataset --config-path configs/run_data_gen_quick.yaml --filename sig.json --size 200
actlab run-data-gen --config-path configs/run_data_gen_quick.yaml
actlab run-data-gen --config-path FILE.yaml --set dataset.output_dataset_length=5000 --workers 8
"""

from actlab.cli.common import job_command
from actlab.weights.config.data_gen import DataGenConfig

command = job_command(DataGenConfig, __doc__)
