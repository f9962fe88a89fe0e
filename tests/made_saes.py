"""SAE folders with known weights, as Gemma Scope and SAELens write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

D_IN, N_FEATURES = 32, 48
ARCHITECTURES = ("standard", "jumprelu", "topk", "batchtopk", "gated")


def random_weights(architecture: str, seed: int = 0, d_in: int = D_IN, n_features: int = N_FEATURES) -> dict[str, Any]:
    """Weights of one architecture, so scaled that some of the features fire."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    weights = {"W_enc": normal(d_in, n_features) / d_in**0.5, "W_dec": normal(n_features, d_in), "b_dec": normal(d_in)}
    if architecture == "gated":
        names = ("b_gate", "b_mag", "r_mag")
        return weights | {name: normal(n_features) / 4 for name in names}
    weights["b_enc"] = normal(n_features) / 4
    if architecture == "jumprelu":
        weights["threshold"] = normal(n_features).abs()
    if architecture == "batchtopk":
        weights["threshold"] = torch.tensor(0.7)
    return weights


def mirror_weights(d_in: int = D_IN) -> dict[str, Any]:
    """Weights of 2·d features that give every input back: one for each sign of each of its numbers."""
    both = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
    return {"W_enc": both.T, "W_dec": both, "b_enc": torch.zeros(2 * d_in), "b_dec": torch.zeros(d_in)}


def write_saelens(
    folder: Path, architecture: str, layer: int, weights: dict[str, Any] | None = None, **config: Any
) -> Path:
    """Write a folder as SAELens 6 does."""
    folder.mkdir(parents=True)
    weights = random_weights(architecture) if weights is None else weights
    d_in, n_features = weights["W_enc"].shape
    content = {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"},
    }
    if architecture in ("topk", "batchtopk"):
        content["k"] = 5
    (folder / "cfg.json").write_text(json.dumps(content | config))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "sae_weights.safetensors")
    return folder


def write_gemma_scope(
    root: Path, layer: int, average_l0: int, weights: dict[str, Any] | None = None, *, compressed: bool = False
) -> Path:
    """Write `layer_L/width_16k/average_l0_X/params.npz`."""
    folder = root / f"layer_{layer}" / "width_16k" / f"average_l0_{average_l0}"
    folder.mkdir(parents=True)
    weights = random_weights("jumprelu", seed=layer) if weights is None else weights
    save = np.savez_compressed if compressed else np.savez
    save(folder / "params.npz", **{name: np.asarray(weight) for name, weight in weights.items()})
    return folder
