"""Before a run: how may its texts share a batch, and do the hooks read the model's own hidden states?"""

# t token, d model width, l layer

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.capture import own_hidden_states
from actlab.backends.devices import device_errors
from actlab.backends.models import Backbone, Loading, load_backbone
from actlab.backends.proof import TOLERANCE, float32_cut, prove_padding, relative_error
from actlab.backends.reader import Reader, Span, TokenSpan, read_states
from actlab.ground.errors import ModelError, foreign_errors
from actlab.ground.log import log

UNPROVEN = ("mps",)
"""Devices on which plain operations give wrong numbers without a word, batched and alone alike, so that only another
device shows it: a linear layer of MPS in torch 2.13, for one (pytorch issues 192934, 189495)."""
_NEAR_CPU = 1e-3
"""The least that is asked of a row that another device computes: in float32 too its kernels round in other places."""
_SMALLER = "lower --max-length, use fewer --layers, a smaller --model-dtype, or another --device"


def load_reader(
    loading: Loading,
    layers: tuple[int, ...],
    texts: Sequence[Span],
    *,
    batch_size: int,
    batch_tokens: int,
    dtype: torch.dtype | None = None,
    load: Callable[[Loading], Backbone] = load_backbone,
    ask_cpu: bool = True,
) -> Reader:
    """Load a model and test on a few of the run's texts how it is to be fed; `dtype` is that of the states to save.

    At most `proof.BUDGET` times the tokens of the longest text are run for that. In half precision the padding is
    decided in float32, on the model's first blocks; quantised models are measured against their own noise. On a
    device whose results are not to be taken on trust, three of the texts are computed on the CPU too, if `ask_cpu`.

    Raises:
        ModelError: It cannot be loaded or run, or the test fails.
    """
    name, device = loading.model.name, loading.device
    on_cpu = rows_on_cpu(loading, layers, texts) if device.type in UNPROVEN and ask_cpu else []
    backbone = load(loading)
    shortest, *longer = shortest_median_longest(texts)
    longer = [text for text in longer if len(text.ids) > len(shortest.ids)]
    in_batch = [shortest, *longer[:1]]
    n_tokens = len(shortest.ids) + len(in_batch) * len(in_batch[-1].ids)  # in the first call and in `self_test`
    where = f"in 4 bits on {device.type}" if loading.load_in_4bit else f"on {device.type}"
    hint = "actlab gives a model tokens alone: does it want something else? Or try another --device"
    with (
        foreign_errors(f"{name} does not run {where}", hint=hint),
        device_errors(device, if_out_of_memory=_SMALLER),
    ):
        truth = compare_hidden_states(backbone, shortest.ids)
        proof = prove_padding(_exact(backbone), loading.facts, texts, kept_back=n_tokens, one_by_one=batch_size == 1)
        reader = Reader(backbone, loading.facts, layers, batch_size, batch_tokens, proof.padding, proof.proven, dtype)
        error = max(proof.error, self_test(reader, in_batch, truth))
        if on_cpu:
            compare_with_cpu(reader, on_cpu)
    n_tokens += proof.n_tokens
    log.info(
        "%s on %s in %s: padding %s; self-test on texts of %s tokens: alone and in a batch agree to %.0e "
        "(%d tokens run, %.1f times the longest)",
        *(name, device.type, backbone.dtype, proof.padding, ", ".join(map(str, proof.lengths)), error),
        *(n_tokens, n_tokens / max(proof.lengths)),
    )
    return reader


def _exact(backbone: Backbone) -> Backbone:
    """Return what the padding is decided on: a float32 cut of a model in half precision."""
    return backbone if backbone.dtype.itemsize >= 4 or backbone.is_quantised else float32_cut(backbone)


def self_test(reader: Reader, texts: Sequence[Span], truth: Sequence[Float[Tensor, "t d"]]) -> float:
    """Compare the first of some texts, in one batch as a reader runs them, with each block's own output, alone.

    Returns:
        The largest relative error over the layers, in the model's own dtype.

    Raises:
        ModelError: They disagree, so that the dump would be wrong.
    """
    last = [TokenSpan(tuple(text.ids), text.stop - 1, text.stop) for text in texts]
    truth_ld = torch.stack([truth[layer][last[0].start].cpu() for layer in reader.layers])
    error = relative_error(read_states(reader, last)[0], truth_ld)
    if not error < TOLERANCE[reader.backbone.dtype]:
        raise ModelError(
            f"self-test: the same rows batched and alone differ by {error:.1e} (relative)",
            hint="this model cannot be batched safely; give --batch-size 1, and please report it",
        )
    return error


def compare_hidden_states(backbone: Backbone, ids: Sequence[int]) -> list[Float[Tensor, "t d"]]:
    """Refuse hooks that do not read the model's own hidden states, and return what they read of each block.

    In most families `hidden_states[k + 1]` is block k's output; in some, [k]. The entry of the model's last
    block comes after the final norm and is not compared.

    Raises:
        ModelError: They do not, or the model needs weights that its checkpoint lacks.
    """
    hooks, states = own_hidden_states(backbone, torch.tensor(ids), None)
    if not states:
        log.warning("this model gives no hidden_states: its hooks could not be compared with them")
        return hooks
    compared = range(len(hooks) - 1)
    for shift in (1, 0):
        pairs = [(hooks[k], states[k + shift]) for k in compared if k + shift < len(states)]
        if all(relative_error(one, other) < TOLERANCE[backbone.dtype] for one, other in pairs):
            return hooks
    raise ModelError(
        "self-test: the blocks' outputs are not the model's own hidden_states",
        hint="actlab cannot read this architecture yet; please report it",
    )


class CpuRow(NamedTuple):
    """One example, and its state in each layer."""

    example: Span
    states_ld: Float[Tensor, "l d"]


def shortest_median_longest(examples: Sequence[Span]) -> list[Span]:
    """Return up to three of the examples, by the number of their tokens."""
    by_length = sorted(examples, key=lambda example: len(example.ids))
    return [by_length[place] for place in sorted({0, (len(by_length) - 1) // 2, len(by_length) - 1})]


def rows_on_cpu(loading: Loading, layers: tuple[int, ...], examples: Sequence[Span]) -> list[CpuRow]:
    """Read the shortest, the median and the longest example on the CPU, each alone.

    In float32 whatever the model's dtype is: half precision has no fast kernels on most CPUs, and float32 is the
    better truth. The model is loaded for this alone and given up again, so this belongs before the device's own.
    """
    backbone = load_backbone(dataclasses.replace(loading, dtype="float32", device=torch.device("cpu")))
    reader = Reader(backbone, loading.facts, layers, batch_size=1, batch_tokens=1)
    return [CpuRow(one, read_states(reader, [one])[0]) for one in shortest_median_longest(examples)]


def compare_with_cpu(reader: Reader, rows: Sequence[CpuRow]) -> None:
    """Read in batches, as the run will, what the CPU has read.

    Raises:
        ModelError: The device came to something else.
    """
    tolerance = max(_NEAR_CPU, TOLERANCE[reader.backbone.dtype])
    device, dtype = reader.backbone.device.type, reader.backbone.dtype
    own_nld = read_states(reader, [row.example for row in rows])
    errors = [relative_error(own_ld, row.states_ld) for own_ld, row in zip(own_nld, rows, strict=True)]
    for error, (example, _) in zip(errors, rows, strict=True):
        if not error < tolerance:
            raise ModelError(
                f"self-test: {device} in {dtype} and the CPU differ by {error:.1e} (relative) on a row of "
                f"{len(example.ids)} tokens",
                hint="use --device cpu; another --model-dtype or version of torch may agree",
            )
    log.info("self-test: %s in %s and the CPU in float32 agree to %.0e", device, dtype, max(errors))
