"""What an SAE folder says of itself, and its arithmetic: each architecture's formula, and how well it gives its input
back.
"""

# t token, d model width, f feature

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.hub import hashed_whole
from actlab.ground.errors import ModelError
from actlab.ground.hashes import Hashed
from actlab.ground.manifest import InputEntry

Architecture = Literal["standard", "jumprelu", "topk", "batchtopk", "gated"]
InputNorm = Literal["none", "constant_norm_rescale", "layer_norm", "expected_average_only_in"]

NOT_KNOWN = -1
"""The average L0 of an SAE that does not declare one."""
_SINK = 10.0
"""A row whose norm is above this times the median is an attention sink (Sun et al. 2024, arXiv 2402.17762): one fixed
direction, the same in many layers, with more variance than all other rows together."""


@dataclass(frozen=True)
class SaeFacts:
    """One SAE on this disk, its weights not loaded."""

    path: Path
    """The weights' file."""
    family: str
    """The name of its `Family`."""
    architecture: Architecture
    layer: int
    """It reads the output of this block."""
    d_in: int
    n_features: int
    average_l0: int
    """As declared by the folder's name, its config or k; -1 where it is not."""
    k: int | None = None
    apply_b_dec_to_input: bool = False
    input_norm: InputNorm = "none"
    input_scale: float = 1.0
    """What x is multiplied by, for `expected_average_only_in`."""
    rescale_by_decoder_norm: bool = False
    neuronpedia_id: str | None = None
    """Where Neuronpedia hosts this very SAE."""
    others: tuple[Path, ...] = ()
    """More files that it is made of, such as a config."""
    declared: Mapping[str, object] = field(default_factory=dict)
    """What the folder says of model and training: `model_name`, `prepend_bos`, `is_centred`, `explained_variance`."""
    hashed: dict[Path, Hashed] = field(default_factory=dict, compare=False, repr=False)
    """Its files as `as_inputs` hashed them."""

    @property
    def bytes_of_encoder(self) -> int:
        """Memory that its encoder takes in float32."""
        return 4 * (self.d_in + 2) * self.n_features

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files, the weights first."""
        return self.path, *self.others

    def as_identity(self) -> dict[str, object]:
        """Return what decides a feature's value besides the model, for the manifest."""
        return {
            "layer": self.layer,
            "average_l0": self.average_l0,
            "family": self.family,
            "architecture": self.architecture,
            "n_features": self.n_features,
            "k": self.k,
            "apply_b_dec_to_input": self.apply_b_dec_to_input,
            "input_norm": self.input_norm,
            "input_scale": self.input_scale,
            "rescale_by_decoder_norm": self.rescale_by_decoder_norm,
            "neuronpedia_id": self.neuronpedia_id,
        }

    def as_inputs(self) -> list[InputEntry]:
        """Return the manifest's entries for its files.

        Raises:
            ModelError: One in the hub's cache is damaged.
        """
        self.hashed.update(hashed_whole(self.files))
        return [
            {
                "role": f"sae of layer {self.layer}, average_l0 {self.average_l0}",
                "name": path.name,
                "bytes": path.stat().st_size,
                "sha256": self.hashed[path].sha256,
            }
            for path in self.files
        ]


@dataclass(frozen=True)
class Encoder:
    """The weights that encoding needs, on their device, in float32."""

    facts: SaeFacts
    weights: Mapping[str, Tensor]
    """`W_enc` [d, f]; by architecture `b_enc`, `threshold`, `b_gate`, `b_mag`, `r_mag` [f], `b_dec` [d],
    `decoder_norm` [f]."""


@torch.inference_mode()
def encode(encoder: Encoder, x_td: Float[Tensor, "t d"]) -> Float[Tensor, "t f"]:
    """Return the activations of an SAE's features. No row depends on another one.

    Source: the architectures as SAELens 6 and the Gemma Scope paper (arXiv 2408.05147) define them; comparisons
    are strict.
    """
    facts, weights = encoder.facts, encoder.weights
    x_td = NORMS[facts.input_norm].apply(facts, x_td.to(weights["W_enc"].device, torch.float32))
    if facts.apply_b_dec_to_input:
        x_td = x_td - weights["b_dec"]
    return ARCHITECTURES[facts.architecture](encoder, x_td @ weights["W_enc"])


class Norm(NamedTuple):
    """How an SAE's input is normalised."""

    apply: Callable[[SaeFacts, Float[Tensor, "t d"]], Float[Tensor, "t d"]]
    undo: Callable[[SaeFacts, Float[np.ndarray, "t d"], Float[np.ndarray, "t d"]], Float[np.ndarray, "t d"]]
    """From the input as the model gives it, and what the decoder makes of the normalised one."""


def _layer_norm(_: SaeFacts, x_td: Tensor) -> Tensor:
    centered_td = x_td - x_td.mean(dim=-1, keepdim=True)
    return centered_td / (centered_td.std(dim=-1, keepdim=True) + 1e-5)  # eps on the deviation, the sample's


NORMS: dict[InputNorm, Norm] = {
    "none": Norm(lambda facts, x_td: x_td, lambda facts, x_td, back_td: back_td),
    "constant_norm_rescale": Norm(
        lambda facts, x_td: x_td * (facts.d_in**0.5) / x_td.norm(dim=-1, keepdim=True),
        lambda facts, x_td, back_td: back_td * np.linalg.norm(x_td, axis=1, keepdims=True) / facts.d_in**0.5,
    ),
    "layer_norm": Norm(
        _layer_norm,
        lambda facts, x_td, back_td: (
            back_td * x_td.std(axis=1, ddof=1, keepdims=True) + x_td.mean(axis=1, keepdims=True)
        ),
    ),
    "expected_average_only_in": Norm(
        lambda facts, x_td: x_td * facts.input_scale, lambda facts, x_td, back_td: back_td / facts.input_scale
    ),
}


def _weighed(encoder: Encoder, z_tf: Tensor) -> Tensor:
    pre_tf = z_tf + encoder.weights["b_enc"]
    return pre_tf * encoder.weights["decoder_norm"] if encoder.facts.rescale_by_decoder_norm else pre_tf


def _above_threshold(encoder: Encoder, pre_tf: Tensor) -> Tensor:
    return pre_tf.relu() * (pre_tf > encoder.weights["threshold"])


def _topk(encoder: Encoder, z_tf: Tensor) -> Tensor:
    pre_tf = _weighed(encoder, z_tf)
    assert encoder.facts.k is not None
    top = pre_tf.topk(encoder.facts.k, dim=-1)
    return torch.zeros_like(pre_tf).scatter(-1, top.indices, top.values.relu())


def _gated(encoder: Encoder, z_tf: Tensor) -> Tensor:
    weights = encoder.weights
    magnitude_tf = (z_tf * weights["r_mag"].exp() + weights["b_mag"]).relu()
    return magnitude_tf * (z_tf + weights["b_gate"] > 0)


ARCHITECTURES: dict[Architecture, Callable[[Encoder, Tensor], Tensor]] = {
    "standard": lambda encoder, z_tf: (z_tf + encoder.weights["b_enc"]).relu(),
    "jumprelu": lambda encoder, z_tf: _above_threshold(encoder, z_tf + encoder.weights["b_enc"]),
    "topk": _topk,
    # the threshold that training stored decides, so that a row does not depend on its batch
    "batchtopk": lambda encoder, z_tf: _above_threshold(encoder, _weighed(encoder, z_tf)),
    "gated": _gated,
}

_NEEDS: dict[Architecture, tuple[str, ...]] = {
    "standard": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "topk": ("b_enc",),
    "batchtopk": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
}


def make_encoder(facts: SaeFacts, read: Callable[[str], Tensor], device: torch.device) -> Encoder:
    """Load what encoding needs and check that it fits together.

    Raises:
        ModelError: A weight has another shape than the config says, is not finite, or was never calibrated.
    """
    names = ["W_enc", *_NEEDS[facts.architecture], *(["b_dec"] if facts.apply_b_dec_to_input else [])]
    weights = {name: _weight(facts, read, name, device) for name in names}
    if facts.rescale_by_decoder_norm:
        weights["decoder_norm"] = _weight(facts, read, "W_dec", device).norm(dim=-1)
    if facts.architecture == "batchtopk" and bool((weights["threshold"] < 0).all()):
        raise ModelError(
            f"{facts.path}: its threshold is negative, so it was never calibrated",
            hint="a BatchTopK SAE can be used only with the threshold that its training stored",
        )
    return Encoder(facts, weights)


def _weight(
    facts: SaeFacts, read: Callable[[str], Tensor], name: str, device: torch.device, rows: Tensor | None = None
) -> Tensor:
    """Return a weight on a device in float32, whole or some rows of it.

    Raises:
        ModelError: It has another shape than the config says, is not finite, or holds whole or complex numbers, of
            which float32 would make others.
    """
    weight = read(name)
    if not weight.is_floating_point():
        kind = str(weight.dtype).removeprefix("torch.")
        raise ModelError(f"{facts.path}: {name} is of {kind}", hint="store the weights as float32 or float16")
    if name == "threshold" and weight.numel() == 1:
        weight = weight.expand(facts.n_features)
    d, f = facts.d_in, facts.n_features
    expected = {"W_enc": (d, f), "W_dec": (f, d), "b_dec": (d,)}.get(name, (f,))
    if tuple(weight.shape) != expected:
        raise ModelError(
            f"{facts.path}: {name} is {list(weight.shape)}, and not {list(expected)}",
            hint="is the folder whole, and no transcoder?",
        )
    weight = (weight if rows is None else weight[rows]).to(device, torch.float32)
    if not bool(weight.isfinite().all()):
        raise ModelError(f"{facts.path}: {name} holds NaN or inf", hint="download it again")
    return weight


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
) -> Float[np.ndarray, "t d"]:
    """Return f @ W_dec + b_dec, with the input's normalisation undone: the forward of SAELens 6.

    Raises:
        ModelError: The decoder has another shape than the config says, or is not finite.
    """
    cpu, fired = torch.device("cpu"), np.unique(latents.indices)
    w_dec_fd = _weight(facts, read, "W_dec", cpu, rows=torch.from_numpy(fired.astype(np.int64))).numpy()
    if facts.rescale_by_decoder_norm:
        w_dec_fd = w_dec_fd / np.linalg.norm(w_dec_fd, axis=1, keepdims=True)
    back_td = latents[:, fired] @ w_dec_fd + _weight(facts, read, "b_dec", cpu).numpy()
    return NORMS[facts.input_norm].undo(facts, x_td, back_td)
