"""What an SAE folder says of itself, its encoder, and the formula of each architecture."""

# t token, d model width, f feature

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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


@dataclass(frozen=True)
class SaeFacts:
    """One SAE on this disk, its weights not loaded."""

    path: Path
    """The weights' file."""
    family: str
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
    declared: Mapping[str, Any] = field(default_factory=dict)
    """What the folder says of model and training: `model_name`, `prepend_bos`, `is_centred`, `explained_variance`."""
    hashed: dict[Path, Hashed] = field(default_factory=dict, compare=False, repr=False)
    """Its files as `as_inputs` hashed them."""

    @property
    def bytes_of_encoder(self) -> int:
        """Memory that its encoder takes in float32."""
        return 4 * (self.d_in + 2) * self.n_features

    def as_identity(self) -> dict[str, Any]:
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
        paths = [path for path in (self.path, self.path.with_name("cfg.json")) if path.is_file()]
        self.hashed.update(hashed_whole(paths))
        return [
            {
                "role": f"sae of layer {self.layer}, average_l0 {self.average_l0}",
                "name": path.name,
                "bytes": path.stat().st_size,
                "sha256": self.hashed[path].sha256,
            }
            for path in paths
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
    x_td = _input(facts, x_td.to(weights["W_enc"].device, torch.float32))
    if facts.apply_b_dec_to_input:
        x_td = x_td - weights["b_dec"]
    return _ACTIVATE[facts.architecture](encoder, x_td @ weights["W_enc"])


def _input(facts: SaeFacts, x_td: Tensor) -> Any:
    if facts.input_norm == "constant_norm_rescale":
        return x_td * (facts.d_in**0.5) / x_td.norm(dim=-1, keepdim=True)
    if facts.input_norm == "layer_norm":
        centered_td = x_td - x_td.mean(dim=-1, keepdim=True)
        return centered_td / (centered_td.std(dim=-1, keepdim=True) + 1e-5)  # eps on the deviation, the sample's
    return x_td * facts.input_scale if facts.input_norm == "expected_average_only_in" else x_td


def _standard(encoder: Encoder, z_tf: Tensor) -> Tensor:
    return (z_tf + encoder.weights["b_enc"]).relu()


def _jumprelu(encoder: Encoder, z_tf: Tensor) -> Tensor:
    pre_tf = z_tf + encoder.weights["b_enc"]
    return pre_tf.relu() * (pre_tf > encoder.weights["threshold"])


def _topk(encoder: Encoder, z_tf: Tensor) -> Tensor:
    pre_tf = z_tf + encoder.weights["b_enc"]
    if encoder.facts.rescale_by_decoder_norm:
        pre_tf = pre_tf * encoder.weights["decoder_norm"]
    assert encoder.facts.k is not None
    top = pre_tf.topk(encoder.facts.k, dim=-1)
    return torch.zeros_like(pre_tf).scatter(-1, top.indices, top.values.relu())


def _batchtopk(encoder: Encoder, z_tf: Tensor) -> Tensor:
    """At inference the threshold that training stored decides, so that a row does not depend on its batch."""
    pre_tf = z_tf + encoder.weights["b_enc"]
    if encoder.facts.rescale_by_decoder_norm:
        pre_tf = pre_tf * encoder.weights["decoder_norm"]
    return pre_tf.relu() * (pre_tf > encoder.weights["threshold"])


def _gated(encoder: Encoder, z_tf: Tensor) -> Tensor:
    weights = encoder.weights
    magnitude_tf = (z_tf * weights["r_mag"].exp() + weights["b_mag"]).relu()
    return magnitude_tf * (z_tf + weights["b_gate"] > 0)


_ACTIVATE: dict[Architecture, Callable[[Encoder, Tensor], Tensor]] = {
    "standard": _standard,
    "jumprelu": _jumprelu,
    "topk": _topk,
    "batchtopk": _batchtopk,
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
    weights = {name: _floats(facts, name, read(name), device) for name in names}
    if facts.rescale_by_decoder_norm:
        weights["decoder_norm"] = _floats(facts, "W_dec", read("W_dec"), device).norm(dim=-1)
    if "threshold" in weights and weights["threshold"].numel() == 1:
        weights["threshold"] = weights["threshold"].expand(facts.n_features)
    shapes = {"W_enc": (facts.d_in, facts.n_features), "b_dec": (facts.d_in,)}
    for name, weight in weights.items():
        expected = shapes.get(name, (facts.n_features,))
        if tuple(weight.shape) != expected:
            raise ModelError(
                f"{facts.path}: {name} is {list(weight.shape)}, and not {list(expected)}", hint="is the folder whole?"
            )
        if not bool(weight.isfinite().all()):
            raise ModelError(f"{facts.path}: {name} holds NaN or inf", hint="download it again")
    if facts.architecture == "batchtopk" and bool((weights["threshold"] < 0).all()):
        raise ModelError(
            f"{facts.path}: its threshold is negative, so it was never calibrated",
            hint="a BatchTopK SAE can be used only with the threshold that its training stored",
        )
    return Encoder(facts, weights)


def _floats(facts: SaeFacts, name: str, weight: Tensor, device: torch.device) -> Tensor:
    """Return a weight on a device in float32.

    Raises:
        ModelError: It holds whole or complex numbers, of which that would make others.
    """
    if not weight.is_floating_point():
        kind = str(weight.dtype).removeprefix("torch.")
        raise ModelError(f"{facts.path}: {name} is of {kind}", hint="store the weights as float32 or float16")
    return weight.to(device, torch.float32)
