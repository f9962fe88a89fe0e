"""From grammars, offline and in seconds, with labels on every document; or from a local model, with varied
prompts and time-outs that lose nothing. When the model fails half-way a grammar writes the rest (exit
status 3, unless --fallback says always); when no text came from it, or it repeats itself, refuses or only
thinks, nothing is written (1).

\b
actlab generate-text "simple recipes" --tokens 100000 --output Text/recipes
actlab generate-text "simple recipes" --method ollama --model llama3.1:8b --output Text/recipes
actlab refine-text Text/recipes --output Text/refined --tokens 50000
"""

from actlab.cli.common import job_command
from actlab.text.generate.config import GenerateTextConfig

command = job_command(GenerateTextConfig, __doc__)
