"""The settings of `actlab compute-features`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.ground.errors import ConfigError
from actlab.ground.layers import check_layers
from actlab.ground.options import RunOptions, added, check_counts, execution


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(RunOptions):
    """Which sentences, which model, which SAEs."""

    job: ClassVar[str] = "actlab.features.encode.job"
    input: Path | None = execution(None)
    """A CSV with the columns sentence and concept_strength_label."""
    sae: tuple[str, ...] = execution()
    """A folder with SAEs in it, Gemma Scope's or SAELens', here or on the hub (owner/repository/folder). May be given
    several times."""
    output: Path = execution()
    """The folder to make: sentence_000001.npz and so on."""
    model: str = execution("actlab/tiny")
    """A local folder, a hub name, or actlab/tiny."""
    from_hidden: Path | None = execution(None)
    """Encode the hidden states of this folder of sentence files again: no model and no CSV is needed."""
    layers: str = "all"
    """The SAEs' layers to use: "all", "0,5,12", "0-10"."""
    average_l0: int | None = None
    """Use only the SAEs with this average L0."""
    storage: Literal["dense", "sparse"] = "dense"
    """dense is the document's layout, deflated; sparse keeps SAE activations as CSR, far smaller and faster."""
    final_only: bool = False
    """Keep the final token's row of each sentence only."""
    dtype: Literal["float32", "float16"] = "float32"
    """The dtype of the arrays."""
    text_column: str = "sentence"
    """The CSV's column with the sentences."""
    label_column: str = "concept_strength_label"
    """The CSV's column with the labels: numbers, or words that --labels knows."""
    labels: str | None = added(None)
    """The number that a label in words stands for, as "low=0,high=3"."""
    limit: int | None = None
    """Read only so many rows of the CSV."""
    max_length: int = 2048
    """Most tokens of a sentence; the model's own limit holds too. A longer one is dropped, never cut."""
    model_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """The dtype the model computes in; "auto" is the checkpoint's own."""
    load_in_4bit: bool = False
    """Load the model's weights as nf4 (needs the extra bnb)."""
    trust_remote_code: bool = False
    """Run the Python code that a model brings with it."""
    batch_size: int = 32
    """Most sentences in a batch."""
    batch_tokens: int = 4096
    """Most tokens in a batch, padding included."""
    input_scale: float | None = None
    """The factor on the SAE's input, for SAEs of normalize_activations expected_average_only_in."""
    l0_check: Literal["stop", "warn", "off"] = execution("stop")
    """What to do when features fire far more or less often than the SAE declares, or when it explains none of its
    input's variance."""
    revision: str | None = execution(None)
    """A hub model's branch, tag or commit."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("auto")
    """Where to compute."""
    check: bool = execution(False)
    """With --from-hidden, hash the sentence files first and compare them with their manifest. Without it only what is
    picked out of them is read, and the metadata says that they were not checked."""
    on_bad: Literal["drop", "error"] = execution("drop")
    """A bad sentence is dropped and counted (exit status 3), or stops the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self.layers)
        if not self.sae:
            raise ConfigError("no SAE is given", hint="give --sae a folder; actlab train-sae makes small ones")
        if (self.input is None) == (self.from_hidden is None):
            raise ConfigError(
                "give --input or --from-hidden, one of them",
                hint="--input is a CSV of sentences, --from-hidden a folder of sentence files",
            )
        if self.check and self.from_hidden is None:
            raise ConfigError("--check is for --from-hidden", hint="omit it: model and SAEs are always checked")
        check_counts(self, "limit", "max_length", "batch_size", "batch_tokens")
        if self.input_scale is not None and not 0 < self.input_scale < math.inf:
            raise ConfigError(f"--input-scale {self.input_scale} is no factor", hint="sqrt(d_in) over the mean norm")
