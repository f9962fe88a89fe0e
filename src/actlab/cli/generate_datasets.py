"""Only the rows and features asked for are read. One NPZ with X, y, meta_* and norm_*.

\b
actlab generate-datasets --strategy hidden-to-concept --input DIR --layers 0-5 --output d.npz
actlab generate-datasets --strategy hidden-to-feature --input DIR --features-from ranked_features.csv \\
    --top 5 --output 'd_h{layer}_to_f{feature}.npz'
"""

from actlab.cli.common import job_command
from actlab.features.datasets.config import DatasetConfig

command = job_command(DatasetConfig, __doc__)
