"""A subject network: its shape, its weights, what it answers."""

# n rows, p positions, i inputs of a layer, o its outputs

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from actlab.formats.weights import Layer as Layer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": functional.leaky_relu,
}
"""As `torch.nn` has them by default: exact GELU, a slope of 0.01 for the leaky ReLU."""


@dataclass(frozen=True)
class Architecture:
    """The shape of a subject network: `num_layers` hidden layers of one width, then one logit."""

    vocab_size: int
    sequence_length: int
    num_layers: int
    neurons_per_layer: int
    activation_type: str
    dropout_rate: float = 0.0

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Outputs and inputs of each Linear, the output layer last.

        >>> Architecture(7, 7, 2, 32, "relu").sizes
        ((32, 7), (32, 32), (1, 32))
        """
        n = self.neurons_per_layer
        return ((n, self.sequence_length), *[(n, n)] * (self.num_layers - 1), (1, n))

    @property
    def module_indices(self) -> tuple[int, ...]:
        """Each Linear's index in the `nn.Sequential`: after it come its activation and, if any, its dropout.

        >>> Architecture(7, 7, 2, 32, "relu").module_indices, Architecture(7, 7, 2, 32, "relu", 0.1).module_indices
        ((0, 2, 4), (0, 3, 6))
        """
        step = 3 if self.dropout_rate > 0 else 2
        return tuple(range(0, step * (self.num_layers + 1), step))

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""
        return sum(o * i + o for o, i in self.sizes)

    def as_json(self) -> dict[str, object]:
        """Return the fields, as `model_config` has them."""
        return asdict(self)


Weights = tuple[Layer, ...]
"""A network's Linears from input to output, float32."""


def initial_weights(architecture: Architecture, rng: np.random.Generator) -> Weights:
    """Draw weights as `nn.Linear` does: all uniform within 1 / sqrt(inputs) of zero."""
    drawn = [rng.uniform(-1, 1, size=(o, i + 1)) / np.sqrt(i) for o, i in architecture.sizes]
    return tuple(Layer(one[:, :-1].astype(np.float32), one[:, -1].astype(np.float32)) for one in drawn)


def state_dict(architecture: Architecture, weights: Weights) -> dict[str, np.ndarray]:
    """Return the weights under the names that the `nn.Sequential` gives them: `network.0.weight` and so on."""
    return {
        f"network.{index}.{part}": values
        for index, layer in zip(architecture.module_indices, weights, strict=True)
        for part, values in layer._asdict().items()
    }


def pre_activations(
    architecture: Architecture, weights: Weights, tokens_np: Integer[np.ndarray, "n p"]
) -> list[Float[np.ndarray, "n o"]]:
    """Return the outputs of every Linear, the logit's last, without dropout.

    In float64: a ternary network has many logits near zero, whose sign float32 would leave to the machine.
    """
    activate = ACTIVATIONS[architecture.activation_type]
    outputs = []
    with torch.inference_mode():
        hidden = torch.from_numpy(tokens_np.astype(np.float64))  # letters' indices: A is 0
        for number, layer in enumerate(weights):
            weight, bias = (torch.from_numpy(array).double() for array in layer)
            before = functional.linear(hidden, weight, bias)
            outputs.append(before.numpy())
            hidden = activate(before) if number < architecture.num_layers else before
    return outputs


def answers(architecture: Architecture, weights: Weights, tokens_np: Integer[np.ndarray, "n p"]) -> np.ndarray:
    """Return whether the network says yes, row by row: a logit above zero."""
    return np.asarray(pre_activations(architecture, weights, tokens_np)[-1][:, 0] > 0)
