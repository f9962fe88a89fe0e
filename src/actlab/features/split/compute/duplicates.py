"""Texts that are nearly the same: the exact Jaccard overlap of their sets of five-character pieces."""

# i text, g piece, k pair

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import regex
import scipy.sparse
from jaxtyping import Int
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer

from actlab.formats.groups import joined
from actlab.ground.scripts import EAST_ASIAN, is_beyond_latin, is_surely_latin

PIECE = 5
VERSION = 2
"""Of what counts as near-equal beyond Latin's rules; in 1, text of every script went by them."""
_DENSE = regex.compile(rf"[{EAST_ASIAN}\p{{Hangul}}]", regex.V1)
_LETTERS = 3
"""A Chinese word has about two characters, an English one about six with its space."""
_MOST_CELLS = 1 << 22
"""Of one block of products: what bounds the memory."""
_PAIRS_AT_ONCE = 1 << 16
_ROUNDING = 1e-9


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> Int[np.ndarray, " i"]:
    """Return the number of each text's group: near-duplicates share one, directly or by way of others.

    Two texts are near-duplicates when the pieces of five characters that they share are at least `threshold`
    of all pieces that either has. Case and runs of white space do not count. A threshold of 0, or above 1,
    leaves each text on its own. Where a text is beyond Latin's rules, its Unicode form (NFKC) does not count either,
    and a character of Chinese, Japanese or Korean, which says as much as some letters do, counts for three.

    >>> near_duplicate_groups(["I lied to you.", "i  lied to you!", "The sky is blue."], 0.6).tolist()
    [0, 0, 1]
    """
    if not texts or not 0 < threshold <= 1:
        return np.arange(len(texts))
    normal = [_letters(text) for text in texts]
    place = {text: number for number, text in enumerate(dict.fromkeys(normal))}
    pieces_ig = _pieces(list(place))
    first_i = np.arange(len(place))  # the first text of each one's group
    for one_k, other_k in _possible_pairs(pieces_ig, threshold):
        is_open_k = first_i[one_k] != first_i[other_k]
        first_i = _join(first_i, *_overlapping(pieces_ig, one_k[is_open_k], other_k[is_open_k], threshold))
    return np.unique(first_i[[place[text] for text in normal]], return_inverse=True)[1]


def text_groups(texts: Sequence[str], threshold: float) -> Int[np.ndarray, " i"]:
    """Return each text's group as `near_duplicate_groups` does, numbered by first texts; an empty one is on its own."""
    told = [i for i, text in enumerate(texts) if text]
    group_i = np.arange(len(texts))
    group_i[told] = len(texts) + near_duplicate_groups([texts[i] for i in told], threshold)
    return joined(group_i)


def versions_for(texts: Iterable[str]) -> dict[str, int]:
    """Return what says which rules found near-duplicates: nothing where those of 1 would have found the same."""
    is_by_script = any(_letters(text) != _plain(text) for text in texts)
    return {"near_duplicates": VERSION} if is_by_script else {}


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _letters(text: str) -> str:
    """Return what is cut into pieces."""
    if is_surely_latin(text) or not (is_beyond_latin(text) or _DENSE.search(text)):
        return _plain(text)
    return _DENSE.sub(lambda found: found[0] * _LETTERS, _plain(unicodedata.normalize("NFKC", text)))


def _pieces(texts: Sequence[str]) -> scipy.sparse.csr_array:
    """Return which piece is in which text, the rarest pieces first."""
    vectorizer = CountVectorizer(analyzer="char", ngram_range=(PIECE, PIECE), binary=True, lowercase=False)
    ends = "\x02" * (PIECE // 2)  # so that the shortest text has a piece
    pieces_ig = vectorizer.fit_transform([ends + text + ends for text in texts]).tocsc()
    rarest_first = np.argsort(np.diff(pieces_ig.indptr), kind="stable")
    ordered = scipy.sparse.csr_array(pieces_ig[:, rarest_first], dtype=np.int32)
    ordered.sort_indices()
    return ordered


def _possible_pairs(
    pieces_ig: scipy.sparse.csr_array, threshold: float
) -> Iterator[tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]]:
    """Yield the pairs that may overlap enough, some at a time.

    Sets that overlap by t share at least t of the larger one's pieces, so they share one of the rarest
    (1 - t) of each: only pairs that do are compared, and none is missed.
    """
    n_texts = pieces_ig.shape[0]
    size_i = np.diff(pieces_ig.indptr)
    n_rare_i = size_i - np.ceil(threshold * size_i - _ROUNDING).astype(np.int64) + 1
    place_in_row = np.arange(pieces_ig.nnz) - np.repeat(pieces_ig.indptr[:-1], size_i)
    is_rare = place_in_row < np.repeat(n_rare_i, size_i)
    bounds = np.concatenate([[0], np.cumsum(np.minimum(n_rare_i, size_i))])
    ones = np.ones(int(is_rare.sum()), dtype=np.int32)
    rare_ig = scipy.sparse.csr_array((ones, pieces_ig.indices[is_rare], bounds), shape=pieces_ig.shape)
    rare_gi = rare_ig.T.tocsr()
    n_block = max(1, _MOST_CELLS // n_texts)
    for start in range(0, n_texts, n_block):
        candidates = (rare_ig[start : start + n_block] @ rare_gi).tocoo()
        one_k, other_k = candidates.row + start, candidates.col
        small_k, large_k = np.minimum(size_i[one_k], size_i[other_k]), np.maximum(size_i[one_k], size_i[other_k])
        is_possible_k = (one_k < other_k) & (small_k >= threshold * large_k - _ROUNDING)
        one_k, other_k = one_k[is_possible_k], other_k[is_possible_k]
        for first in range(0, len(one_k), _PAIRS_AT_ONCE):
            yield one_k[first : first + _PAIRS_AT_ONCE], other_k[first : first + _PAIRS_AT_ONCE]


def _overlapping(
    pieces_ig: scipy.sparse.csr_array, one_k: Int[np.ndarray, " k"], other_k: Int[np.ndarray, " k"], threshold: float
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Return the pairs whose Jaccard overlap is at least the threshold."""
    size_i = np.diff(pieces_ig.indptr)
    n_shared_k = pieces_ig[one_k].multiply(pieces_ig[other_k]).sum(axis=1)
    n_either_k = size_i[one_k] + size_i[other_k] - n_shared_k
    is_near_k = n_shared_k >= threshold * n_either_k - _ROUNDING
    return one_k[is_near_k], other_k[is_near_k]


def _join(
    first_i: Int[np.ndarray, " i"], one_k: Int[np.ndarray, " k"], other_k: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " i"]:
    """Return the first text of each one's group when pairs are joined too."""
    if not len(one_k):
        return first_i
    n_texts = len(first_i)
    ends = (np.concatenate([np.arange(n_texts), one_k]), np.concatenate([first_i, other_k]))
    joined = scipy.sparse.coo_array((np.ones(len(ends[0])), ends), shape=(n_texts, n_texts))
    group_i = connected_components(joined, directed=False)[1]
    return np.asarray(np.unique(group_i, return_index=True)[1][group_i])
