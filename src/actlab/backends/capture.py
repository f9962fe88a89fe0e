"""Read the residual stream: hooks borrowed for one forward pass, which stops after the deepest block."""

# l layer, b batch row, t token, d model width

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from actlab.backends.devices import device_errors
from actlab.backends.models import Backbone, lacks_weights
from actlab.ground.errors import ModelError


class _StopForward(Exception):  # noqa: N818 - a signal, not an error
    """Raised by the deepest block's hook: what comes after it is not needed."""


@contextmanager
def hooked(blocks: Mapping[int, nn.Module], take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Show `take` each block's index and output, [b, t, d]; only these hooks are removed again.

    Raises:
        ModelError: A block's output is not one residual stream.
    """

    def hook(layer: int, _module: nn.Module, _inputs: object, output: object) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if not isinstance(hidden, Tensor) or hidden.ndim != 3:
            raise ModelError(
                f"block {layer} returns no [batch, token, width] tensor but {_described(hidden)}",
                hint="actlab cannot read this architecture yet",
            )
        take(layer, hidden)

    with ExitStack() as hooks:
        for layer, block in blocks.items():
            hooks.enter_context(block.register_forward_hook(partial(hook, layer)))
        yield


def _described(output: object) -> str:
    return f"one of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__


@torch.inference_mode()
def residual_rows(
    backbone: Backbone,
    ids_bt: Int[Tensor, "b t"],
    mask_bt: Int[Tensor, "b t"] | None,
    layers: Sequence[int],
    pick: Callable[[Float[Tensor, "b t d"]], Float[Tensor, "n d"]],
) -> Float[Tensor, "l n d"]:
    """Run a batch as deep as the deepest of `layers` and return what `pick` takes from each, on the host.

    Layer k is the output of block k. Nothing is held that `pick` does not take, and one copy from the device
    is made. The dtype is the one that `pick` returns.
    """
    rows: dict[int, Tensor] = {}
    deepest = max(layers)

    def take(layer: int, hidden_btd: Tensor) -> None:
        if backbone.pads_to(ids_bt.shape[1], hidden_btd.shape[1]):
            hidden_btd = hidden_btd[:, : ids_bt.shape[1]]
        if hidden_btd.shape != (*ids_bt.shape, backbone.hidden_dim):
            raise ModelError(
                f"block {layer} gives {tuple(hidden_btd.shape)} for input {tuple(ids_bt.shape)} "
                f"and width {backbone.hidden_dim}",
                hint="actlab cannot read this architecture yet",
            )
        rows[layer] = pick(hidden_btd)
        if layer == deepest:
            raise _StopForward

    with hooked({layer: backbone.blocks[layer] for layer in layers}, take), suppress(_StopForward):
        _forward(backbone, ids_bt, mask_bt)
    if absent := sorted(set(layers) - rows.keys()):
        raise ModelError(f"blocks {absent} did not run", hint="actlab cannot read this architecture yet")
    return torch.stack([rows[layer] for layer in layers]).cpu()


@torch.inference_mode()
def own_hidden_states(
    backbone: Backbone, ids_t: Int[Tensor, " t"], mask_bt: Int[Tensor, "b t"] | None
) -> tuple[list[Float[Tensor, "t d"]], list[Float[Tensor, "t d"]]]:
    """Run one text through all blocks that are loaded; return the hooks' outputs and `hidden_states`.

    The second list is empty where the model has no `hidden_states`.

    Raises:
        ModelError: A block needs weights that the checkpoint lacks.
    """
    hooks: dict[int, Tensor] = {}
    blocks = dict(enumerate(backbone.blocks))
    with (
        hooked(blocks, lambda layer, hidden: hooks.update({layer: hidden[0].clone()})),
        _weights_checked(backbone, lambda: len(hooks) == len(blocks)),
    ):
        output = _forward(backbone, ids_t[None], mask_bt, output_hidden_states=True)
    states = getattr(output, "hidden_states", None) or ()
    n_tokens = len(ids_t)
    for layer, hidden_td in hooks.items():
        if len(hidden_td) != n_tokens and not backbone.pads_to(n_tokens, len(hidden_td)):
            raise ModelError(
                f"block {layer} gives {len(hidden_td)} tokens for {n_tokens}",
                hint="actlab cannot read this architecture yet",
            )
    return [hooks[layer][:n_tokens] for layer in sorted(hooks)], [state[0, :n_tokens] for state in states]


@contextmanager
def _weights_checked(backbone: Backbone, is_over: Callable[[], bool]) -> Iterator[None]:
    """Refuse to run a module whose weights the checkpoint lacks, before the blocks are over."""

    def refuse(key: str, _module: nn.Module, _inputs: object) -> None:
        if not is_over():
            raise lacks_weights([key])

    with ExitStack() as hooks:
        for key, module in backbone.without_weights:
            hooks.enter_context(module.register_forward_pre_hook(partial(refuse, key)))
        yield


def _forward(backbone: Backbone, ids_bt: Tensor, mask_bt: Tensor | None, **asked: bool) -> object:
    """Call the backbone, as it was loaded, with ids, and a mask where one is needed, and nothing else."""
    largest = int(ids_bt.max())
    if largest >= backbone.vocab_size:
        raise ModelError(
            f"the tokenizer gives token {largest}, but the model knows {backbone.vocab_size}",
            hint="is this the model's own tokenizer?",
        )
    place = backbone.device
    mask = {} if mask_bt is None else {"attention_mask": mask_bt.to(place)}
    try:
        with device_errors(place):
            return backbone.module(input_ids=ids_bt.to(place), use_cache=False, **mask, **asked)
    finally:
        backbone.state.restore()


def last_of(index_b: Int[Tensor, " b"]) -> Callable[[Tensor], Tensor]:
    """Make a `pick` that takes one token a row."""

    def pick(hidden_btd: Tensor) -> Tensor:
        index = index_b.to(hidden_btd.device)
        return hidden_btd[torch.arange(len(index), device=index.device), index]

    return pick


def all_of(wanted_bt: Bool[Tensor, "b t"]) -> Callable[[Tensor], Tensor]:
    """Make a `pick` that takes all wanted tokens, row after row."""
    return lambda hidden_btd: hidden_btd[wanted_bt.to(hidden_btd.device)]


def mean_of(wanted_bt: Bool[Tensor, "b t"]) -> Callable[[Tensor], Tensor]:
    """Make a `pick` that takes the float32 mean over the wanted tokens of each row."""

    def pick(hidden_btd: Tensor) -> Tensor:
        wanted = wanted_bt.to(hidden_btd.device)[:, :, None]
        return hidden_btd.float().masked_fill(~wanted, 0.0).sum(dim=1) / wanted.sum(dim=1)

    return pick
