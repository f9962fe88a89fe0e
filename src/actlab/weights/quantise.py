"""Few-valued weights: integer codes and a scale, and the floats that they stand for."""

# o outputs of a layer, i its inputs; leading dimensions (a stack of networks) are carried along

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from actlab.ground.later import Later
from actlab.weights.config.networks import QuantizationScale
from actlab.weights.config.quantisations import QUANTISATIONS

_TERNARY_ZERO = 0.2
"""Ternary sets to zero what is below this share of the largest magnitude."""


class Quantised(NamedTuple):
    """Codes, and the scale by which they are multiplied."""

    codes: Tensor
    """int8."""
    scales: Tensor
    """One number for all values, or one a channel; broadcasts over the codes."""

    @property
    def values(self) -> Tensor:
        """The floats that the codes stand for."""
        return self.codes * self.scales


def _integer(levels: int) -> Callable[[Tensor, Tensor], Quantised]:
    def quantise(values: Tensor, largest: Tensor) -> Quantised:
        codes = torch.round(values * levels / torch.where(largest > 0, largest, 1))
        return Quantised(codes.to(torch.int8), largest / levels)

    return quantise


int8, int4 = _integer(127), _integer(7)


def ternary(values: Tensor, largest: Tensor) -> Quantised:
    """Quantise to signs, and zero what is small."""
    codes = torch.where(values.abs() < _TERNARY_ZERO * largest, 0, torch.sign(values))
    return Quantised(codes.to(torch.int8), torch.ones_like(largest))


def binary(values: Tensor, largest: Tensor) -> Quantised:
    """Quantise to signs, that of zero being plus."""
    return Quantised(torch.where(values < 0, -1, 1).to(torch.int8), torch.ones_like(largest))


def quantise(values: Tensor, method: str, *, dims: tuple[int, ...]) -> Quantised:
    """Quantise values; `dims` are the dimensions that share one scale.

    A weight (…, o, i) has `dims=(-2, -1)` per tensor and `(-1,)` per channel, a bias (…, o) has `(-1,)`: see `dims_of`.

    >>> quantise(torch.tensor([0.5, -1.0, 0.1]), "ternary", dims=(-1,)).codes
    tensor([ 1, -1,  0], dtype=torch.int8)
    """
    codes = Later[[Tensor, Tensor], Quantised](str(QUANTISATIONS[method].codes))
    return codes(values, values.abs().amax(dim=dims, keepdim=True))


def dims_of(scale: QuantizationScale, *, is_bias: bool) -> tuple[int, ...]:
    """Return the dimensions that share one scale; a bias has one scale always."""
    return (-1,) if is_bias or scale == "per-channel" else (-2, -1)


def straight_through(values: Tensor, method: str, *, dims: tuple[int, ...]) -> Tensor:
    """Return the quantised values, with the gradient of the values themselves."""
    exact = values.detach()
    return quantise(exact, method, dims=dims).values + (values - exact)  # in this order exactly the quantised values
