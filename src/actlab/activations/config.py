"""The settings of `actlab extract-activations`."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar, Literal

from actlab.activations.positions import POSITIONS
from actlab.ground.errors import ConfigError
from actlab.ground.layers import check_layers
from actlab.ground.names import safe_name
from actlab.ground.options import RunOptions, added, check_counts, chosen, execution

_TAKEN = {"units", "plan.json", "manifest.json", "dropped.jsonl"}


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(RunOptions):
    """What to read, from which models, and how."""

    job: ClassVar[str] = "actlab.activations.job"
    makes_many: ClassVar[bool] = True
    model: tuple[str, ...] = execution(("actlab/tiny",))
    """A local folder, a hub name, or actlab/tiny (small, made on first use). May be given several times."""
    dataset: tuple[Path, ...] = execution((Path("Datasets/SPDatasets"),))
    """A JSONL file, or a folder of them. May be given several times."""
    output: Path = execution(Path("Datasets/Activations"))
    """Root folder: each dump goes to ROOT/MODEL/DATASET."""
    splits: str = "EM,Neutral"
    """The keys of each row that hold a response; rows of {"text"} or {"messages"} make the split "text"."""
    layers: str = "all"
    """Blocks to save: "all", "0,5,-1", "0-10", "0-10:2". Layer k is the output of block k."""
    position: str = chosen(POSITIONS, "last")
    """The state to save."""
    max_length: int = 2048
    """Most tokens of one example; the model's own limit holds too."""
    truncate: Literal["prompt", "left", "right", "error"] = "prompt"
    """What to cut from an example that is too long: the prompt's start, its own start or end, or nothing."""
    chat_template: bool = False
    """Join prompt and response by the tokenizer's chat template in place of a newline."""
    template_date: str | None = added(None)
    """The day, as "2026-07-31", that a chat template takes for today; by default that on which the dump is begun."""
    shard_size: int = 512
    """Source lines in a shard."""
    dtype: Literal["float16", "float32", "bfloat16", "model"] = "float16"
    """The dtype to save; "model" is the one the model computes in."""
    model_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """The dtype to compute in; "auto" is the checkpoint's own."""
    load_in_4bit: bool = False
    """Load the weights as nf4 with double quantisation (needs the extra bnb)."""
    trust_remote_code: bool = False
    """Run the Python code that a model brings with it."""
    batch_size: int = 32
    """Most examples in a batch."""
    batch_tokens: int = 4096
    """Most tokens in a batch, padding included."""
    limit: int | None = None
    """Read only so many source lines of each dataset."""
    revision: str | None = execution(None)
    """A hub model's branch, tag or commit."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("auto")
    """Where to compute."""
    on_bad: Literal["drop", "error"] = execution("drop")
    """A bad record is dropped and counted (exit status 3), or stops the run."""
    preview: int | None = execution(None)
    """Print so many joined texts as the model sees them, the saved token marked, and stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self.layers)
        for name in self.split_names:
            safe_name(name, "split")
            if name.lower() in _TAKEN:
                raise ConfigError(f"{name!r} cannot be the name of a split", hint="actlab uses that name itself")
        if len(set(self.split_names)) < len(self.split_names):
            raise ConfigError(f"--splits {self.splits!r} names a split twice", hint="name each once")
        POSITIONS[self.position]  # says which there are
        check_counts(self, "max_length", "shard_size", "batch_size", "batch_tokens", "limit", "preview")
        if self.revision is not None and len(self.model) > 1:
            raise ConfigError("--revision is one model's, and several are given", hint="run them one by one")
        if self.template_date is not None and not self.chat_template:
            raise ConfigError("--template-date is for --chat-template", hint="give both, or neither")
        if self.template_date is not None and not _is_date(self.template_date):
            raise ConfigError(f"--template-date {self.template_date!r} is not a day", hint="write it as 2026-07-31")
        if not self.model or not self.dataset:
            raise ConfigError("no model or no dataset is given", hint="omit the setting for the default")

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits, in the order given."""
        return tuple(name.strip() for name in self.splits.split(","))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
