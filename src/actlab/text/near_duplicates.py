"""Texts that are nearly the same: found by MinHash, confirmed by the exact overlap of their runs of three words.

A word of a script without spaces is one letter, see `words.words_of`.

MinHash alone would also name texts that only look alike: every pair that it proposes is compared exactly, so a pair
that is reported is one. What it overlooks is known: see `miss_rate`.
"""

# i text, w word, s shingle (a run of three words), p permutation

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt32, UInt64

from actlab.ground.seeds import derive_seed
from actlab.text.words import normal_form, words_of

SHINGLE_WORDS = 3
"""FineWeb takes five; in texts of twenty to a hundred words one changed word would then undo a quarter of the runs."""
N_PERMUTATIONS = 112  # FineWeb's
_MOST_MISSED = 0.05
_BLOCK_SHINGLES = 1 << 14  # a block of 128 kB stays in a processor's cache over all permutations
_TEXTS_AT_ONCE = 256
_MOST_SETS = 4096
_PAD = 0


class Shingles(NamedTuple):
    """The runs of words of many texts, as hashes, one text after the other."""

    hash_s: UInt64[np.ndarray, " s"]
    start_i: Int[np.ndarray, " i_and_1"]
    """Where each text's begin, and the end. Every text has at least one."""

    def of(self, i: int) -> set[int]:
        """Return the distinct shingles of a text."""
        return set(self.hash_s[self.start_i[i] : self.start_i[i + 1]].tolist())

    def digest(self, i: int) -> bytes:
        """Return a hash that texts of the same words have in common."""
        return hashlib.blake2b(self.hash_s[self.start_i[i] : self.start_i[i + 1]].tobytes(), digest_size=16).digest()


class Match(NamedTuple):
    """A text that another one nearly is."""

    original: int
    overlap: float
    """Shared shingles by all that either has."""


def shingles_of(texts: Iterable[str]) -> Shingles:
    """Return the hashes of the runs of three words of each text's normal form; a shorter text is one run, filled up.

    8 bytes a word are kept, 16 at the end, and each distinct word; the texts are not.
    """
    hashes = _WordHashes()
    every = (_padded([hashes[word] for word in words_of(normal_form(text))]) for text in texts)
    hash_parts, n_runs_parts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    while some := list(itertools.islice(every, _TEXTS_AT_ONCE)):
        hash_s, n_runs_i = _shingles(some)
        hash_parts.append(hash_s)
        n_runs_parts.append(n_runs_i)
    return Shingles(np.concatenate(hash_parts), np.cumsum(np.concatenate(n_runs_parts)))


def _padded(words: list[int]) -> UInt64[np.ndarray, " w"]:
    """Return the hashes of a text's words, at least as many as a run has."""
    return np.array(words + [_PAD] * (SHINGLE_WORDS - len(words)), dtype=np.uint64)


def _shingles(some: Sequence[UInt64[np.ndarray, " w"]]) -> tuple[UInt64[np.ndarray, " s"], Int[np.ndarray, " i"]]:
    """Return the hashes of the runs of some texts, and how many each text has."""
    word_w = np.concatenate(some)
    n_words_i = np.array(list(map(len, some)), dtype=np.int64)
    run_w = word_w[: len(word_w) - SHINGLE_WORDS + 1]
    is_inside = np.ones(len(word_w), dtype=bool)
    for place in range(1, SHINGLE_WORDS):
        run_w = mixed(run_w) + word_w[place : len(word_w) - SHINGLE_WORDS + 1 + place]
        is_inside[np.cumsum(n_words_i) - place] = False  # a run that begins there would reach into the next text
    return mixed(run_w[is_inside[: len(run_w)]]), n_words_i - SHINGLE_WORDS + 1


class _WordHashes(dict[str, int]):
    """Words' hashes, each taken once."""

    def __missing__(self, word: str) -> int:
        self[word] = found = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        return found


def mixed(value_s: UInt64[np.ndarray, " s"]) -> UInt64[np.ndarray, " s"]:
    """Return values in which every bit hangs on every bit: the finaliser of SplitMix64 (Steele et al., 2014)."""
    mixed_s = value_s + np.uint64(0x9E3779B97F4A7C15)
    mixed_s = (mixed_s ^ (mixed_s >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed_s = (mixed_s ^ (mixed_s >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed_s ^ (mixed_s >> np.uint64(31))


def signatures(shingles: Shingles, n_permutations: int = N_PERMUTATIONS) -> UInt32[np.ndarray, "i p"]:
    """Return each text's MinHash signature: two texts agree in a place with the chance of their Jaccard overlap."""
    rng = np.random.default_rng(derive_seed(0, "minhash"))  # the same for all: signatures can be compared
    factors = rng.integers(0, 1 << 63, n_permutations, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shifts = rng.integers(0, (1 << 64) - 1, n_permutations, dtype=np.uint64, endpoint=True)
    start_i = shingles.start_i
    n_texts = len(start_i) - 1
    lowest_ip = np.empty((n_texts, n_permutations), dtype=np.uint32)
    first = 0
    while first < n_texts:
        reach = int(np.searchsorted(start_i, start_i[first] + _BLOCK_SHINGLES, side="right")) - 1
        last = min(max(reach, first + 1), n_texts)
        block_s = shingles.hash_s[start_i[first] : start_i[last]]
        begins = start_i[first:last] - start_i[first]
        for p in range(n_permutations):
            lowest = np.minimum.reduceat(block_s * factors[p] + shifts[p], begins)
            lowest_ip[first:last, p] = lowest >> np.uint64(32)
        first = last
    return lowest_ip


def banding(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many places find texts that overlap so much: few pairs, at most 5 % missed.

    >>> banding(0.7)
    (22, 5)
    """
    shapes = [(N_PERMUTATIONS // rows, rows) for rows in range(16, 0, -1)]
    return next((one for one in shapes if miss_rate(threshold, one) <= _MOST_MISSED), shapes[-1])


def miss_rate(overlap: float, bands: tuple[int, int]) -> float:
    """Return the chance that two texts of this overlap are never compared."""
    n_bands, n_rows = bands
    return float((1 - overlap**n_rows) ** n_bands)


def near_duplicates(texts: Sequence[str], threshold: float) -> list[Match | None]:
    """Return for each text the earlier one that makes it superfluous, or None where it is kept.

    Texts come in order of preference. One is superfluous when it overlaps by `threshold` or more with a text that
    is kept, so of a chain of near-duplicates no two neighbours stay. A threshold of 0, or above 1, keeps all.

    >>> near_duplicates(["Boil the rice in water.", "boil the rice, in water", "Fry an egg."], 0.7)
    [None, Match(original=0, overlap=1.0), None]
    """
    found: list[Match | None] = [None] * len(texts)
    if not 0 < threshold <= 1:
        return found
    shingles = shingles_of(texts)
    overlap_of = _overlaps(shingles)
    originals: dict[bytes, int] = {}
    kept: dict[int, list[int]] = {}
    for i, buckets in enumerate(_shared_buckets(signatures(shingles), banding(threshold))):
        original = originals.setdefault(shingles.digest(i), i) if buckets else i
        nearby = {other for bucket in buckets for other in kept.get(bucket, ())}
        for other in sorted(nearby, key=lambda other: (other != original, other)):
            if (overlap := overlap_of(i, other)) >= threshold:
                found[i] = Match(other, overlap)
                break
        else:
            for bucket in buckets:
                kept.setdefault(bucket, []).append(i)
    return found


def near_duplicate_clusters(texts: Iterable[str], threshold: float) -> list[int]:
    """Return each text's cluster, by the index of its first text: near-duplicates, directly or by way of others.

    A threshold of 0, or above 1, leaves each text on its own. Texts are read once, not kept: see `shingles_of`
    for what is, and `signatures` (448 bytes a text).

    >>> near_duplicate_clusters(["Boil the rice in water.", "Fry an egg.", "boil the rice, in water"], 0.7)
    [0, 1, 0]
    """
    if not 0 < threshold <= 1:
        return [i for i, _ in enumerate(texts)]
    shingles = shingles_of(texts)
    overlap_of = _overlaps(shingles)
    clusters = _Clusters(len(shingles.start_i) - 1)
    originals: dict[bytes, int] = {}
    members: dict[int, dict[int, list[int]]] = {}
    for i, buckets in enumerate(_shared_buckets(signatures(shingles), banding(threshold))):
        original = originals.setdefault(shingles.digest(i), i) if buckets else i
        if original != i:
            clusters.join(original, i)
            continue  # what is near to one is near to the other, which is compared with all
        compared: set[int] = set()
        for bucket in buckets:
            by_root = members[bucket] = clusters.regrouped(members.get(bucket, {}))
            for root, those in by_root.items():
                if root == clusters.root(i):
                    continue  # nothing to find among those it is with already
                for other in those:
                    if other not in compared and overlap_of(i, other) >= threshold:
                        clusters.join(other, i)
                        break
                    compared.add(other)
        for bucket in buckets:
            members[bucket].setdefault(clusters.root(i), []).append(i)
    return [clusters.root(i) for i in range(len(shingles.start_i) - 1)]


class _Clusters:
    """Texts that belong together, by the first of them (union and find)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, i: int) -> int:
        """Return the first text of one's cluster."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, i: int, other: int) -> None:
        """Make two clusters one."""
        one, two = sorted((self.root(i), self.root(other)))
        self._parent[two] = one

    def regrouped(self, by_root: dict[int, list[int]]) -> dict[int, list[int]]:
        """Return texts by their roots, where some of these have been joined since."""
        if all(self._parent[root] == root for root in by_root):
            return by_root
        found: dict[int, list[int]] = {}
        for root, those in by_root.items():
            found.setdefault(self.root(root), []).extend(those)
        return found


def _overlaps(shingles: Shingles) -> Callable[[int, int], float]:
    """Return what tells the exact overlap of two texts; some sets of shingles are remembered."""
    set_of = functools.lru_cache(maxsize=_MOST_SETS)(shingles.of)

    def overlap_of(i: int, other: int) -> float:
        one_set, other_set = set_of(i), set_of(other)
        n_shared = len(one_set & other_set)
        return n_shared / (len(one_set) + len(other_set) - n_shared)

    return overlap_of


def _shared_buckets(lowest_ip: UInt32[np.ndarray, "i p"], bands: tuple[int, int]) -> list[list[int]]:
    """Return for each text the numbers of the buckets that it shares: a bucket is a band and its content."""
    n_bands, n_rows = bands
    found: list[list[int]] = [[] for _ in range(len(lowest_ip))]
    for band in range(n_bands):
        key_i = np.zeros(len(lowest_ip), dtype=np.uint64)
        for p in range(band * n_rows, (band + 1) * n_rows):
            key_i = mixed(key_i + lowest_ip[:, p])
        _, number_i, count = np.unique(key_i, return_inverse=True, return_counts=True)
        for i in np.flatnonzero(count[number_i] > 1).tolist():
            found[i].append(band * len(lowest_ip) + int(number_i[i]))
    return found
