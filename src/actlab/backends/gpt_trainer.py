"""Small GPTs of two architectures, and one step of their training."""

# b window, t token

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from actlab.ground.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BETAS = (0.9, 0.95)
"""AdamW's, as in GPT-3 (arXiv 2005.14165, appendix B): 0.95 forgets a bad gradient sooner than 0.999."""
_MOST_NORM = 1.0
"""Gradients are scaled down to it (the same appendix)."""
_LEAST_RATE = 0.1
"""The rate at the end, as a share of the highest one (the same appendix)."""


class Shape(NamedTuple):
    """How wide and deep a GPT is."""

    hidden: int
    n_layers: int
    n_heads: int
    intermediate: int | None = None
    """Of a Llama's MLP; 8/3 of the width, rounded up to a multiple of 64, where it is not said."""


SHAPES = {
    "tiny": Shape(128, 6, 4, intermediate=256),
    "small": Shape(384, 6, 6),
    "medium": Shape(512, 8, 8),
    "large": Shape(768, 12, 12),
}


class Vocabulary(NamedTuple):
    """What a model has to know of its tokenizer."""

    size: int
    bos_id: int | None
    eos_id: int


def _new_llama(shape: Shape, vocabulary: Vocabulary, max_positions: int) -> "PreTrainedModel":
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary.size,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate or 64 * math.ceil(8 * shape.hidden / 3 / 64),
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            num_key_value_heads=shape.n_heads,
            max_position_embeddings=max_positions,
            bos_token_id=vocabulary.bos_id,
            eos_token_id=vocabulary.eos_id,
            tie_word_embeddings=True,
        )
    )


def _new_gpt2(shape: Shape, vocabulary: Vocabulary, max_positions: int) -> "PreTrainedModel":
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary.size,
            n_embd=shape.hidden,
            n_layer=shape.n_layers,
            n_head=shape.n_heads,
            n_positions=max_positions,
            bos_token_id=vocabulary.bos_id,
            eos_token_id=vocabulary.eos_id,
            resid_pdrop=0.0,  # no chance in a step, so that a run can be resumed exactly
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


ARCHITECTURES = {"llama": _new_llama, "gpt2": _new_gpt2}


def new_gpt(
    architecture: Literal["llama", "gpt2"], shape: Shape, vocabulary: Vocabulary, *, max_positions: int, seed: int
) -> "PreTrainedModel":
    """Make an untrained model, its head tied to its embeddings, its weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return ARCHITECTURES[architecture](shape, vocabulary, max_positions)


class ParameterCounts(NamedTuple):
    """How many numbers a model has, a tied head counted once."""

    total: int
    embeddings: int
    """Of tokens and, in a GPT-2, of positions."""
    blocks: int
    """What does not grow with the vocabulary."""


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count a model's parameters."""
    total = sum(one.numel() for one in model.parameters())
    embeddings = sum(one.weight.numel() for one in model.modules() if isinstance(one, nn.Embedding))
    return ParameterCounts(total, embeddings, total - embeddings)


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step: a linear warm-up, then a cosine down to a tenth."""

    learning_rate: float
    n_steps: int
    n_warm_up: int

    def rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0.

        >>> schedule = Schedule(1.0, n_steps=111, n_warm_up=10)
        >>> [round(schedule.rate(step), 6) for step in (0, 9, 60, 110)]
        [0.1, 1.0, 0.55, 0.1]
        """
        if step < self.n_warm_up:
            return self.learning_rate * (step + 1) / self.n_warm_up
        done = (step - self.n_warm_up) / max(1, self.n_steps - 1 - self.n_warm_up)
        return self.learning_rate * (_LEAST_RATE + (1 - _LEAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


def new_optimizer(model: nn.Module, *, weight_decay: float) -> torch.optim.AdamW:
    """Make AdamW; only matrices decay, not gains and biases."""
    parameters = [one for one in model.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=_BETAS, foreach=True)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    input_bt: Int64[Tensor, "b t"],
    target_bt: Int64[Tensor, "b t"],
    *,
    rate: float,
) -> float:
    """Take one step in place and return the loss before it, in nats a target."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = next_token_loss(model, input_bt, target_bt)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), _MOST_NORM)
    optimizer.step()
    return float(loss.detach())


def next_token_loss(
    model: nn.Module,
    input_bt: Int64[Tensor, "b t"],
    target_bt: Int64[Tensor, "b t"],
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Return the cross entropy of targets that are shifted already; -100 is left out."""
    logits = model(input_ids=input_bt, use_cache=False).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), target_bt.flatten(), reduction=reduction)
