"""Run texts through a backbone in batches and take the states that are asked for."""

# l layer, b batch row, t token, n text, d model width

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from actlab.backends.batches import plan_batches
from actlab.backends.capture import all_of, last_of, mean_of, residual_rows
from actlab.backends.memory import free_memory, is_out_of_memory
from actlab.backends.models import Backbone, ModelFacts
from actlab.ground.errors import ModelError
from actlab.ground.log import log

Padding = Literal["right, no mask", "right, masked", "none"]
"""How rows of different lengths share a batch without changing one another's results."""


class Span(Protocol):
    """A text as tokens, and which of them are asked for."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens, special ones too."""

    @property
    def start(self) -> int:
        """The first token asked for."""

    @property
    def stop(self) -> int:
        """One past the last."""


class TokenSpan(NamedTuple):
    """The plainest `Span`."""

    ids: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Reader:
    """A backbone together with how it is to be fed."""

    backbone: Backbone
    facts: ModelFacts
    layers: tuple[int, ...]
    batch_size: int
    batch_tokens: int
    padding: Padding = "none"
    proven: tuple[tuple[int, int], ...] = ()
    """From and to which lengths texts may share a batch, as was proved; all others meet their own length alone."""
    dtype: torch.dtype | None = None
    """The dtype to save; None keeps what was computed."""

    @property
    def is_causal(self) -> bool:
        """Whether a state cannot depend on what comes after it, as far as padding could show."""
        return self.padding == "right, no mask"

    def group(self, n_tokens: int) -> tuple[int, int]:
        """Return what texts have to share to be run in one batch."""
        for place, (shortest, longest) in enumerate(self.proven):
            if shortest <= n_tokens <= longest:
                return place, 0
        return len(self.proven), n_tokens


def read_states(
    reader: Reader,
    spans: Sequence[Span],
    on_batch: Callable[[list[int]], None] = lambda batch: None,
) -> Float[Tensor, "n l d"]:
    """Return the mean state over each span in each layer, on the host, in the spans' order.

    What a state does not depend on is not run: in causal models the tokens after the span, and an input that
    another text has too (the same prompt at `prompt-last`). `on_batch` is told the places of what is done.
    """
    inputs = [_needed(reader, span) for span in spans]
    first: dict[object, int] = {}
    same_as = [first.setdefault(key, index) for index, key in enumerate(inputs)]
    distinct = sorted(set(same_as))
    states: Tensor | None = None
    for batch in _plan(reader, [inputs[index] for index in distinct]):
        members = [distinct[place] for place in batch]
        rows = _as_saved(reader, _run(reader, [inputs[index] for index in members], mean=True))
        if states is None:
            states = torch.empty(len(spans), rows.shape[0], rows.shape[2], dtype=rows.dtype)
        states[members] = rows.transpose(0, 1)
        on_batch(members)
    if states is None:
        return torch.empty(0, len(reader.layers), reader.backbone.hidden_dim)
    return states[same_as] if len(distinct) < len(spans) else states


def read_tokens(
    reader: Reader,
    spans: Sequence[Span],
    on_batch: Callable[[list[int]], None] = lambda batch: None,
) -> list[Float[Tensor, "l t d"]]:
    """Return every state of each span in each layer, on the host, in the spans' order, one forward pass a text."""
    inputs = [_needed(reader, span) for span in spans]
    states: dict[int, Tensor] = {}
    for batch in _plan(reader, inputs):
        rows = _as_saved(reader, _run(reader, [inputs[index] for index in batch], mean=False))
        sizes = [inputs[index].stop - inputs[index].start for index in batch]
        states |= zip(batch, torch.split(rows, sizes, dim=1), strict=True)
        on_batch(batch)
    return [states[index] for index in range(len(spans))]


def _plan(reader: Reader, inputs: Sequence[TokenSpan]) -> list[list[int]]:
    return plan_batches(
        [len(one.ids) for one in inputs],
        batch_size=reader.batch_size,
        batch_tokens=reader.batch_tokens,
        group=reader.group,
    )


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


def _needed(reader: Reader, span: Span) -> TokenSpan:
    """Return what has to be run of a text, and what is taken of it."""
    n_tokens = len(span.ids)
    if reader.is_causal:
        n_tokens = reader.facts.causal_length(n_tokens, span.stop)
    return TokenSpan(span.ids[:n_tokens], span.start, span.stop)


def _run(reader: Reader, inputs: Sequence[TokenSpan], mean: bool) -> Float[Tensor, "l n d"]:
    """Run one batch, for the mean over each span or every token of it; where memory is too little, run its halves."""
    try:
        return _run_whole(reader, inputs, mean)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(inputs) == 1:
            raise ModelError(
                f"out of memory on {reader.backbone.device.type} with one example of {len(inputs[0].ids)} tokens",
                hint="lower --max-length, use fewer --layers, a smaller --model-dtype, or another --device",
            ) from error
    free_memory(reader.backbone.device)
    half = len(inputs) // 2
    log.warning("out of memory with %d examples in a batch: going on with %d and the rest", len(inputs), half)
    return torch.cat([_run(reader, some, mean) for some in (inputs[:half], inputs[half:])], dim=1)


def _run_whole(reader: Reader, inputs: Sequence[TokenSpan], mean: bool) -> Float[Tensor, "l n d"]:
    lengths = [len(one.ids) for one in inputs]
    ids_bt = pad_sequence([torch.tensor(one.ids) for one in inputs], batch_first=True)
    place_t = torch.arange(max(lengths))
    mask_bt = None if reader.is_causal else (place_t < torch.tensor(lengths)[:, None]).long()
    start_b = torch.tensor([one.start for one in inputs])
    stop_b = torch.tensor([one.stop for one in inputs])
    wanted_bt = (place_t >= start_b[:, None]) & (place_t < stop_b[:, None])
    pick = all_of(wanted_bt)
    if mean:
        pick = last_of(start_b) if bool((stop_b - start_b == 1).all()) else mean_of(wanted_bt)
    return residual_rows(reader.backbone, ids_bt, mask_bt, reader.layers, pick)
