"""Run batches of examples through a backbone and take the states that are to be saved."""

# l layer, b batch row, t token, n example, d model width

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.activations.compute.batches import plan_batches
from actlab.activations.compute.tokens import Example
from actlab.backends.capture import last_of, mean_of, residual_rows
from actlab.backends.memory import free_memory, is_out_of_memory
from actlab.backends.models import Backbone, ModelFacts
from actlab.ground.errors import ModelError

log = logging.getLogger("actlab")

Padding = Literal["right, no mask", "right, masked", "none"]
"""How rows of different lengths share a batch without changing one another's results."""


@dataclass(frozen=True)
class Reader:
    """A backbone together with how it is to be fed."""

    backbone: Backbone
    facts: ModelFacts
    layers: tuple[int, ...]
    padding: Padding
    batch_size: int
    batch_tokens: int
    dtype: torch.dtype | None = None
    """The dtype to save; None keeps what was computed."""

    @property
    def is_causal(self) -> bool:
        """Whether a state cannot depend on what comes after it, as far as padding could show."""
        return self.padding == "right, no mask"


def read_states(
    reader: Reader,
    examples: Sequence[Example],
    on_batch: Callable[[list[Example]], None] = lambda batch: None,
) -> Float[Tensor, "n l d"]:
    """Return the saved state of each example in each layer, on the host, in the examples' order.

    What a state does not depend on is not run: in causal models the tokens after the saved one, and an
    input that another example has too (the same prompt at `prompt-last`).
    """
    inputs = [_needed(reader, example) for example in examples]
    first: dict[object, int] = {}
    same_as = [first.setdefault(key, index) for index, key in enumerate(inputs)]
    distinct = sorted(set(same_as))
    batches = plan_batches(
        [len(inputs[index][0]) for index in distinct],
        batch_size=reader.batch_size,
        batch_tokens=reader.batch_tokens,
        group=reader.facts.rope_side if reader.padding != "none" else lambda n_tokens: n_tokens,
    )
    states: Tensor | None = None
    for batch in batches:
        members = [distinct[place] for place in batch]
        rows = _as_saved(reader, _run(reader, [inputs[index] for index in members]))
        if states is None:
            states = torch.empty(len(examples), rows.shape[0], rows.shape[2], dtype=rows.dtype)
        states[members] = rows.transpose(0, 1)
        on_batch([examples[index] for index in members])
    if states is None:
        return torch.empty(0, len(reader.layers), reader.backbone.hidden_dim)
    return states[same_as] if len(distinct) < len(examples) else states


def _as_saved(reader: Reader, rows_lbd: Float[Tensor, "l b d"]) -> Float[Tensor, "l b d"]:
    """Cast to the saved dtype; what is finite stays finite, or is an error.

    Raises:
        ModelError: A value is too large for the dtype.
    """
    if reader.dtype is None or reader.dtype == rows_lbd.dtype:
        return rows_lbd
    saved_lbd = rows_lbd.to(reader.dtype)
    overflow_l = (saved_lbd.isinf() & rows_lbd.isfinite()).any(-1).any(-1)
    if overflow_l.any():
        layer = reader.layers[int(overflow_l.nonzero()[0])]
        name = str(reader.dtype).removeprefix("torch.")
        raise ModelError(
            f"layer {layer} holds values up to {float(rows_lbd.abs().max()):.0f}, too large for {name}",
            hint="save with --dtype bfloat16 or float32",
        )
    return saved_lbd


def _needed(reader: Reader, example: Example) -> tuple[tuple[int, ...], int, int]:
    """Return the tokens that have to be run, and the range whose mean is saved."""
    cut_after = reader.is_causal and reader.facts.original_max_positions is None
    ids = example.ids[: example.stop] if cut_after else example.ids
    return ids, example.start, example.stop


def _run(reader: Reader, inputs: Sequence[tuple[tuple[int, ...], int, int]]) -> Float[Tensor, "l b d"]:
    """Run one batch; on a device that has too little memory, run its halves."""
    try:
        return _run_whole(reader, inputs)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(inputs) == 1:
            raise ModelError(
                f"out of memory on {reader.backbone.device.type} with one example of {len(inputs[0][0])} tokens",
                hint="lower --max-length, use fewer --layers, a smaller --model-dtype, or another --device",
            ) from error
    free_memory(reader.backbone.device)
    half = len(inputs) // 2
    log.warning("out of memory with %d examples in a batch: going on with %d and the rest", len(inputs), half)
    return torch.cat([_run(reader, inputs[:half]), _run(reader, inputs[half:])], dim=1)


def _run_whole(reader: Reader, inputs: Sequence[tuple[tuple[int, ...], int, int]]) -> Float[Tensor, "l b d"]:
    lengths = [len(ids) for ids, _, _ in inputs]
    ids_bt = torch.zeros(len(inputs), max(lengths), dtype=torch.long)
    for row, (ids, _, _) in enumerate(inputs):
        ids_bt[row, : len(ids)] = torch.tensor(ids)
    place_t = torch.arange(max(lengths))
    mask_bt = None
    if reader.padding != "right, no mask":
        mask_bt = (place_t < torch.tensor(lengths)[:, None]).long()
    start_b = torch.tensor([start for _, start, _ in inputs])
    stop_b = torch.tensor([stop for _, _, stop in inputs])
    if bool((stop_b - start_b == 1).all()):
        pick = last_of(start_b)
    else:
        pick = mean_of((place_t >= start_b[:, None]) & (place_t < stop_b[:, None]))
    return residual_rows(reader.backbone, ids_bt, mask_bt, reader.layers, pick)
