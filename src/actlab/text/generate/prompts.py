"""Varied prompts for a model: what is asked at place k depends on the seed and k alone.

Temperature alone gives the same few openings and subjects over and over: what varies a model's text is what it is
asked for (notes on TinyStories and SimpleStories in the literature).
"""

import random
from collections.abc import Iterator
from itertools import count

from actlab.ground.seeds import derive_seed
from actlab.servers.calls import Request
from actlab.text.domains import FALLBACK
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.subject import subject_words
from actlab.text.templates.engine import Compiled
from actlab.text.templates.grammar import Grammar

VERSION = 2
"""Of the prompts that name an angle; those that name a grammar's words are still the first."""

_STYLES = (
    "plain and practical",
    "warm and personal",
    "brief and exact",
    "vivid, with things one can see, hear or smell",
    "like a short story",
    "like a letter to a friend",
    "like a notice on a board",
    "like a page of a diary",
    "calm and thoughtful",
    "lively, with short sentences",
)
_AUDIENCES = (
    "a child of eight",
    "a beginner",
    "a busy parent",
    "an expert",
    "an older neighbour",
    "a student",
    "anyone",
)
_LENGTHS = ("two or three sentences", "three or four sentences", "four to six sentences")
_ANGLES = (
    "one small detail",
    "a common mistake",
    "how it begins",
    "how it ends",
    "a reason for it",
    "what can go wrong",
    "somebody's first time",
    "what has changed over the years",
    "a question and its answer",
    "one person and what they do",
    "a place and what is there",
    "an example",
    "a surprise",
    "a piece of advice",
    "a memory",
    "what one would not expect",
)
_OPENINGS = ("Sure", "Here is", "Once upon", "In this", "There are", "To make", "When it comes", "Have you ever", "The")


def requests(config: GenerateTextConfig, compiled: Compiled) -> Iterator[Request]:
    """Yield the requests of a run, without end."""
    with_words = names_words(config, compiled.grammar)
    for k in count():
        rng = random.Random(derive_seed(config.seed, "request", k))
        more = (
            _words(compiled, config.seed, k, rng) if with_words else f"Look at one side of it: {rng.choice(_ANGLES)}."
        )
        yield Request(
            k=k,
            prompt=_prompt(config.prompt, rng, more),
            seed=derive_seed(config.seed, "server", k) & 0x7FFFFFFF,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
        )


def names_words(config: GenerateTextConfig, grammar: Grammar) -> bool:
    """Whether prompts ask for words of the grammar, which they do where those are what the user's prompt is about.

    A grammar of the user's own was chosen for the prompt; another is foreign to it where it is the general one, or is
    not asked for alone.
    """
    is_foreign = grammar.domain == FALLBACK or bool(subject_words(config.prompt, grammar))
    return config.grammar is not None or not is_foreign


def _prompt(subject: str, rng: random.Random, more: str) -> str:
    style, audience, length = rng.choice(_STYLES), rng.choice(_AUDIENCES), rng.choice(_LENGTHS)
    openings = ", ".join(f'"{opening}"' for opening in rng.sample(_OPENINGS, 4))
    asked = [
        f"Write {length} of text following: {subject}.",
        f"The style is {style}; the reader is {audience}.",
        more,
        f"Do not begin with {openings}. Write the text alone: no title, no comment, no list.",
    ]
    return "\n".join(filter(None, asked))


def _words(compiled: Compiled, seed: int, k: int, rng: random.Random) -> str:
    """Ask for up to three of the values that the grammar's own document k has in its slots, if it has any."""
    slots = compiled.generate(seed, k).labels["slots"].values()
    texts = {text for value in slots for text in ([value] if isinstance(value, str) else value)}
    values = sorted(text for text in texts if text and len(text.split()) <= 3)
    words = rng.sample(values, min(3, len(values)))
    return f"Use these words: {', '.join(words)}." if words else ""
