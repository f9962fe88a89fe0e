"""Some of a run's own rows by the CPU, in float32: what a device whose kernels are young has to come near to."""

# l layer, d model width

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.models import Loading, load_backbone
from actlab.backends.reader import Reader, Span, read_states

UNPROVEN = ("mps",)
"""Devices on which plain operations give wrong numbers without a word, batched and alone alike, so that only another
device shows it: a linear layer of MPS in torch 2.13, for one (pytorch issues 192934, 189495)."""


class CpuRow(NamedTuple):
    """One example, and its state in each layer."""

    example: Span
    states_ld: Float[Tensor, "l d"]


def shortest_median_longest(examples: Sequence[Span]) -> list[Span]:
    """Return up to three of the examples, by the number of their tokens."""
    by_length = sorted(examples, key=lambda example: len(example.ids))
    places = {0, (len(by_length) - 1) // 2, len(by_length) - 1}
    return [by_length[place] for place in sorted(places)]


def rows_on_cpu(loading: Loading, layers: tuple[int, ...], examples: Sequence[Span]) -> list[CpuRow]:
    """Read the shortest, the median and the longest example on the CPU, each alone.

    In float32 whatever the model's dtype is: half precision has no fast kernels on most CPUs, and float32 is the
    better truth. The model is loaded for this alone and given up again, so this belongs before the device's own.
    """
    backbone = load_backbone(dataclasses.replace(loading, dtype="float32", device=torch.device("cpu")))
    reader = Reader(backbone, loading.facts, layers, batch_size=1, batch_tokens=1)
    return [CpuRow(one, read_states(reader, [one])[0]) for one in shortest_median_longest(examples)]
