"""The groups that say what is written of a network, how it is followed, and where it is sent."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actlab.ground.options import execution, group, secret, setting
from actlab.weights.config.methods import METHODS

Style = Literal["separate", "interwoven"]


@dataclass(frozen=True, kw_only=True)
class PromptFormat:
    """How prompts look."""

    style: Style = "separate"
    """Weights, then the signature; or both layer by layer."""
    digits: str = "6"
    """Decimals of a number, or "round-trip": significant digits enough for the precision."""


@dataclass(frozen=True, kw_only=True)
class SignatureSettings:
    """The activation signature of a network."""

    dataset_path: Path | None = execution(None)
    """The signature dataset, which `actlab create-sig-dataset` makes."""
    neuron_profile_methods: object = METHODS.names
    """Names, or a mapping from a name to its parameters; all eleven by default."""
    prompt_format: PromptFormat = group(PromptFormat())
    """The prompts."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """Which prompts are made."""

    include_modification: bool = True
    """From degraded weights and signature to improved weights."""
    include_classification: bool = False
    """From improved weights and signature to the names of its patterns."""
    tokenizer: str | None = execution(None, flag="tokenizer")
    """A local folder, a hub name or actlab/tiny: count the tokens of prompts and completions with it."""
    max_prompt_tokens: int | None = setting(None, flag="max_prompt_tokens")
    """Reject an example with a longer prompt; nothing is ever cut."""


@dataclass(frozen=True, kw_only=True)
class TensorBoardSettings:
    """Curves to watch."""

    enabled: bool = True
    """Write the run's curves: yield, accuracies before and after, rates."""
    per_example: bool = False
    """Write each accepted example's losses too."""
    auto_launch: bool = False
    """Start TensorBoard on this machine's loopback address while the run lasts."""
    port: int = 6006
    """Where it listens."""
    update_freq: int = 1
    """Write a point every so many units."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Training checkpoints; here a network is trained in a moment or trained again."""

    save_every_epoch: bool = False
    """Only false: the weights after stage 1 and the best of stage 2 are what the dataset holds."""
    save_optimizer_state: bool = False
    """Only false: no training is continued in its middle."""


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """How the run is followed."""

    dir: Path | None = None
    """The folder of the curves; beside the dataset, as NAME.tensorboard, where none is given."""
    tensorboard: TensorBoardSettings = group(TensorBoardSettings())
    """The curves."""
    checkpoint: CheckpointSettings = group(CheckpointSettings())
    """Checkpoints."""


@dataclass(frozen=True, kw_only=True)
class HubSettings:
    """Where the finished dataset is sent."""

    dataset_name: str | None = None
    """A repository on the hub, as owner/name; nothing is sent where none is given."""
    token: str | None = secret()
    """Only null: the token comes from HF_TOKEN or the hub's own login, never from a file."""
    private: bool = True
    """Whether the repository is made private."""
    upload_only_at_end: bool = True
    """Only true: nothing unfinished is published."""
