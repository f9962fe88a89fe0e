"""Training from any step on, validation, samples: models and batches in, numbers and text out."""

# b window, t token

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.gpt_trainer import Schedule, next_token_loss, train_step
from actlab.ground.seeds import derive_seed
from actlab.text.dataset import Batch

_TEMPERATURE = 0.8


class Look(NamedTuple):
    """What was seen after some steps."""

    step: int
    """Steps taken."""
    val_loss: float | None
    """Nats a target; None where nothing was held out."""
    samples: list[str]


@dataclass
class Run:
    """A model in training: all that a checkpoint has to keep."""

    model: Any
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Steps taken."""
    losses: list[float] = field(default_factory=list)
    """Of every step, in nats a target."""
    looks: list[Look] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on, as `torch.load(weights_only=True)` takes it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "looks": [list(look) for look in self.looks],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.losses = list(state["losses"])
        self.looks = [Look(*look) for look in state["looks"]]


def train(run: Run, batches: Iterable[Batch], schedule: Schedule, device: torch.device) -> Iterator[float]:
    """Take the steps that are left, one each time the next loss is asked for."""
    every = iter(batches)
    while run.step < schedule.n_steps:
        batch = next(every)
        run.model.train()
        loss = train_step(
            *(run.model, run.optimizer, batch.input.to(device), batch.target.to(device)), rate=schedule.rate(run.step)
        )
        run.step += 1
        run.losses.append(loss)
        yield loss


@torch.no_grad()
def validation_loss(model: Any, batches: Iterable[Batch], device: torch.device) -> float:
    """Return the mean loss over all targets of some batches, in nats."""
    model.eval()
    total, n = 0.0, 0
    for batch in batches:
        target_bt = batch.target.to(device)
        total += float(next_token_loss(model, batch.input.to(device), target_bt, reduction="sum"))
        n += int((batch.target >= 0).sum())
    return total / n


@torch.no_grad()
def sample(
    model: Any, prefix_ids: list[int], eos_id: int, *, n_tokens: int, most_positions: int, seed: int
) -> list[int]:
    """Return the ids of a text that a model goes on with, up to its EOS."""
    model.eval()
    draw = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    ids = list(prefix_ids)
    for _ in range(n_tokens):
        logits = model(input_ids=torch.tensor([ids[-most_positions:]], device=device), use_cache=False).logits[0, -1]
        chosen = int(torch.multinomial(_probabilities(logits), 1, generator=draw))
        if chosen == eos_id:
            break
        ids.append(chosen)
    return ids[len(prefix_ids) :]


def _probabilities(logits: Tensor) -> Float[Tensor, " v"]:
    return (logits.float().cpu() / _TEMPERATURE).softmax(-1)


def sample_seeds(seed: int, step: int, n: int) -> list[int]:
    """Return the seeds of the texts that are sampled after some steps."""
    return [derive_seed(seed, "sample", step, number) for number in range(n)]
