"""Training from any step on, validation, samples: models and batches in, numbers and text out."""

# b window, t token

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from actlab.backends.gpt_trainer import Schedule, next_token_loss, train_step
from actlab.ground.errors import ModelError
from actlab.ground.manifest import Environment
from actlab.text.dataset import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TEMPERATURE = 0.8
_MOST_LOSS = 700.0
"""A guess among all ids costs some 10 nats; from 710 on the perplexity is no floating-point number."""


class Look(NamedTuple):
    """What was seen after some steps."""

    step: int
    """Steps taken."""
    val_loss: float | None
    """Nats a target; None where nothing was held out."""
    samples: list[str]


class State(TypedDict):
    """What a checkpoint holds, as `torch.load(weights_only=True)` takes it."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    """As torch's own `state_dict` has it."""
    step: int
    losses: list[float]
    looks: list[list[Any]]
    """The fields of each `Look`."""
    made_on: list[Environment]


@dataclass
class Run:
    """A model in training: all that a checkpoint has to keep."""

    model: "PreTrainedModel"
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Steps taken."""
    losses: list[float] = field(default_factory=list)
    """Of every step, in nats a target."""
    looks: list[Look] = field(default_factory=list)
    made_on: list[Environment] = field(default_factory=list)
    """The kinds of machine that trained it."""

    def state(self) -> State:
        """Return what is needed to go on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "looks": list(map(list, self.looks)),
            "made_on": self.made_on,
        }

    def restore(self, state: State) -> None:
        """Go back to what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.losses = list(state["losses"])
        self.looks = [Look(*look) for look in state["looks"]]
        self.made_on = list(state["made_on"])

    def curve(self) -> Iterator[list[float | None]]:
        """Yield step, mean training loss since the look before, and validation loss, for each look."""
        for start, look in zip([0, *(look.step for look in self.looks)], self.looks, strict=False):
            losses = self.losses[start : look.step]
            yield [look.step, sum(losses) / len(losses), look.val_loss]


def train(run: Run, batches: Iterable[Batch], schedule: Schedule, device: torch.device) -> Iterator[float]:
    """Take the steps that are left, one each time the next loss is asked for.

    Raises:
        ModelError: The training diverged.
    """
    for batch in itertools.islice(batches, schedule.n_steps - run.step):
        run.model.train()
        loss = train_step(
            *(run.model, run.optimizer, batch.input.to(device), batch.target.to(device)), rate=schedule.rate(run.step)
        )
        run.step += 1
        run.losses.append(_refuse_loss(loss))
        yield loss


@torch.no_grad()
def validation_loss(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> float:
    """Return the mean loss over all targets of some batches, in nats.

    Raises:
        ModelError: The training diverged.
    """
    model.eval()
    total, n = 0.0, 0
    for batch in batches:
        total += float(next_token_loss(model, batch.input.to(device), batch.target.to(device), reduction="sum"))
        n += int((batch.target >= 0).sum())
    return _refuse_loss(total / n)


def _refuse_loss(loss: float) -> float:
    """Return a loss, if the training goes well."""
    if not loss < _MOST_LOSS:  # which NaN is not either
        raise _divergence(f"the loss is {loss:.4g}")
    return loss


def _divergence(seen: str) -> ModelError:
    return ModelError(
        f"the training diverged: {seen}",
        hint="give a lower --learning-rate, and --overwrite to discard this training",
    )


@torch.no_grad()
def sample(
    model: nn.Module, prefix_ids: list[int], eos_id: int, *, n_tokens: int, most_positions: int, seed: int
) -> list[int]:
    """Return the ids of a text that a model goes on with, up to its EOS.

    Raises:
        ModelError: The training diverged.
    """
    model.eval()
    draw = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    ids = list(prefix_ids)
    for _ in range(n_tokens):
        logits = model(input_ids=torch.tensor([ids[-most_positions:]], device=device), use_cache=False).logits[0, -1]
        if not logits.isfinite().all():
            raise _divergence("the model's predictions are no numbers")
        chances = (logits.float().cpu() / _TEMPERATURE).softmax(-1)
        chosen = int(torch.multinomial(chances, 1, generator=draw))
        if chosen == eos_id:
            break
        ids.append(chosen)
    return ids[len(prefix_ids) :]
