"""Sentence feature files made up by plain numpy, as the document's program wrote them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def arrays_of(
    index: int,
    *,
    n_rows: int = 5,
    layers: Sequence[int] = (0, 1, 2, 3),
    l0s: Sequence[int] | None = None,
    width: int = 8,
    n_features: int = 40,
    dtype: str = "float32",
    order: str = "C",
    label: float | None = None,
) -> dict[str, Any]:
    """Return the arrays of one sentence, drawn from its index."""
    rng = np.random.default_rng(index)
    n = len(layers)
    activations = np.zeros((n, n_rows, n_features), dtype)
    for config in range(n):
        for row in range(n_rows):
            where = rng.choice(n_features, size=min(4, n_features), replace=False)
            activations[config, row, where] = rng.uniform(0.1, 5.0, len(where))
    words = [f"word{index}_{row}" for row in range(n_rows)]
    fragments = [" ".join(words[: row + 1]) for row in range(n_rows)]
    return {
        "sentence": np.array(fragments[-1]),
        "concept_strength_label": np.array(index % 4 if label is None else label),
        "sentence_index": np.array(index),
        "num_features": np.array(n_features),
        "hidden_dim": np.array(width),
        "fragments": np.array(fragments),
        "token_positions": np.arange(1, n_rows + 1),
        "is_final_token": np.arange(n_rows) == n_rows - 1,
        "fragment_lengths": np.arange(1, n_rows + 1),
        "layers": np.array(layers),
        "average_l0s": np.array(l0s if l0s is not None else [70 + layer for layer in layers]),
        "embeddings": np.asarray(rng.standard_normal((n_rows, width)), dtype=dtype, order=order),
        "hidden_states": np.asarray(rng.standard_normal((n, n_rows, width)), dtype=dtype, order=order),
        "activations": np.asarray(activations, order=order),
    }


def write_folder(folder: Path, n_sentences: int = 12, *, compressed: bool = False, **shape: Any) -> Path:
    """Write a folder of sentence files with `np.savez`, numbered from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if compressed else np.savez
    for index in range(n_sentences):
        save(folder / f"sentence_{index + 1:06d}.npz", **arrays_of(index, n_rows=3 + index % 4, **shape))
    return folder
