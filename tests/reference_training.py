"""One network at a time in plain torch: the oracle for `train_many`."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from actlab.weights.config.quantisations import QUANTISATIONS
from actlab.weights.networks import Layer, Weights
from actlab.weights.quantise import dims_of, straight_through
from actlab.weights.training.spec import (
    Epoch,
    Schedule,
    Trained,
    TrainingSpec,
    dropout_factors,
    dropout_stream,
    order_stream,
)

_MODULES = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "leaky_relu": nn.LeakyReLU}


@torch.enable_grad()
def train_one(
    spec: TrainingSpec, schedule: Schedule, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Trained:
    """Train one network in both stages."""
    network = _network(spec).to(device, dtype)
    history: list[Epoch] = []
    for epoch in _epochs(network, spec, schedule, stage=1):
        history.append(epoch)
        gain = history[0].validation_loss - epoch.validation_loss
        if len(history) == schedule.n_degraded_epochs:
            break
        if epoch.epoch > 0 and gain >= schedule.min_improvement_threshold:
            break
    degraded = improved = _weights(network)
    best, n_epochs = None, schedule.n_improvement_epochs(len(history))
    for epoch in _epochs(network, spec, schedule, stage=2):
        history.append(epoch)
        if best is None or epoch.validation_loss < best.validation_loss:
            improved, best = _weights(network), epoch
        if epoch.epoch + 1 == n_epochs or epoch.epoch - best.epoch >= schedule.patience:
            break
    return Trained(degraded, improved, tuple(history))


def _network(spec: TrainingSpec) -> nn.Sequential:
    """Return Linears, each but the last with its activation."""
    modules: list[nn.Module] = []
    for layer in spec.initial:
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0], device="meta").to_empty(device="cpu")
        linear.load_state_dict({"weight": torch.from_numpy(layer.weight), "bias": torch.from_numpy(layer.bias)})
        modules += [linear, _MODULES[spec.architecture.activation_type]()]
    return nn.Sequential(*modules[:-1])


def _weights(network: nn.Sequential) -> Weights:
    linears = [module for module in network if isinstance(module, nn.Linear)]
    return tuple(Layer(_copied(linear.weight), _copied(linear.bias)) for linear in linears)


def _copied(values: Tensor) -> np.ndarray:
    copied: np.ndarray = values.detach().cpu().float().numpy().copy()
    return copied


def _epochs(network: nn.Sequential, spec: TrainingSpec, schedule: Schedule, *, stage: int) -> Iterator[Epoch]:
    """Train for as long as the caller takes epochs."""
    parameter = next(network.parameters())
    labels = spec.corrupted_labels if stage == 1 else spec.clean_labels
    train, train_y, validation, validation_y = (
        torch.from_numpy(array).to(parameter)
        for array in (spec.train_tokens, labels, spec.validation_tokens, spec.validation_labels)
    )
    rate = spec.learning_rate * (schedule.improvement_lr_factor if stage == 2 else 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    orders, dropout = order_stream(spec.seed, stage), dropout_stream(spec.seed, stage)
    for epoch in itertools.count():
        order, total = torch.from_numpy(orders.permutation(len(train))).to(parameter.device), 0.0
        for rows in torch.split(order, schedule.batch_size):
            factors = _dropout(spec, len(rows), dropout, like=parameter)
            loss = functional.binary_cross_entropy_with_logits(
                _logits(network, schedule, train[rows], factors), train_y[rows]
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.item() * len(rows)
        with torch.no_grad():
            logits = _logits(network, schedule, validation, None)
            loss = functional.binary_cross_entropy_with_logits(logits, validation_y)
            accuracy = ((logits > 0) == (validation_y > 0)).cpu().double().mean()  # mps has no float64
        yield Epoch.measured(stage, epoch, total / len(train), loss.item(), accuracy.item())


def _dropout(spec: TrainingSpec, n_rows: int, rng: np.random.Generator, *, like: Tensor) -> Tensor | None:
    if spec.architecture.dropout_rate == 0:
        return None
    return torch.from_numpy(dropout_factors(spec.architecture, n_rows, rng)).to(like)


def _logits(network: nn.Sequential, schedule: Schedule, hidden: Tensor, factors: Tensor | None) -> Tensor:
    """Run the modules, with quantised weights and dropout where there are any."""
    for number, module in enumerate(network):
        if isinstance(module, nn.Linear):
            hidden = functional.linear(hidden, *(_quantised(p, schedule) for p in (module.weight, module.bias)))
        else:
            hidden = module(hidden)
            hidden = hidden if factors is None else hidden * factors[number // 2]
    return hidden[:, 0]


def _quantised(values: Tensor, schedule: Schedule) -> Tensor:
    if not QUANTISATIONS[schedule.quantization].in_training:
        return values
    dims = dims_of(schedule.quantization_scale, is_bias=values.ndim == 1)
    return straight_through(values, schedule.quantization, dims=dims)
