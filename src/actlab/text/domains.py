"""Tell a prompt's domain by its words."""

from collections.abc import Callable
from functools import lru_cache
from math import exp
from typing import NamedTuple

from actlab.text.templates.read import domain_grammar, domains
from actlab.text.templates.stems import parts_of, stem

FALLBACK = "general"

MIN_MARGIN = 0.25
"""Between the shares of the first and the second domain. One word of weight 1 alone gives 0.30 among four domains."""

COMMON = frozenset(
    """a about an and any are as at be by do for from give have how i in into is it its kind make me my of off on or
    our out over please simple short some text texts than that the their them these they this to tell up what with
    write you your sentence sentences""".split()  # noqa: SIM905
)
"""Words that say nothing about a subject."""

THINGS = {
    "cooking": """soup stew salad sauce curry pasta bread cake pie dessert snack vegetable garlic onion tomato potato
    cheese chicken egg flour butter spice herb""",
    "general": "family travel history nature animal school town sport weather journey neighbour holiday",
    "poetry": "dream moon heart love sorrow longing nostalgia beauty soul autumn spring",
    "technical": """api server database network algorithm bug deploy deployment install configuration cache compiler
    kernel linux python rust javascript hardware backend frontend cloud query thread devops security""",
}
"""Keywords of a domain that name something in it, which a text of the domain may be about or not: a prompt with
"pasta" asks for more than cooking, one with "recipes" does not."""


class Evidence(NamedTuple):
    """A word of the prompt that speaks for a domain."""

    word: str
    domain: str
    weight: float


class Detected(NamedTuple):
    """A domain, and why."""

    domain: str
    evidence: list[Evidence]
    """In the order of the prompt."""
    margin: float
    """By how much the best domain's share is over the second's; shares are a softmax of the summed weights."""


@lru_cache(maxsize=1)
def _keywords() -> dict[str, list[tuple[str, float]]]:
    """Return for each stem the domains that it speaks for."""
    found: dict[str, list[tuple[str, float]]] = {}
    for domain in domains():
        weights: dict[str, float] = {}
        for word, weight in domain_grammar(domain).keywords.items():
            weights[stem(word)] = max(weight, weights.get(stem(word), 0.0))
        for one, weight in weights.items():
            found.setdefault(one, []).append((domain, weight))
    return found


def detect_domain(prompt: str, parts: Callable[[str], list[str]] = parts_of) -> Detected:
    """Find the domain whose keywords a prompt names most, each stem once; `general` where none is clearly ahead.

    `parts` cuts it into words.

    >>> detect_domain("simple recipes").domain, detect_domain("a history of maps").domain
    ('cooking', 'general')
    """
    evidence: list[Evidence] = []
    seen: set[str] = set()
    for word in parts(prompt):
        if (one := stem(word)) not in seen:
            seen.add(one)
            evidence += [Evidence(word, domain, weight) for domain, weight in _keywords().get(one, [])]
    scores = {domain: sum(one.weight for one in evidence if one.domain == domain) for domain in domains()}
    best, second, *_ = sorted(scores, key=lambda domain: (-scores[domain], domain))
    shares = {domain: exp(score - scores[best]) for domain, score in scores.items()}
    margin = (1 - shares[second]) / sum(shares.values())
    return Detected(best if margin >= MIN_MARGIN else FALLBACK, evidence, margin)
