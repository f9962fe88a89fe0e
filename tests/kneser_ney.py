"""An interpolated Kneser-Ney bigram model, as Chen and Goodman (1999, section 2.7) write it: what a GPT has to beat."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import exp, log

_DISCOUNT = 0.75
"""Church and Gale's customary value for bigrams."""


class KneserNeyBigram:
    """Counts of a stream of token ids. Both levels are discounted; what is left goes to a uniform distribution."""

    def __init__(self, ids: Sequence[int], vocab_size: int, discount: float = _DISCOUNT) -> None:
        self.vocab_size, self.discount = vocab_size, discount
        self.pairs = Counter(pairwise(ids))
        self.firsts = Counter(ids[:-1])
        self.followers = Counter(first for first, _ in self.pairs)
        self.preceders = Counter(second for _, second in self.pairs)

    def probability(self, first: int, second: int) -> float:
        discount, kinds = self.discount, len(self.pairs)
        left = discount * len(self.preceders) / kinds
        unigram = max(self.preceders[second] - discount, 0) / kinds + left / self.vocab_size
        if not self.firsts[first]:
            return unigram
        n = self.firsts[first]
        return max(self.pairs[first, second] - discount, 0) / n + discount * self.followers[first] / n * unigram

    def perplexity(self, ids: Sequence[int]) -> float:
        """Return the perplexity of a stream's tokens but the first."""
        pairs = list(pairwise(ids))
        return exp(-sum(log(self.probability(*pair)) for pair in pairs) / len(pairs))
