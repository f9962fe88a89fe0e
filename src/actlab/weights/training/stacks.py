"""Networks of one depth as a stack: parameters, rows, and how they are computed together.

A network narrower than its stack is padded with zeros. Nothing flows through them, back or forth, as long as a
padded unit's activation is zero: where it would not be (a sigmoid of zero is a half, a binary zero is one) the
activations are masked.
"""

# n networks, a the first of them, q parameters of one, p positions, b rows, h hidden layers, w width
# o outputs of a layer, i its inputs; rows come last: at narrow widths bmm is then up to eight times faster

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.networks import ACTIVATIONS, Architecture, Layer, Weights
from actlab.weights.quantise import dims_of, straight_through
from actlab.weights.training.spec import Schedule, TrainingSpec


@dataclass(frozen=True, eq=False)
class Form:
    """What the networks of a stack have in common."""

    sizes: tuple[tuple[int, int], ...]
    """Padded outputs and inputs of each Linear."""
    activate: Callable[[Tensor], Tensor]
    has_dropout: bool
    is_masked: bool
    quantise: Callable[[Tensor], Tensor] | None
    quantise_bias: Callable[[Tensor], Tensor] | None

    @staticmethod
    def of(specs: Sequence[TrainingSpec], schedule: Schedule) -> "Form":
        """Return what fits the widest."""
        architectures = [spec.architecture for spec in specs]
        widest = max(architectures, key=lambda one: one.neurons_per_layer)
        is_padded = any(one.sizes != widest.sizes for one in architectures)
        activate = ACTIVATIONS[widest.activation_type]
        quantise, quantise_bias = (_straight_through(schedule, is_bias=is_bias) for is_bias in (False, True))
        zero = torch.zeros(1, 1)
        leaks = bool(activate(zero).any() or (quantise is not None and quantise(zero).any()))
        return Form(
            sizes=widest.sizes,
            activate=activate,
            has_dropout=widest.dropout_rate > 0,
            is_masked=is_padded and leaks,
            quantise=quantise,
            quantise_bias=quantise_bias,
        )

    @property
    def split_sizes(self) -> list[int]:
        """Lengths of the weights and biases in turn, in a network's row of parameters."""
        return [length for o, i in self.sizes for length in (o * i, o)]

    def pack(self, weights: Weights) -> Float[np.ndarray, " q"]:
        """Return one network's parameters, padded, in a row."""
        shapes = [shape for o, i in self.sizes for shape in ((o, i), (o,))]
        arrays = [array for layer in weights for array in layer]
        return np.concatenate(
            [
                np.pad(array, [(0, to - n) for to, n in zip(shape, array.shape, strict=True)]).ravel()
                for shape, array in zip(shapes, arrays, strict=True)
            ]
        )

    def unpack(self, parameters_q: Float[Tensor, " q"], architecture: Architecture) -> Weights:
        """Return one network's parameters without the padding."""
        parts = iter(parameters_q.cpu().float().split_with_sizes(self.split_sizes))
        return tuple(
            Layer(next(parts).view(o, i)[:rows, :columns].numpy().copy(), next(parts)[:rows].numpy().copy())
            for (o, i), (rows, columns) in zip(self.sizes, architecture.sizes, strict=True)
        )

    def mask(self, specs: Sequence[TrainingSpec], *, like: Tensor) -> Float[Tensor, "n w 1"] | None:
        """Return one for a network's own units and zero for the padding, where that is needed."""
        if not self.is_masked:
            return None
        widths_n = torch.tensor([spec.architecture.neurons_per_layer for spec in specs])
        return (torch.arange(self.sizes[0][0]) < widths_n[:, None])[..., None].to(like)

    def logits(
        self,
        parameters_aq: Float[Tensor, "a q"],
        inputs_apb: Float[Tensor, "a p b"],
        *,
        mask_aw1: Float[Tensor, "a w 1"] | None = None,
        dropout_hawb: Float[Tensor, "h a w b"] | None = None,
    ) -> Float[Tensor, "a b"]:
        """Run every network on its own rows."""
        # split's backward is one concatenation: the gradient arrives as one (a, q) block
        parts = iter(parameters_aq.split_with_sizes(self.split_sizes, dim=1))
        hidden, last = inputs_apb, len(self.sizes) - 1
        for number, (o, i) in enumerate(self.sizes):
            weight_aoi, bias_ao = next(parts).view(-1, o, i), next(parts)
            if self.quantise is not None and self.quantise_bias is not None:
                weight_aoi, bias_ao = self.quantise(weight_aoi), self.quantise_bias(bias_ao)
            hidden = torch.baddbmm(bias_ao[..., None], weight_aoi, hidden)
            if number < last:
                hidden = self.activate(hidden)
                if mask_aw1 is not None:
                    hidden = hidden * mask_aw1
                if dropout_hawb is not None:
                    hidden = hidden * dropout_hawb[number]
        return hidden[:, 0]


def _straight_through(schedule: Schedule, *, is_bias: bool) -> Callable[[Tensor], Tensor] | None:
    method, dims = schedule.quantization, dims_of(schedule.quantization_scale, is_bias=is_bias)
    if not QUANTISATIONS[method].in_training:
        return None
    return lambda values: straight_through(values, method, dims=dims)
