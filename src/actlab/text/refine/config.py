"""The settings of `actlab refine-text`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.ground.errors import ConfigError
from actlab.ground.options import CommonOptions, argument, check_counts, chosen, execution
from actlab.text.refine.gates import GATES


@dataclass(frozen=True, kw_only=True)
class RefineConfig(CommonOptions):
    """What counts as well-formed text, and how much of it to choose."""

    job: ClassVar[str] = "actlab.text.refine.job"
    input: Path = argument()
    """The folder that generate-text wrote, or a JSONL of documents."""
    output: Path = execution()
    """The folder to write: documents.jsonl, quality.parquet, rejects.jsonl, report.json, plots."""
    tokens: int | None = None
    """Choose documents until they have so many tokens; all that pass where it is not given."""
    preset: Literal["short", "story", "web"] = "short"
    """The kind of text that the thresholds are for."""
    gate: tuple[str, ...] = chosen(GATES, (), is_added=True)
    """A gate of your --plugins to ask after those of actlab, which are always asked. May be given several times."""
    select: Literal["greedy", "top"] = "greedy"
    """Prefer by score and new runs of four words (greedy), or by score alone (top)."""
    min_score: float = 0.5
    """Reject documents below this score, from 0 to 1: a format check, which does not know word order."""
    near_duplicates: float = 0.7
    """Reject a document that shares so many of its runs of three words (Jaccard) with a better one; 0: never."""
    prompt: str | None = None
    """What the text is to be about; taken from the input's metadata.json where it is not given."""
    tokenizer: str | None = execution(None)
    """Count all tokens with this one: a folder, a hub name or actlab/tiny; by default documents say theirs."""
    context: int = 256
    """The student's context in tokens: documents of more than two of them score lower (short, story)."""
    judge: str | None = None
    """A model, as qwen2.5:7b, that is asked where the score leaves it open, from 0.35 to 0.80."""
    judge_api: Literal["ollama", "openai"] = execution("ollama")
    """What the judge's server speaks."""
    base_url: str | None = execution(None)
    """The judge's server; for Ollama the default is OLLAMA_HOST or this machine. A name and a password in it are
    sent in place of OPENAI_API_KEY."""
    timeout_preset: Literal["auto", "gpu", "cpu"] = execution("auto")
    """How long to wait for the judge; auto sees where the model lies after loading it."""
    plots: bool = True
    """Draw the report."""
    export: Literal["text2gpt"] | None = execution(None)
    """Also write dataset.json and dataset.txt as text2gpt does, to the folder <output>-text2gpt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "tokens", "context", most=2**63)
        for name in self.gate:
            if not GATES.plugins_of([name]):
                raise ConfigError(f"the gate {name!r} is always asked", hint="--gate is for gates of --plugins")
        object.__setattr__(self, "gate", tuple(sorted(set(self.gate))))  # each is asked once, in one order
        if self.judge is not None and self.judge_api == "openai" and self.base_url is None:
            raise ConfigError("--judge-api openai needs a server", hint="give --base-url, as http://localhost:8000")
        check_counts(self, "min_score", "near_duplicates", least=0, most=1)
