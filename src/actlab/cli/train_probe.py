"""Reads a classifier dataset, or two activation dumps with one probe a layer. Writes results.json, the
weights for raw activations (.pt, .safetensors, .json) and plots. Rows of one sentence or prompt, equal rows
and, where the dataset records them, near-equal texts are never on both sides; dumps hold no texts, so of their
prompts only equal ones are known. The best layer, or of several datasets the best one, is chosen by
cross-validation on the training rows.

\b
actlab train-probe --input concept.npz --split splits.json --output Probes/concept
actlab train-probe --input h0.npz --input h6.npz --input h12.npz --output Probes/concept
actlab train-probe --positive DUMP/EM --negative DUMP/Neutral --output Probes/MODEL
"""

from actlab.cli.common import job_command
from actlab.features.probe.config import ProbeConfig

command = job_command(ProbeConfig, __doc__)
