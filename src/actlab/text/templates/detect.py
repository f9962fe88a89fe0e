"""Tell a prompt's domain by its words."""

from collections.abc import Callable
from functools import lru_cache
from math import exp
from typing import NamedTuple

from actlab.text.domains import FALLBACK, domains
from actlab.text.templates.read import domain_grammar
from actlab.text.templates.stems import parts_of, stem

MIN_MARGIN = 0.25
"""Between the shares of the first and the second domain. One word of weight 1 alone gives 0.30 among four domains."""

COMMON = frozenset(
    """a about an and any are as at be by do for from give have how i in into is it its kind make me my of off on or
    our out over please simple short some text texts than that the their them these they this to tell up what with
    write you your sentence sentences""".split()  # noqa: SIM905
)
"""Words that say nothing about a subject."""


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
def _weights() -> dict[str, dict[str, float]]:
    """Return for each domain the stems that speak for it, each with the largest weight of its words."""
    return {
        domain: {
            stem(word): weight
            for word, weight in sorted(domain_grammar(domain).keywords.items(), key=lambda keyword: keyword[1])
        }
        for domain in domains()
    }


def detect_domain(prompt: str, parts: Callable[[str], list[str]] = parts_of) -> Detected:
    """Find the domain whose keywords a prompt names most, each stem once; `general` where none is clearly ahead.

    `parts` cuts it into words.

    >>> detect_domain("simple recipes").domain, detect_domain("a history of maps").domain
    ('cooking', 'general')
    """
    words: dict[str, str] = {}
    for word in parts(prompt):
        words.setdefault(stem(word), word)
    evidence = [
        Evidence(word, domain, weights[one])
        for one, word in words.items()
        for domain, weights in _weights().items()
        if one in weights
    ]
    scores = {domain: sum(one.weight for one in evidence if one.domain == domain) for domain in domains()}
    best, second, *_ = sorted(scores, key=lambda domain: (-scores[domain], domain))
    shares = {domain: exp(score - scores[best]) for domain, score in scores.items()}
    margin = (1 - shares[second]) / sum(shares.values())
    return Detected(best if margin >= MIN_MARGIN else FALLBACK, evidence, margin)
