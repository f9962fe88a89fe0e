"""What the text is to be about: a prompt's words, and the words of its domain."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from actlab.text.domains import AUTO, DOMAINS, FALLBACK, domains
from actlab.text.templates.detect import COMMON, detect_domain
from actlab.text.templates.grammar import Grammar
from actlab.text.templates.read import domain_grammar
from actlab.text.templates.stems import stem
from actlab.text.words import terms_of


@dataclass(frozen=True)
class Topic:
    """Stems of words that a text on the subject has; all empty where there is no subject."""

    prompt_stems: frozenset[str] = frozenset()
    keyword_stems: frozenset[str] = frozenset()
    """Words that name the domain."""
    vocabulary_stems: frozenset[str] = frozenset()
    """Words that are used in it."""


class Subject(NamedTuple):
    """A prompt, and what it comes to."""

    prompt: str | None
    domain: str | None
    topic: Topic


def topic_of(prompt: str, keywords: Iterable[str] = (), vocabulary: Iterable[str] = ()) -> Topic:
    """Return the topic of a prompt: its own words, without the domain's keywords and those that say nothing.

    >>> sorted(topic_of("Write simple recipes with lentils", ["recipe", "bake"]).prompt_stems)
    ['lentil']
    """
    keyword_stems = _stems(keywords)
    return Topic(_stems([prompt]) - keyword_stems, keyword_stems, _stems(vocabulary) - keyword_stems)


def subject_of(prompt: str | None, metadata: Mapping[str, object]) -> Subject:
    """Return the subject of a prompt, or of the one in an input's metadata where there is none.

    The domain is the metadata's where its prompt is taken, else the one that the prompt's words speak for. The
    domain `general` has no words of its own.
    """
    said, of_prompt = (metadata.get("prompt"), metadata.get("domain")) if prompt is None else (prompt, None)
    if not isinstance(said, str) or not said.strip():
        return Subject(None, None, Topic())
    prompt = said
    known = {*DOMAINS.names} - {AUTO.name}
    domain = str(of_prompt) if of_prompt in known else detect_domain(prompt).domain
    if domain == FALLBACK:
        return Subject(prompt, domain, topic_of(prompt))
    grammar = domain_grammar(domain)
    elsewhere = {word for other in domains() if other != domain for word in _vocabulary(domain_grammar(other))}
    return Subject(prompt, domain, topic_of(prompt, grammar.keywords, set(_vocabulary(grammar)) - elsewhere))


def _vocabulary(grammar: Grammar) -> Iterator[str]:
    """Return the words that can stand in a grammar's slots."""
    rows = (row for values in grammar.variables.values() for row in values.rows)
    return (word for texts in (*grammar.pools.values(), *rows) for text in texts for word in terms_of(text))


def _stems(texts: Iterable[str]) -> frozenset[str]:
    words = (word for text in texts for word in terms_of(text))
    return frozenset(stem(word) for word in words if word not in COMMON and not word.isdigit())
