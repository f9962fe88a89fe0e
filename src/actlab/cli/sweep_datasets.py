"""Every strategy with each of its layers or targets, in every normalisation. configs/workflow_*.yaml are
sweeps with the layers of a model of 26 blocks.

\b
actlab sweep-datasets --input DIR --strategy hidden-to-concept --layers 1 --layers 3,5 --output '{name}.npz'
actlab sweep-datasets --config-path configs/workflow_2_layers.yaml --input DIR
"""

from actlab.cli.common import job_command
from actlab.features.sweep.config import SweepConfig

command = job_command(SweepConfig, __doc__)
