"""Documents are split before anything is cut into windows, near duplicates on one side. Writes train.bin and
val.bin (uint16 or uint32 without a header, as nanoGPT reads them), where documents end, and the tokenizer.

\b
actlab tokenize-text DOCUMENTS --output TOKENS
actlab tokenize-text DOCUMENTS --tokenizer actlab/tiny --validation 0.2 --output TOKENS
"""

from actlab.cli.common import job_command
from actlab.text.tokenize.config import TokenizeConfig

command = job_command(TokenizeConfig, __doc__)
