"""From a prompt to samples in memory: the names of text2gpt's programs, without files and datasets."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal

from actlab.backends.token_count import TokenCounter, find_tokenizer
from actlab.backends.tokenizers import FastTokenizer
from actlab.formats.documents import Document
from actlab.ground.errors import ConfigError, scrubbed
from actlab.ground.log import log
from actlab.ground.options import from_settings
from actlab.ground.temporary import temporary_folder
from actlab.servers.calls import ServerError
from actlab.servers.environment import read_environment
from actlab.text.generate.collect import collect, server_for, shares_not_asked
from actlab.text.generate.compute import Collected
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.source import Source
from actlab.text.generate.subject import measure, say
from actlab.text.refine.compute.verdicts import Settings, refine_documents
from actlab.text.refine.config import RefineConfig
from actlab.text.refine.judge import asked
from actlab.text.refine.subject import subject_of
from actlab.text.templates.plan import refuse_target
from actlab.text.words import words_of

Timeouts = Literal["auto", "gpu", "cpu"]
Tokenizer = FastTokenizer | str | os.PathLike[str]
"""Loaded, or by name."""


@dataclass(frozen=True)
class Template:
    """Text from a grammar: offline, and in seconds."""


@dataclass(frozen=True)
class Ollama:
    """Text from a model at Ollama; where it fails after some text, a grammar writes the rest."""

    gen_model: str
    refine_model: str | None = None
    """For `DataRefiner.refine_samples(model=…)`; generation does not ask it."""
    fallback: Literal["auto", "never", "always"] = "auto"
    """As in `generate_text`: when a grammar writes the rest."""


@dataclass(frozen=True)
class Sample:
    """A text."""

    text: str
    tokens: int
    """In the student's tokenizer."""
    source: str = "file"
    """What made it: "template", "ollama"; "file" where nobody says."""
    labels: Mapping[str, object] = field(default_factory=dict)


class DataGenerator:
    """Writes samples about a prompt.

    >>> samples = DataGenerator("simple recipes").generate_samples(500)
    >>> 500 <= sum(sample.tokens for sample in samples) < 500 + samples[-1].tokens
    True
    """

    def __init__(
        self,
        prompt: str,
        tokenizer: Tokenizer | None = None,
        ollama_host: str | None = None,
        timeouts: Timeouts = "auto",
        seed: int = 0,
    ) -> None:
        """Take the student's tokenizer, loaded or by name; by default a byte-level BPE is trained on the grammar.

        Raises:
            ConfigError: The prompt, the tokenizer or the host is none.
            ModelError: There is no such tokenizer.
        """
        self._prompt, self._seed, self._timeouts = _text("prompt", prompt), seed, timeouts
        self._host = None if ollama_host is None else _text("ollama_host", ollama_host)
        self._tokenizer = _loaded(tokenizer)

    def generate_samples(self, num_tokens: int, method: Template | Ollama | None = None) -> list[Sample]:
        """Return samples until they have the tokens asked for, at most one more; by default from a grammar.

        Where the model fails three times in a row after some text, the grammar writes the rest, and a warning has the
        shares; each sample has its source.

        Raises:
            ConfigError: A setting is wrong, or the grammar cannot supply so much.
            ServerError: No text came from the model, or it repeats itself, refuses, only thinks or is cut before a
                sentence ends (`Ollama.fallback` asks otherwise).
            DataError: The grammar repeats itself before there are tokens enough.
        """
        if num_tokens is None:
            raise ConfigError("num_tokens is None", hint="say how many tokens, as in generate_samples(500)")
        source = Source(self._config(num_tokens, method), self._tokenizer)
        if not source.config.asks_server:
            refuse_target(source.facts, num_tokens, source.tokens_per_word)
        collected = Collected(num_tokens)
        with temporary_folder() as temporary:
            collect(source, collected, temporary / "samples")
        sources = Counter(document.source for document in collected.documents)
        say(measure(source.subject, collected.documents), sources, source.grammar.domain)
        if (shares := shares_not_asked(source.config, sources)) is not None:
            log.warning("%s", shares)
        return [_sample(document) for document in collected.documents]

    def check_ollama(self, model: str) -> bool:
        """Say whether Ollama is there and has a model; the reason why not is logged.

        >>> DataGenerator("tea", ollama_host="127.0.0.1:9").check_ollama("llama3.1:8b")
        False
        """
        try:
            server_for(self._config(1, Ollama(model)), read_environment(os.environ)).preflight()
        except ServerError as error:
            log.warning("%s (%s)", error, error.hint)
            return False
        return True

    def _config(self, num_tokens: int, method: Template | Ollama | None) -> GenerateTextConfig:
        """Return what the settings come to, each of its type."""
        settings = {
            "prompt": self._prompt,
            "output": "samples",
            "tokens": num_tokens,
            "seed": self._seed,
            "timeout_preset": self._timeouts,
            "quiet": True,
        }
        if isinstance(method, Ollama):
            settings |= {"method": "ollama", "model": _text("a model", method.gen_model), "base_url": self._host}
            settings["fallback"] = method.fallback
        elif not (method is None or isinstance(method, Template)):
            raise ConfigError(f"{method!r} writes no text", hint='give Template(), or Ollama("llama3.1:8b")')
        return from_settings(GenerateTextConfig, settings)


class DataRefiner:
    """Chooses well-formed and varied samples on a prompt's subject.

    >>> samples = DataGenerator("simple recipes").generate_samples(2000)
    >>> refined = DataRefiner("simple recipes").refine_samples([*samples, *samples, "Stir."], 1000)
    >>> sum(sample.tokens for sample in refined) >= 1000, len({sample.text for sample in refined}) == len(refined)
    (True, True)
    """

    def __init__(
        self,
        prompt: str,
        tokenizer: Tokenizer | None = None,
        ollama_host: str | None = None,
        timeouts: Timeouts = "auto",
    ) -> None:
        """Take the student's tokenizer, loaded or by name, for texts of unknown length; without one, words count.

        Raises:
            ConfigError: The tokenizer is none that can be used here.
            ModelError: There is no such tokenizer.
        """
        self._prompt, self._timeouts = _text("prompt", prompt), timeouts
        self._host = None if ollama_host is None else _text("ollama_host", ollama_host)
        self._tokenizer = _loaded(tokenizer)

    def refine_samples(
        self,
        samples: Iterable[Sample | str],
        target_tokens: int | None,
        use_ollama: bool = False,
        model: str | None = None,
    ) -> list[Sample]:
        """Return the chosen samples, the first choice first, until they have the tokens asked for or no more pass.

        The list is empty where none passes, and a warning has the reasons. With `use_ollama` a model judges those whose
        score leaves it open.

        Raises:
            ConfigError: A judge is wanted, and no model named; or the target is no number from 1 on.
            ServerError: The judge is not there, or three answers in a row are no verdict, or it gives none at all.
            TypeError: A sample is neither a Sample nor a text.
        """
        if use_ollama and model is None:
            raise ConfigError("a judge needs a model", hint='give model="qwen2.5:7b"')
        if target_tokens is not None and not (
            type(target_tokens) is not bool and isinstance(target_tokens, Integral) and target_tokens >= 1
        ):
            raise ConfigError(
                f"target_tokens {target_tokens!r} is no number of tokens",
                hint="give 1 or more, or None for all that pass",
            )
        count = TokenCounter(self._tokenizer).count if self._tokenizer is not None else lambda text: len(words_of(text))
        if isinstance(samples, str | Mapping):
            raise TypeError("samples is one text, or a mapping: give a list of them")
        documents = []
        for number, given in enumerate(samples):
            sample = Sample(given, count(given)) if isinstance(given, str) else given
            if not isinstance(sample, Sample):
                raise TypeError(f"sample {number} is a {type(given).__name__}: give a Sample or a text")
            documents.append(Document(str(number), sample.text, sample.tokens, sample.source, dict(sample.labels)))
        settings = Settings(tokens=target_tokens, topic=subject_of(self._prompt, {}).topic)
        texts = (document.text for document in documents)
        config = self._judging(model if use_ollama else None)
        with temporary_folder() as temporary, asked(config, self._prompt, texts, temporary / "judge.jsonl") as judge:
            refined = refine_documents(documents, settings, judge)
            if judge is not None:
                judge.require_some_scores(refined)
        if refined.n_unanswered:
            log.warning("the judge gave no score for %d texts: their own stands", refined.n_unanswered)
        if documents and not refined.chosen:
            log.warning("no sample passes: %s", ", ".join(f"{why} {n}" for why, n in refined.n_rejects.items()))
        return [_sample(one.document) for one in refined.chosen]

    def _judging(self, model: str | None) -> RefineConfig:
        """Return the settings by which refine-text would ask a judge."""
        return from_settings(
            RefineConfig,
            {
                "input": "samples",
                "output": "refined",
                "judge": model,
                "base_url": self._host,
                "timeout_preset": self._timeouts,
            },
        )


def _text(name: str, value: object) -> str:
    """Return a text; settings would take a number for one, as YAML writes them."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} takes text, not {scrubbed(repr(value))}", hint="put it in quotes")
    return value


def _loaded(tokenizer: Tokenizer | None) -> FastTokenizer | None:
    """Return a tokenizer, which is given by name or loaded; None where none is given."""
    if isinstance(tokenizer, str | os.PathLike):
        return find_tokenizer(os.fspath(tokenizer))
    if tokenizer is not None and not hasattr(tokenizer, "backend_tokenizer"):
        raise ConfigError(
            f"a {type(tokenizer).__name__} is no fast tokenizer of transformers",
            hint="give its name, or PreTrainedTokenizerFast(tokenizer_object=…) around it",
        )
    return tokenizer


def _sample(document: Document) -> Sample:
    return Sample(document.text, document.n_tokens, document.source, document.labels)
