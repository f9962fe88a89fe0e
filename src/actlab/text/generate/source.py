"""What a run reads: the grammar, the tokenizer, what the environment says of servers."""

import logging
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

from actlab.backends.bpe import train_tokenizer
from actlab.backends.token_count import TokenCounter, find_tokenizer, tokenizer_sha256
from actlab.formats.documents import Document
from actlab.ground.manifest import InputEntry, file_entry
from actlab.servers.environment import ServerEnvironment, read_environment
from actlab.servers.ollama import context_for
from actlab.servers.server import Server, server_of
from actlab.text.domains import Detected, detect_domain
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.subject import PromptSubject, prompt_subject
from actlab.text.templates.engine import Compiled, compile_grammar
from actlab.text.templates.grammar import Grammar
from actlab.text.templates.plan import GrammarFacts, describe_grammar
from actlab.text.templates.prompt import names_by_script
from actlab.text.templates.read import domain_path, read_grammar
from actlab.text.templates.stems import latin_parts_of
from actlab.text.words import VERSION

log = logging.getLogger("actlab")

_ANOTHER_SCRIPT = (
    "the tokenizer that is trained here knows the grammar's text alone, which has few of the prompt's letters, and "
    "cuts them into bytes: give the student's own (generate-text has --tokenizer)"
)
_TOKENIZER_DOCUMENTS = 2000
"""Template documents that a tokenizer is trained on, some 100,000 words' worth of pieces."""
_SAMPLE = 200
"""Documents by which tokens a word are estimated."""


class Source:
    """The settings, met with the grammar and the tokenizer."""

    def __init__(self, config: GenerateTextConfig, tokenizer: Any = None) -> None:
        """Read the grammar; a `tokenizer` that is already loaded stands in for the settings' one."""
        self.config = config
        self._given = tokenizer
        self.detected: Detected | None = None
        self.grammar_path = self._grammar_path()
        self.grammar: Grammar = read_grammar(self.grammar_path)
        self.compiled: Compiled = compile_grammar(self.grammar, config.prompt)

    @property
    def domain(self) -> str:
        """The grammar's domain."""
        return self.grammar.domain

    @cached_property
    def facts(self) -> GrammarFacts:
        """What the grammar can say, exactly."""
        return describe_grammar(self.grammar, self.config.prompt)

    @cached_property
    def subject(self) -> PromptSubject:
        """What the prompt asks for beyond the domain."""
        return prompt_subject(self.config.prompt, self.compiled)

    @property
    def versions(self) -> dict[str, int]:
        """The version of the words by which the prompt chose the grammar or its values; none where 1 chose the same."""
        prompt, detected = self.config.prompt, self.detected
        is_other = names_by_script(self.grammar, prompt) or (
            detected is not None and detect_domain(prompt, latin_parts_of).domain != detected.domain
        )
        return {"words": VERSION} if is_other else {}

    @cached_property
    def tokenizer(self) -> Any:
        """The student's tokenizer: given, or trained on the grammar's own text, whoever writes the documents.

        Raises:
            ModelError: The one that was named cannot be loaded.
        """
        if self._given is not None:
            return self._given
        if self.config.tokenizer is not None:
            return find_tokenizer(self.config.tokenizer)
        texts = [self.compiled.generate(self.config.seed, k).text for k in range(_TOKENIZER_DOCUMENTS)]
        letters, known = list(filter(str.isalpha, self.config.prompt)), set("".join(texts))
        if self.config.method != "template" and sum(one.lower() not in known for one in letters) > len(letters) / 2:
            log.warning(_ANOTHER_SCRIPT)
        return train_tokenizer(texts, self.config.vocab_size)

    @property
    def tokenizer_name(self) -> str:
        """What to call it: of a folder only its own name, so that it can be anywhere."""
        given = self.config.tokenizer
        if given is None:
            return "trained here"
        folder = Path(os.path.expanduser(given))
        return folder.resolve().name if folder.is_dir() else given

    @cached_property
    def counter(self) -> TokenCounter:
        """Counts in the student's tokens."""
        return TokenCounter(self.tokenizer)

    @cached_property
    def tokens_per_word(self) -> float:
        """Of the grammar's text, by a sample."""
        texts = [document.text for document in islice(self.templates(), _SAMPLE)]
        return sum(map(self.counter.count, texts)) / sum(len(text.split()) for text in texts)

    def templates(self) -> Iterator[Document]:
        """Yield the grammar's documents, each a function of the seed and its number."""
        for k in count():
            made = self.compiled.generate(self.config.seed, k)
            yield Document(f"template-{k:07d}", made.text, self.counter.count(made.text), "template", made.labels)

    def inputs(self) -> list[InputEntry]:
        """Return the manifest's entries for what is read."""
        entries = [file_entry("grammar", self.grammar_path)]
        if self.config.tokenizer is not None:
            sha256 = tokenizer_sha256(self.tokenizer)
            entries.append({"role": "tokenizer", "name": self.tokenizer_name, "sha256": sha256})
        return entries

    @cached_property
    def environment(self) -> ServerEnvironment:
        """What the environment says of servers.

        Raises:
            ConfigError: A time or an address there is none.
        """
        return read_environment(os.environ)

    def server(self) -> Server:
        """Return the model server that the settings and the environment name; nothing is asked of it."""
        config = self.config
        assert config.model is not None
        return server_of(
            config.method,
            config.model,
            environment=self.environment,
            base_url=config.base_url,
            preset=config.timeout_preset,
            context=context_for(config.prompt, config.max_tokens),
        )

    def _grammar_path(self) -> Path:
        config = self.config
        if config.grammar is not None:
            return Path(os.path.expanduser(config.grammar))
        if config.domain != "auto":
            return domain_path(config.domain)
        self.detected = detect_domain(config.prompt)
        return domain_path(self.detected.domain)
