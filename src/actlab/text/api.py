"""From a prompt to samples in memory: the names of text2gpt's programs, without files and datasets."""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from actlab.backends.servers.calls import ServerError
from actlab.backends.servers.environment import read_environment
from actlab.backends.servers.server import Server, server_of
from actlab.backends.token_count import TokenCounter, find_tokenizer
from actlab.formats.documents import Document
from actlab.ground.errors import ConfigError
from actlab.text.generate.collect import collect, reply_files
from actlab.text.generate.compute import Collected
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.source import Source
from actlab.text.refine.compute.verdicts import Judge, Settings, refine_documents
from actlab.text.refine.config import RefineConfig
from actlab.text.refine.judge import asked
from actlab.text.refine.subject import subject_of
from actlab.text.templates.plan import refuse_target
from actlab.text.words import words_of

log = logging.getLogger("actlab")

Timeouts = Literal["auto", "gpu", "cpu"]


@dataclass(frozen=True)
class Template:
    """Text from a grammar: offline, and in seconds."""


@dataclass(frozen=True)
class Ollama:
    """Text from a model at Ollama; a grammar writes what it leaves open."""

    gen_model: str
    refine_model: str | None = None
    """For `DataRefiner.refine_samples(model=…)`; generation does not ask it."""


@dataclass(frozen=True)
class Sample:
    """A text."""

    text: str
    tokens: int
    """In the student's tokenizer."""
    source: str = "file"
    """What made it: "template", "ollama"; "file" where nobody says."""
    labels: Mapping[str, Any] = field(default_factory=dict)


class DataGenerator:
    """Writes samples about a prompt.

    >>> samples = DataGenerator("simple recipes").generate_samples(500)
    >>> 500 <= sum(sample.tokens for sample in samples) < 500 + samples[-1].tokens
    True
    """

    def __init__(
        self,
        prompt: str,
        tokenizer: Any = None,
        ollama_host: str | None = None,
        timeouts: Timeouts = "auto",
        seed: int = 0,
    ) -> None:
        """Take the student's tokenizer, loaded or by name; by default a byte-level BPE is trained on the grammar."""
        self._prompt, self._tokenizer, self._seed = prompt, tokenizer, seed
        self._ollama_host, self._timeouts = ollama_host, timeouts

    def generate_samples(self, num_tokens: int, method: Template | Ollama | None = None) -> list[Sample]:
        """Return samples until they have the tokens asked for, at most one more; by default from a grammar.

        Where the model fails three times in a row, or is not there, the grammar writes the rest.

        Raises:
            ConfigError: A setting is wrong, or the grammar cannot supply so much.
            ModelError: There is no such tokenizer.
            ServerError: The model repeats itself.
        """
        named = isinstance(self._tokenizer, str | os.PathLike)
        config = GenerateTextConfig(
            prompt=self._prompt,
            output="",
            tokens=num_tokens,
            tokenizer=os.fspath(self._tokenizer) if named else None,
            seed=self._seed,
            quiet=True,
        )
        if isinstance(method, Ollama):
            host, timeouts = self._ollama_host, self._timeouts
            config = replace(config, method="ollama", model=method.gen_model, base_url=host, timeout_preset=timeouts)
        source = Source(config, None if named else self._tokenizer)
        if config.method == "template":
            refuse_target(source.facts, num_tokens, source.tokens_per_word)
        collected = Collected(num_tokens)
        with tempfile.TemporaryDirectory() as temporary:
            collect(source, collected, reply_files(Path(temporary) / "samples"))
        return [_sample(document) for document in collected.documents]

    def check_ollama(self, model: str) -> bool:
        """Say whether Ollama is there and has a model; the reason why not is logged.

        >>> DataGenerator("tea", ollama_host="127.0.0.1:9").check_ollama("llama3.1:8b")
        False
        """
        try:
            _ollama(model, self._ollama_host, self._timeouts).preflight()
        except ServerError as error:
            log.warning("%s (%s)", error, error.hint)
            return False
        return True


class DataRefiner:
    """Chooses good and varied samples on a prompt's subject.

    >>> samples = DataGenerator("simple recipes").generate_samples(2000)
    >>> refined = DataRefiner("simple recipes").refine_samples([*samples, *samples, "Stir."], 1000)
    >>> sum(sample.tokens for sample in refined) >= 1000, len({sample.text for sample in refined}) == len(refined)
    (True, True)
    """

    def __init__(
        self, prompt: str, tokenizer: Any = None, ollama_host: str | None = None, timeouts: Timeouts = "auto"
    ) -> None:
        """Take the student's tokenizer, loaded or by name, for texts of unknown length; without one, words count.

        Raises:
            ModelError: There is no such tokenizer.
        """
        self._prompt, self._ollama_host, self._timeouts = prompt, ollama_host, timeouts
        named = isinstance(tokenizer, str | os.PathLike)
        self._tokenizer = find_tokenizer(os.fspath(tokenizer)) if named else tokenizer

    def refine_samples(
        self,
        samples: Iterable[Sample | str],
        target_tokens: int | None,
        use_ollama: bool = False,
        model: str | None = None,
    ) -> list[Sample]:
        """Return the chosen samples, the first choice first, until they have the tokens asked for or no more pass.

        With `use_ollama` a model judges those whose score leaves it open.

        Raises:
            ConfigError: A judge is wanted, and no model named.
            ServerError: The judge is not there, or three answers in a row are no verdict.
        """
        if use_ollama and model is None:
            raise ConfigError("a judge needs a model", hint='give model="qwen2.5:7b"')
        count = TokenCounter(self._tokenizer).count if self._tokenizer is not None else _count_words
        documents = []
        for number, given in enumerate(samples):
            sample = Sample(given, count(given)) if isinstance(given, str) else given
            documents.append(Document(str(number), sample.text, sample.tokens, sample.source, dict(sample.labels)))
        settings = Settings(tokens=target_tokens, topic=subject_of(self._prompt, {}).topic)
        with self._judge(model if use_ollama else None) as judge:
            refined = refine_documents(documents, settings, judge)
        return [_sample(one.document) for one in refined.chosen]

    @contextmanager
    def _judge(self, model: str | None) -> Iterator[Judge | None]:
        """Lend refine-text's own judge, whose journal is forgotten."""
        if model is None:
            yield None
            return
        timeouts = self._timeouts
        config = RefineConfig(input="", output="", judge=model, base_url=self._ollama_host, timeout_preset=timeouts)
        with (
            tempfile.TemporaryDirectory() as temporary,
            asked(config, self._prompt, Path(temporary) / "judge.jsonl") as judge,
        ):
            yield judge


def _ollama(model: str, host: str | None, timeouts: Timeouts) -> Server:
    return server_of("ollama", model, environment=read_environment(os.environ), base_url=host, preset=timeouts)


def _count_words(text: str) -> int:
    return len(words_of(text))


def _sample(document: Document) -> Sample:
    return Sample(document.text, document.n_tokens, document.source, document.labels)
