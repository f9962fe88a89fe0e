"""How well an SAE gives its input back: its decoder, on a few rows."""

# t token, d model width, f feature

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.saes.sae import SaeFacts
from actlab.ground.errors import ModelError

_SINK = 10.0
"""A row whose norm is above this times the median is an attention sink (Sun et al. 2024, arXiv 2402.17762): one fixed
direction, the same in many layers, with more variance than all other rows together."""


def explained_variance(
    facts: SaeFacts, read: Callable[[str], Tensor], x_td: Float[np.ndarray, "t d"], latents: scipy.sparse.csr_array
) -> float | None:
    """Return 1 - Σ‖x - x̂‖² / Σ‖x - mean x‖² over rows x and their reconstructions x̂, None where all are equal.

    Attention sinks are left out. `latents` [t, f] are the rows' activations; only decoder rows of features that fire
    are kept of what `read` reads.

    Raises:
        ModelError: The decoder has another shape than the config says, or is not finite.
    """
    norms_t = np.linalg.norm(x_td, axis=1)
    is_usual_t = norms_t <= _SINK * np.median(norms_t)
    x_td, latents = x_td[is_usual_t], latents[is_usual_t]
    error_td = x_td.astype(np.float64) - reconstruct(facts, read, x_td, latents)
    total = float(np.square(x_td - x_td.mean(axis=0, dtype=np.float64)).sum())
    return 1 - float(np.square(error_td).sum()) / total if total > 0 else None


def reconstruct(
    facts: SaeFacts, read: Callable[[str], Tensor], x_td: Float[np.ndarray, "t d"], latents: scipy.sparse.csr_array
) -> Any:
    """Return f @ W_dec + b_dec, with the input's normalisation undone: the forward of SAELens 6.

    Raises:
        ModelError: The decoder has another shape than the config says, or is not finite.
    """
    fired = np.unique(latents.indices)
    used = torch.from_numpy(fired.astype(np.int64))
    expected = {"W_dec": (facts.n_features, facts.d_in), "b_dec": (facts.d_in,)}
    weights = {}
    for name, shape in expected.items():
        weight = read(name)
        if tuple(weight.shape) != shape:
            raise ModelError(
                f"{facts.path}: {name} is {list(weight.shape)}, and not {list(shape)}",
                hint="is the folder whole, and no transcoder?",
            )
        weights[name] = (weight[used] if name == "W_dec" else weight).to("cpu", torch.float32).numpy()
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"{facts.path}: {name} holds NaN or inf", hint="download it again")
    w_dec_fd = weights["W_dec"]
    if facts.rescale_by_decoder_norm:
        w_dec_fd = w_dec_fd / np.linalg.norm(w_dec_fd, axis=1, keepdims=True)
    return _on_models_scale(facts, x_td, latents[:, fired] @ w_dec_fd + weights["b_dec"])


def _on_models_scale(facts: SaeFacts, x_td: np.ndarray, back_td: np.ndarray) -> Any:
    """Undo the input normalisation that `encode` did."""
    if facts.input_norm == "constant_norm_rescale":
        return back_td * np.linalg.norm(x_td, axis=1, keepdims=True) / facts.d_in**0.5
    if facts.input_norm == "layer_norm":
        return back_td * x_td.std(axis=1, ddof=1, keepdims=True) + x_td.mean(axis=1, keepdims=True)
    return back_td / facts.input_scale if facts.input_norm == "expected_average_only_in" else back_td
