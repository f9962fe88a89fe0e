"""The input is a CSV with sentence,concept_strength_label. One forward pass serves all layers. Run it again
after any interruption: it goes on where it stopped, and the bytes are the same.

\b
actlab compute-features --input sentences.csv --model DIR --sae SAES --output DIR
actlab compute-features --from-hidden DIR --sae OTHER_SAES --output DIR2     no model needed
"""

from actlab.cli.common import job_command
from actlab.features.encode.config import EncodeConfig

command = job_command(EncodeConfig, __doc__)
