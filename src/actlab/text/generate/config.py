"""The settings of `actlab generate-text`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from actlab.formats.documents import UNPRINTABLE
from actlab.ground.errors import ConfigError
from actlab.ground.options import CommonOptions, argument, check_counts, chosen, execution
from actlab.text.domains import AUTO, DOMAINS, Domain, own_grammar

TARGETS = {"small": 30_000, "medium": 50_000, "large": 100_000}
"""Tokens to generate for a student of each size, before refinement; the seed document's."""

_MOST_TOKENS = 10**8
"""Some two million documents, which are held in memory until they are written."""


@dataclass(frozen=True, kw_only=True)
class GenerateTextConfig(CommonOptions):
    """What the text is about, who writes it, and how much of it there is to be."""

    job: ClassVar[str] = "actlab.text.generate.job"
    prompt: str = argument()
    """What the text is to be about, as "simple recipes"."""
    output: Path = execution()
    """The folder to write: documents.jsonl and the tokenizer that counted."""
    method: Literal["template", "ollama", "openai"] = "template"
    """Grammars, offline; a model at Ollama; or one at an OpenAI-compatible server."""
    tokens: int | None = execution(None)
    """Tokens to generate, counted with --tokenizer; at most one document more."""
    model_size: Literal["small", "medium", "large"] | None = execution(None)
    """The student's size, in place of --tokens: 30,000, 50,000 or 100,000 tokens. Small by default."""
    domain: str = chosen(DOMAINS, AUTO.name)
    """Which grammar."""
    grammar: Path | None = execution(None)
    """A grammar of your own, a YAML file."""
    tokenizer: str | None = execution(None)
    """The student's: a folder, a hub name or actlab/tiny; by default a byte-level BPE is trained here, on the
    grammar's text also where a server writes."""
    vocab_size: int = 4096
    """Of the tokenizer that is trained here."""
    seed: int = 0
    """Everything drawn derives from it."""
    model: str | None = None
    """The model at the server, as llama3.1:8b."""
    base_url: str | None = execution(None)
    """The server's address; for Ollama the default is OLLAMA_HOST or this machine. A name and a password in it are
    sent in place of OPENAI_API_KEY."""
    timeout_preset: Literal["auto", "gpu", "cpu"] = execution("auto")
    """How long to wait for a server; auto asks whether its model is on a GPU."""
    concurrency: int = execution(4)
    """The most requests at a time; it starts with one and grows while that helps."""
    fallback: Literal["auto", "never", "always"] = "auto"
    """Let a grammar write the rest: auto when the server fails after some text (exit status 3), always also when no
    text came or the model repeats itself, refuses, only thinks or is cut before a sentence ends (exit status 0)."""
    temperature: float = 0.8
    """Of the model's draws."""
    max_tokens: int = 150
    """The longest reply, in the model's own tokens."""
    retry_failed: bool = execution(False)
    """Ask again for what failed in an earlier run, after the server was mended."""
    export: Literal["text2gpt"] | None = execution(None)
    """Also write dataset.json and dataset.txt as text2gpt does, to the folder <output>-text2gpt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_prompt()
        bounds = {
            "tokens": (1, _MOST_TOKENS),
            "vocab_size": (300, 65_536),
            "seed": (0, 2**63 - 1),
            "concurrency": (1, 256),
            "temperature": (0, 2),
            "max_tokens": (8, 100_000),
        }
        for name, (least, most) in bounds.items():
            check_counts(self, name, least=least, most=most)
        if self.tokens is not None and self.model_size is not None:
            raise ConfigError("--tokens and --model-size both say how much", hint="give one of them")
        if self.asks_server and self.model is None:
            raise ConfigError(f"--method {self.method} needs a model", hint="give --model, as llama3.1:8b")
        for flag, given in (("model", self.model), ("base-url", self.base_url)):
            if given is not None and not self.asks_server:
                raise ConfigError(f"--{flag} is for a server, and grammars need none", hint="give --method ollama")
        if self.method == "openai" and self.base_url is None:
            raise ConfigError("--method openai needs a server", hint="give --base-url, as http://localhost:8000")
        if self.grammar is not None and DOMAINS[self.domain] is not AUTO:
            raise ConfigError("--grammar and --domain both name a grammar", hint="give one of them")

    def _refuse_prompt(self) -> None:
        """Refuse a prompt that says nothing, or that no file and no terminal can show.

        Raises:
            ConfigError: It is so.
        """
        if not self.prompt.strip():
            raise ConfigError("the prompt is empty", hint='say what the text is to be about, as "simple recipes"')
        if any("\ud800" <= character <= "\udfff" for character in self.prompt):
            raise ConfigError("the prompt is no valid UTF-8", hint="type it anew")
        if found := UNPRINTABLE.search(self.prompt):
            raise ConfigError(f"the prompt has a control character, U+{ord(found[0]):04X}", hint="type it anew")
        if not any(map(str.isalpha, self.prompt)):
            raise ConfigError(f"the prompt {self.prompt!r} has no letters", hint="say in words what the text is about")

    @property
    def target(self) -> int:
        """Tokens to generate."""
        return self.tokens if self.tokens is not None else TARGETS[self.model_size or "small"]

    @property
    def asks_server(self) -> bool:
        """Whether a model server writes the text, or a part of it."""
        return self.method != "template"

    @property
    def chosen_domain(self) -> Domain:
        """What is to be written about: `AUTO` where the prompt decides."""
        return DOMAINS[self.domain] if self.grammar is None else own_grammar(self.grammar)
