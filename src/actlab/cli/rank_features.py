"""Reads the folder that compute-features wrote. Writes ranked_features.csv (score, correlations, AUROC,
q-values), feature_examples.json and plots. Features that fail a filter are not listed.

\b
actlab rank-features --input DIR --output Rankings/honesty
actlab rank-features --input DIR --split splits.json --permutations 1000 --output Rankings/honesty
"""

from actlab.cli.common import job_command
from actlab.features.rank.config import RankConfig

command = job_command(RankConfig, __doc__)
