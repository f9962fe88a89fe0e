"""Takes a sentence folder, a classifier dataset, a CSV or a documents.jsonl. Labels are in every side as they are
in all; a sentence and its near-duplicates are on one side. rank-features, generate-datasets and train-probe
take the file by --split.

\b
actlab split --input DIR --output splits.json
actlab split --input texts.csv --by-column topic --test-values law,medicine
actlab split --input Text/recipes --group-column skeleton
"""

from actlab.cli.common import job_command
from actlab.features.split.config import SplitConfig

command = job_command(SplitConfig, __doc__)
