"""Uniform draws that patterns are made of."""

# n sequences drawn, p positions, c columns to choose from

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from actlab.weights.patterns.space import Space

_MOST_ATTEMPTS = 2**16
"""Sequences attempted at once, which bounds the memory."""


def uniform(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
    """Draw from all sequences."""
    return rng.integers(space.vocab_size, size=(n, space.length), dtype=np.uint8)


def uniform_but(
    places: int | slice, letters: Callable[[UInt8[np.ndarray, "n p"], Space], UInt8[np.ndarray, "..."] | int]
) -> Callable[[np.random.Generator, int, Space], UInt8[np.ndarray, "n p"]]:
    """Return what draws from all sequences and then puts letters, taken from those drawn or the space, into places."""

    def draw(rng: np.random.Generator, n: int, space: Space) -> UInt8[np.ndarray, "n p"]:
        tokens_np = uniform(rng, n, space)
        tokens_np[:, places] = letters(tokens_np, space)
        return tokens_np

    return draw


def until_enough(
    n: int, attempt: Callable[[int], UInt8[np.ndarray, "kept p"]], *, like: Space
) -> UInt8[np.ndarray, "n p"]:
    """Collect n sequences from attempts that keep only some of the sequences they are asked for."""
    kept = [np.empty((0, like.length), np.uint8)]
    n_kept, n_attempts = 0, n + n // 4 + 64
    while n_kept < n:
        kept.append(attempt(min(n_attempts, _MOST_ATTEMPTS)))
        n_kept += len(kept[-1])
        n_attempts *= 2
    return np.concatenate(kept)[:n]


def choose(rng: np.random.Generator, n: int, weights: Sequence[int]) -> Integer[np.ndarray, " n"]:
    """Draw indices of the weights, each as often as it weighs; weights may exceed 64 bits."""
    shares = np.array(weights, dtype=float)
    return rng.choice(len(shares), size=n, p=shares / shares.sum())


def some_positions(rng: np.random.Generator, n_chosen_n: Integer[np.ndarray, " n"], p: int) -> Bool[np.ndarray, "n p"]:
    """Mark so many of p positions in each row, all choices alike; at least one."""
    keys_np = rng.random((len(n_chosen_n), p))
    last_n = np.sort(keys_np, axis=1)[np.arange(len(keys_np)), n_chosen_n - 1]
    return np.asarray(keys_np <= last_n[:, None])


def ascending(rng: np.random.Generator, n_letters_n: Integer[np.ndarray, " n"], p: int) -> Integer[np.ndarray, "n p"]:
    """Draw non-decreasing sequences, in each row from those of its first so many letters.

    By stars and bars: they are the p-subsets of `n_letters + p - 1` columns, less 0, 1, 2, ….
    """
    n_columns_n = n_letters_n + p - 1
    keys_nc = rng.random((len(n_letters_n), max(n_columns_n, default=p)))
    keys_nc[np.arange(keys_nc.shape[1]) >= n_columns_n[:, None]] = 2
    chosen_np = np.sort(np.argpartition(keys_nc, p - 1, axis=1)[:, :p], axis=1)
    return np.asarray(chosen_np - np.arange(p))
