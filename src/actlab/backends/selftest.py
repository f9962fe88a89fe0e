"""Before a run: does padding change a result, and do the hooks read the model's own hidden states?"""

# t token, d model width, l layer

import dataclasses
import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from actlab.backends.capture import last_of, own_hidden_states, residual_rows
from actlab.backends.hub import ModelFolder
from actlab.backends.memory import is_out_of_memory
from actlab.backends.models import Backbone, ModelFacts, load_backbone
from actlab.backends.on_cpu import UNPROVEN, CpuRow, rows_on_cpu
from actlab.backends.reader import Padding, Reader, Span, read_states
from actlab.ground.errors import ModelError

log = logging.getLogger("actlab")

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Largest relative error of a row between two ways to compute it, by the model's dtype.

Other batch shapes take other kernels: some 5e-7 in float32 and 1e-2 in bfloat16. A wrong mask, position or
layer moves a row by 0.1 and more.
"""

_NEAR_CPU = 1e-3
"""The least that is asked of a row that another device computes: in float32 too its kernels round in other places."""


def load_reader(
    model: ModelFolder,
    facts: ModelFacts,
    layers: tuple[int, ...],
    examples: Sequence[Span],
    *,
    batch_size: int,
    batch_tokens: int,
    dtype: Literal["auto", "float32", "float16", "bfloat16"],
    device: torch.device,
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
) -> Reader:
    """Load a model, find out how it may be padded, and test it on a few of the run's own texts.

    On a device whose results are not to be taken on trust, three of them are computed on the CPU too.

    Raises:
        ModelError: It cannot be loaded, or the test fails.
    """
    on_cpu: list[CpuRow] = []
    if device.type in UNPROVEN:
        on_cpu = rows_on_cpu(model, facts, layers, examples, trust_remote_code=trust_remote_code)
    backbone = load_backbone(
        model,
        facts,
        deepest=max(layers),
        dtype=dtype,
        device=device,
        load_in_4bit=load_in_4bit,
        trust_remote_code=trust_remote_code,
    )
    try:
        padding = choose_padding(backbone, facts, examples[0].ids)
        reader = Reader(backbone, facts, layers, padding, batch_size, batch_tokens)
        error = self_test(reader, examples)
        if on_cpu:
            compare_with_cpu(reader, on_cpu)
    except RuntimeError as failure:
        if is_out_of_memory(failure):
            raise ModelError(
                f"out of memory on {device.type} in the self-test of {model.name}",
                hint="lower --max-length, use fewer --layers, a smaller --model-dtype, or another --device",
            ) from failure
        if not load_in_4bit:
            raise
        raise ModelError(
            f"{model.name} does not run in 4 bits on {device.type}: {failure}",
            hint="use --device cuda, or leave --load-in-4bit away",
        ) from failure
    log.info(
        "%s on %s in %s: padding %s; self-test: rows alone and batched agree to %.0e",
        *(model.name, device.type, backbone.dtype, padding, error),
    )
    return reader


def choose_padding(backbone: Backbone, facts: ModelFacts, ids: Sequence[int]) -> Padding:
    """Find out how this model may be padded on the right, by padding.

    Causal models need no mask, which keeps their fast kernel; models that look ahead need one; where even
    that changes the result, only rows of one length share a batch.
    """
    text = torch.tensor(ids[:8])
    filler = torch.arange(24) % backbone.vocab_size
    padded = torch.cat([text, filler])[None]
    mask = torch.cat([torch.ones(len(text)), torch.zeros(24)]).long()[None]
    if facts.max_positions is not None:
        padded, mask = padded[:, : facts.max_positions], mask[:, : facts.max_positions]
    pick = last_of(torch.tensor([len(text) - 1]))
    layers = range(min(len(backbone.blocks), backbone.n_layers))
    alone = residual_rows(backbone, text[None], None, layers, pick)
    masks: dict[Padding, Tensor | None] = {"right, no mask": None, "right, masked": mask}
    for padding, used in masks.items():
        error = relative_error(residual_rows(backbone, padded, used, layers, pick), alone)
        log.debug("padding %s: relative error %.1e", padding, error)
        if error < TOLERANCE[backbone.dtype]:
            return padding
    return "none"


def self_test(reader: Reader, examples: Sequence[Span]) -> float:
    """Compare, on a few of the run's own examples, batched against alone and hooks against the model.

    Returns:
        The largest relative error of a row, batched against alone.

    Raises:
        ModelError: They disagree, so that the dump would be wrong.
    """
    by_length = sorted(examples, key=lambda example: len(example.ids))
    chosen = [by_length[(len(by_length) - 1) * k // 4] for k in range(3)]  # up to the median length
    chosen = list({id(example): example for example in chosen}.values())
    tolerance = TOLERANCE[reader.backbone.dtype]
    reader = dataclasses.replace(reader, dtype=None)
    batched = read_states(reader, chosen)
    alone = torch.cat([read_states(reader, [example]) for example in chosen])
    error = max(relative_error(one, other) for one, other in zip(batched, alone, strict=True))
    if not error < tolerance:
        raise ModelError(
            f"self-test: the same rows batched and alone differ by {error:.1e} (relative)",
            hint="this model cannot be batched safely; give --batch-size 1, and please report it",
        )
    _compare_hidden_states(reader, chosen[0], tolerance)
    return error


def _compare_hidden_states(reader: Reader, example: Span, tolerance: float) -> None:
    """Refuse hooks that do not read the model's own hidden states.

    In most families `hidden_states[k + 1]` is block k's output; in some, [k]. The entry of the model's last
    block comes after the final norm and is not compared.
    """
    ids = torch.tensor(example.ids)
    mask = torch.ones(1, len(ids), dtype=torch.long) if reader.padding != "right, no mask" else None
    hooks, states = own_hidden_states(reader.backbone, ids, mask)
    if not states:
        log.warning("this model gives no hidden_states: its hooks could not be compared with them")
        return
    compared = range(len(hooks) - 1)
    for shift in (1, 0):
        pairs = [(hooks[k], states[k + shift]) for k in compared if k + shift < len(states)]
        if all(relative_error(one, other) < tolerance for one, other in pairs):
            return
    raise ModelError(
        "self-test: the blocks' outputs are not the model's own hidden_states",
        hint="actlab cannot read this architecture yet; please report it",
    )


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


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return the largest ‖value - truth‖ / ‖truth‖ over rows (the last dimension).

    A row that is not finite in both counts as no error: it is dropped later, by name.
    """
    value, truth = value.cpu().double(), truth.cpu().double()  # mps has no float64
    finite = torch.isfinite(truth).all(-1) | torch.isfinite(value).all(-1)
    error = (value - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-12)
    error = error[finite]
    return float(error.max()) if error.numel() else 0.0
