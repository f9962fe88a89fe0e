"""A network as the dataset holds it: quantised, and in numbers that its precision has."""

# o outputs of a layer, i its inputs

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from actlab.weights.config.networks import QuantizationScale
from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.networks import Layer, Weights
from actlab.weights.quantise import dims_of, quantise

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class LayerCodes(NamedTuple):
    """One Linear's integer codes and scales."""

    weight_codes: Int8[np.ndarray, "o i"]
    weight_scales: Float[np.ndarray, " s"]
    """One number, or one an output."""
    bias_codes: Int8[np.ndarray, " o"]
    bias_scales: Float[np.ndarray, " 1"]


class StoredNetwork(NamedTuple):
    """What is written of a network, and what everything is measured on."""

    weights: Weights
    """float32 arrays of numbers that the precision has."""
    codes: tuple[LayerCodes, ...] | None
    """None without quantisation."""


def as_stored(weights: Weights, quantization: str, scale: QuantizationScale, precision: str) -> StoredNetwork:
    """Quantise a trained network, then round it to the precision."""

    def rounded(values: Tensor) -> np.ndarray:
        return values.to(DTYPES[precision]).float().numpy()

    if not QUANTISATIONS[quantization].codes:
        return StoredNetwork(
            tuple(Layer(*(rounded(torch.from_numpy(array)) for array in layer)) for layer in weights), None
        )
    coded = [
        [quantise(torch.from_numpy(one), quantization, dims=dims_of(scale, is_bias=one.ndim == 1)) for one in layer]
        for layer in weights
    ]
    return StoredNetwork(
        tuple(Layer(*(rounded(one.values) for one in layer)) for layer in coded),
        tuple(
            LayerCodes(*(part.numpy() for one in layer for part in (one.codes, one.scales.flatten())))
            for layer in coded
        ),
    )


def is_finite(weights: Weights) -> bool:
    """Whether training kept every number finite."""
    return all(bool(np.isfinite(array).all()) for layer in weights for array in layer)
