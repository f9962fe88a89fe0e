"""Write sentence files: dense as in the document, or sparse."""

# c configuration (a layer and its SAE), r row, d model width, f feature

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float

from actlab.formats.npz import write_npz
from actlab.ground.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SentenceRows:
    """A sentence with its states."""

    index: int
    text: str
    label: float
    fragments: Sequence[str]
    """The sentence up to and with each row's token."""
    token_positions: Sequence[int]
    """Places among the model's tokens, BOS counted."""
    fragment_lengths: Sequence[int]
    """Tokens in each fragment, BOS not counted."""
    is_final: Bool[np.ndarray, " r"]
    embeddings_rd: Float[np.ndarray, "r d"]
    hidden_crd: Float[np.ndarray, "c r d"]
    """By layer, as long as it is not encoded."""


@dataclass(frozen=True, kw_only=True)
class NewSentence(SentenceRows):
    """What is written of one sentence."""

    layers: Sequence[int]
    average_l0s: Sequence[int]
    latents: scipy.sparse.csr_array
    """[configuration and row, feature]."""


def write_sentence(file: BinaryIO, new: NewSentence, *, sparse: bool, dtype: str) -> None:
    """Write one sentence file: dense and deflated as in the document, or sparse and stored.

    Raises:
        DataError: A value is too large for the dtype.
    """

    def narrowed(what: str, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        with np.errstate(over="ignore"):
            kept = values.astype(dtype, copy=False)
        if not np.isfinite(kept).all():
            raise DataError(
                f"sentence {new.index}: {what} go up to {np.abs(values).max():.0f}, too large for {dtype}",
                hint="use --dtype float32",
            )
        return kept

    n_configs, n_rows, hidden_dim = new.hidden_crd.shape
    n_features = new.latents.shape[1]
    arrays = {
        "sentence": np.array(new.text),
        "concept_strength_label": np.array(int(new.label) if float(new.label).is_integer() else new.label),
        "sentence_index": np.array(new.index, dtype=np.int64),
        "num_features": np.array(n_features, dtype=np.int64),
        "hidden_dim": np.array(hidden_dim, dtype=np.int64),
        "fragments": np.array(list(new.fragments), dtype=np.str_),
        "token_positions": np.array(new.token_positions, dtype=np.int64),
        "is_final_token": np.array(new.is_final, dtype=bool),
        "fragment_lengths": np.array(new.fragment_lengths, dtype=np.int64),
        "layers": np.array(new.layers, dtype=np.int64),
        "average_l0s": np.array(new.average_l0s, dtype=np.int64),
        "embeddings": narrowed("embeddings", new.embeddings_rd),
        "hidden_states": narrowed("hidden states", new.hidden_crd),
    }
    latents = (
        {
            "activations_data": narrowed("SAE activations", new.latents.data),
            "activations_indices": new.latents.indices.astype(np.int32),
            "activations_indptr": new.latents.indptr.astype(np.int64),
            "activations_shape": np.array([n_configs, n_rows, n_features], dtype=np.int64),
        }
        if sparse
        else {"activations": narrowed("SAE activations", new.latents.toarray()).reshape(n_configs, n_rows, n_features)}
    )
    write_npz(file, arrays | latents, compressed=not sparse)
