"""Rejects copies, near-duplicates and broken text with the reason, scores the form of the rest by parts that can be
seen, and takes what scores high and says something new until --tokens are there. The score is a format check: it
does not know word order, and the report has its AUROC against the same words shuffled. It shows before and after.
Where a --judge scored only a part of what it was asked about, the exit status is 3.

\b
actlab refine-text Text/recipes --output Text/refined --tokens 50000
actlab refine-text stories.jsonl --preset story --tokenizer actlab/tiny --output Text/stories
"""

from actlab.cli.common import job_command
from actlab.text.refine.config import RefineConfig

command = job_command(RefineConfig, __doc__)
