"""A TopK or BatchTopK SAE and its training."""

# t token, d model width, f feature

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actlab.features.train_sae.config import TrainSaeConfig
from actlab.ground.errors import DataError
from actlab.ground.log import log
from actlab.ground.progress import More
from actlab.ground.seeds import derive_seed

_DEAD_AFTER_TOKENS = 20_000
"""A feature that has not fired for so many tokens is dead, and learns what the others leave."""
_DEAD_WEIGHT = 1 / 32
"""Of the dead features' loss, as in Gao et al. 2024 (arXiv 2406.04093)."""
_THRESHOLD_RATE = 0.01
_CURVE_POINTS = 100
_ROUNDING = 1e-5
"""Of a state, relative to its norm: a hundred times float32's own, as it adds up over the layers."""


class Step(NamedTuple):
    """What a training step saw."""

    loss: float
    l0: float
    explained_variance: float
    dead_share: float


Draw = Callable[[int, Step], None]
"""Is told the number of a step, and what it saw."""


class Trained(NamedTuple):
    """What came of the training of one SAE."""

    weights: dict[str, Tensor]
    last: Step
    """What the last step saw, but with the L0 of the SAE as it is saved, on tokens that it has not seen."""
    curve: list[Step]


class Sae(nn.Module):
    """`x ≈ f @ W_dec + b_dec`, where f keeps the k largest of `relu((x - b_dec) @ W_enc + b_enc)`.

    Inputs are scaled so that their mean norm is √d; `folded` gives the weights for unscaled ones.
    """

    def __init__(self, d_in: int, n_features: int, k: int, *, over_batch: bool, draw: torch.Generator) -> None:
        super().__init__()
        directions_fd = nn.functional.normalize(torch.randn(n_features, d_in, generator=draw), dim=1)
        self.W_dec = nn.Parameter(directions_fd)
        self.W_enc = nn.Parameter(directions_fd.T.clone())
        self.b_enc = nn.Parameter(torch.zeros(n_features))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.threshold = -1.0
        """A running mean of the smallest activation kept, with `over_batch`."""
        self._k = k
        self._over_batch = over_batch

    def activate(self, pre_tf: Tensor) -> Float[Tensor, "t f"]:
        """Keep the k largest of each row, or of the batch on average."""
        positive_tf = pre_tf.relu()
        rows = positive_tf.reshape(1, -1) if self._over_batch else positive_tf
        top = rows.topk(self._k * len(pre_tf) // len(rows), dim=-1)
        if self._over_batch and len(kept := top.values.detach()[top.values > 0]):
            smallest = float(kept.min())
            moved = self.threshold + _THRESHOLD_RATE * (smallest - self.threshold)
            self.threshold = smallest if self.threshold < 0 else moved
        return torch.zeros_like(rows).scatter(-1, top.indices, top.values).reshape(positive_tf.shape)

    def pre(self, x_td: Tensor) -> Float[Tensor, "t f"]:
        """Return the activations before any is dropped."""
        return (x_td - self.b_dec) @ self.W_enc + self.b_enc

    @torch.no_grad()
    def l0(self, x_td: Tensor) -> float:
        """Return how many features fire on a token as the SAE is saved: by k, or by the threshold."""
        pre_tf = self.pre(x_td)
        fired_tf = pre_tf > max(self.threshold, 0.0) if self._over_batch else self.activate(pre_tf) > 0
        return float(fired_tf.sum()) / len(x_td)

    def folded(self, scale: float) -> dict[str, Tensor]:
        """Return the weights for inputs that are not multiplied by `scale`."""
        weights = {
            "W_enc": self.W_enc * scale,
            "W_dec": self.W_dec / scale,
            "b_enc": self.b_enc,
            "b_dec": self.b_dec / scale,
        }
        if self._over_batch:
            weights["threshold"] = torch.full_like(self.b_enc, self.threshold)
        return {name: weight.detach().cpu().clone().contiguous() for name, weight in weights.items()}


def train(
    sae: Sae,
    batches: Iterable[Float[Tensor, "t d"]],
    *,
    n_steps: int,
    learning_rate: float,
    on_step: Callable[[int, Step], None],
) -> None:
    """Train in place on batches of scaled residuals; the decoder's rows stay of length 1."""
    optimizer = torch.optim.Adam(sae.parameters(), lr=learning_rate, betas=(0.9, 0.999))
    fall = max(1, n_steps // 5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (n_steps - step) / fall))
    silent_f = torch.zeros(sae.W_dec.shape[0], device=sae.W_dec.device)
    for number, x_td in enumerate(batches):
        pre_tf = sae.pre(x_td)
        latents_tf = sae.activate(pre_tf)
        error_td = x_td - (latents_tf @ sae.W_dec + sae.b_dec)
        left = error_td.pow(2).sum() / (x_td - x_td.mean(0)).pow(2).sum()
        dead_f = silent_f > _DEAD_AFTER_TOKENS
        loss = left + _DEAD_WEIGHT * _revival(sae, pre_tf, error_td.detach(), dead_f)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            sae.W_dec.copy_(nn.functional.normalize(sae.W_dec, dim=1))
            fired_tf = latents_tf > 0
            silent_f = torch.where(fired_tf.any(0), 0, silent_f + len(x_td))
            step = Step(
                loss=float(loss),
                l0=float(fired_tf.sum()) / len(x_td),
                explained_variance=1 - float(left),
                dead_share=float((silent_f > _DEAD_AFTER_TOKENS).float().mean()),
            )
            on_step(number, step)


def _revival(sae: Sae, pre_tf: Tensor, error_td: Tensor, dead_f: Tensor) -> Tensor:
    """Return how badly the dead features alone explain what the living ones leave; 0 without dead ones."""
    n = min(int(dead_f.sum()), pre_tf.shape[1] // 2, error_td.shape[1] // 2)
    if n == 0:
        return torch.zeros((), device=pre_tf.device)
    top = pre_tf.masked_fill(~dead_f, -torch.inf).topk(n, dim=-1)
    latents_tf = torch.zeros_like(pre_tf).scatter(-1, top.indices, top.values.relu())
    return (error_td - latents_tf @ sae.W_dec).pow(2).sum() / error_td.pow(2).sum()


def train_on(
    batches: Iterator[Float[Tensor, "t d"]],
    config: TrainSaeConfig,
    layer: int,
    *,
    device: torch.device,
    curves: AbstractContextManager[Draw],
    more: More,
) -> Trained:
    """Train the SAE of a layer on batches of its residuals, of which there is one more than steps.

    Raises:
        DataError: They are all the same, or the training left the range of floating-point numbers.
    """
    first_td = next(batches).to(device)
    _refuse_equal_states(first_td, layer)
    d_in = first_td.shape[1]
    scale = d_in**0.5 / float(first_td.norm(dim=1).mean())
    draw = torch.Generator().manual_seed(derive_seed(config.seed, "sae", layer))
    sae = Sae(d_in, config.n_features, config.k, over_batch=config.architecture == "jumprelu", draw=draw)
    with torch.no_grad():
        sae.b_dec.copy_((first_td * scale).mean(0))
    sae.to(device)
    curve: list[Step] = []
    with curves as draw_step:

        def on_step(number: int, step: Step) -> None:
            if number % max(1, config.n_steps // _CURVE_POINTS) == 0 or number == config.n_steps - 1:
                curve.append(step)
                draw_step(number, step)
            more(1)

        used = itertools.islice(itertools.chain([first_td], batches), config.n_steps)
        scaled = (x_td.to(device) * scale for x_td in used)
        train(sae, scaled, n_steps=config.n_steps, learning_rate=config.learning_rate, on_step=on_step)
    weights = sae.folded(scale)
    is_finite = all(bool(weight.isfinite().all()) for weight in weights.values())
    if not is_finite or not all(math.isfinite(number) for step in curve for number in step):
        raise DataError(
            f"training the SAE of layer {layer} left the range of floating-point numbers",
            hint="give more texts, more tokens a step (--batch-size), or a smaller --learning-rate",
        )
    last = curve[-1]._replace(l0=sae.l0(next(batches).to(device) * scale))
    log.info(
        "layer %d: explained variance %.3f, L0 %.1f, %.1f %% of the features dead",
        *(layer, last.explained_variance, last.l0, 100 * last.dead_share),
    )
    return Trained(weights, last, curve)


def _refuse_equal_states(x_td: Tensor, layer: int) -> None:
    """Refuse states whose differences are those of float32 rounding: an SAE that explains them explains nothing.

    Raises:
        DataError: They are, or there is one state alone.
    """
    x_td = x_td.cpu().double()  # mps has none
    if float((x_td - x_td.mean(0)).norm()) <= _ROUNDING * float(x_td.norm()):
        raise DataError(
            f"the states of layer {layer} are all the same but for rounding",
            hint="give texts of different tokens, or more tokens a step (--batch-size)",
        )
