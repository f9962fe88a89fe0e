"""Varied prompts for a model: what is asked at place k depends on the seed and k alone.

Temperature alone gives the same few openings and subjects over and over: what varies a model's text is what it is
asked for (notes on TinyStories and SimpleStories in the literature).
"""

import random
from collections.abc import Iterator
from itertools import count

from actlab.backends.servers.calls import Request
from actlab.ground.seeds import derive_seed
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.templates.engine import Compiled

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
_OPENINGS = ("Sure", "Here is", "Once upon", "In this", "There are", "To make", "When it comes", "Have you ever", "The")


def requests(config: GenerateTextConfig, compiled: Compiled) -> Iterator[Request]:
    """Yield the requests of a run, without end."""
    for k in count():
        rng = random.Random(derive_seed(config.seed, "request", k))
        yield Request(
            k=k,
            prompt=_prompt(config.prompt, rng, _words(compiled, config.seed, k, rng)),
            seed=derive_seed(config.seed, "server", k) & 0x7FFFFFFF,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
        )


def _prompt(subject: str, rng: random.Random, words: list[str]) -> str:
    style, audience, length = rng.choice(_STYLES), rng.choice(_AUDIENCES), rng.choice(_LENGTHS)
    asked = [
        f"Write {length} of text following: {subject}.",
        f"The style is {style}; the reader is {audience}.",
    ]
    if words:
        asked.append(f"Use these words: {', '.join(words)}.")
    openings = ", ".join(f'"{opening}"' for opening in rng.sample(_OPENINGS, 4))
    asked.append(f"Do not begin with {openings}. Write the text alone: no title, no comment, no list.")
    return "\n".join(asked)


def _words(compiled: Compiled, seed: int, k: int, rng: random.Random) -> list[str]:
    """Take up to three of the values that the grammar's own document k has in its slots."""
    slots = compiled.generate(seed, k).labels.get("slots", {})
    values = sorted({value for value in _texts(slots) if value and len(value.split()) <= 3})
    return rng.sample(values, min(3, len(values)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
