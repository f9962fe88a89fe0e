"""A network as the dataset holds it: quantised, and in numbers that its precision has."""

# o outputs of a layer, i its inputs

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int8

from actlab.weights.config.networks import QuantizationScale
from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.networks import Layer, Weights
from actlab.weights.quantise import Quantised, dims_of, quantise

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
    layers, codes = [], []
    for layer in weights:
        values = []
        coded: list[Quantised] = []
        for array in layer:
            tensor = torch.from_numpy(array)
            if QUANTISATIONS[quantization].codes:
                coded.append(quantise(tensor, quantization, dims=dims_of(scale, is_bias=array.ndim == 1)))
                tensor = coded[-1].values
            values.append(tensor.to(DTYPES[precision]).float().numpy())
        layers.append(Layer(*values))
        if coded:
            codes.append(LayerCodes(*(part.numpy() for one in coded for part in (one.codes, one.scales.flatten()))))
    return StoredNetwork(tuple(layers), tuple(codes) or None)


def is_finite(weights: Weights) -> bool:
    """Whether training kept every number finite."""
    return all(bool(np.isfinite(array).all()) for layer in weights for array in layer)
