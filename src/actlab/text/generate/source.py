"""What a run reads: the grammar and the tokenizer."""

from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice

from actlab.backends.bpe import train_tokenizer
from actlab.backends.token_count import TokenCounter, find_tokenizer, tokenizer_sha256
from actlab.backends.tokenizers import FastTokenizer
from actlab.formats.documents import Document
from actlab.ground.log import log
from actlab.ground.manifest import InputEntry, file_entry
from actlab.ground.options import as_path
from actlab.text.domains import AUTO, DOMAINS
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.subject import SubjectShare, prompt_subject
from actlab.text.templates.detect import detect_domain
from actlab.text.templates.engine import compile_grammar
from actlab.text.templates.plan import GrammarFacts, describe_grammar
from actlab.text.templates.prompt import names_by_script
from actlab.text.templates.read import read_grammar
from actlab.text.templates.stems import latin_parts_of
from actlab.text.words import VERSION

_ANOTHER_SCRIPT = (
    "the tokenizer that is trained here knows the grammar's text alone, which has few of the prompt's letters, and "
    "cuts them into bytes: give the student's own (generate-text has --tokenizer)"
)
_TOKENIZER_DOCUMENTS = 2000
"""Template documents that a tokenizer is trained on, some 100,000 words' worth of pieces."""
_SAMPLE = 200
"""Documents by which tokens a word are estimated."""


class Source:
    """The grammar that the settings name or the prompt chooses, and the student's tokenizer."""

    def __init__(self, config: GenerateTextConfig, tokenizer: FastTokenizer | None = None) -> None:
        """Read the grammar; a `tokenizer` that is already loaded stands in for the settings' one."""
        self.config = config
        self._given = tokenizer
        self.chosen = config.chosen_domain
        self.detected = detect_domain(config.prompt) if self.chosen is AUTO else None
        if self.detected is not None:
            self.chosen = DOMAINS[self.detected.domain]
        self.grammar = read_grammar(self.chosen.grammar)
        self.compiled = compile_grammar(self.grammar, config.prompt)

    @cached_property
    def facts(self) -> GrammarFacts:
        """What the grammar can say, exactly."""
        return describe_grammar(self.grammar, self.config.prompt)

    @cached_property
    def subject(self) -> SubjectShare:
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
    def tokenizer(self) -> FastTokenizer:
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
        if self.config.asks_server and sum(one.lower() not in known for one in letters) > len(letters) / 2:
            log.warning(_ANOTHER_SCRIPT)
        return train_tokenizer(texts, self.config.vocab_size)

    @property
    def tokenizer_name(self) -> str:
        """What to call it: of a folder only its own name, so that it can be anywhere."""
        given = self.config.tokenizer or "trained here"
        folder = as_path(given)
        return folder.resolve().name if self.config.tokenizer and folder.is_dir() else given

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
            yield Document(f"template-{k:07d}", made.text, self.counter.count(made.text), "template", {**made.labels})

    def inputs(self) -> list[InputEntry]:
        """Return the manifest's entries for what is read."""
        entries = [file_entry("grammar", self.chosen.grammar)]
        if self.config.tokenizer is not None:
            entries.append(
                {"role": "tokenizer", "name": self.tokenizer_name, "sha256": tokenizer_sha256(self.tokenizer)}
            )
        return entries
