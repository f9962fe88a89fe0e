"""How texts of different lengths may share a batch: proved by padding some of the run's own texts."""

# b batch row, t token, l layer, d model width, n compared token

import copy
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actlab.backends.capture import all_of, residual_rows
from actlab.backends.memory import free_memory, is_out_of_memory
from actlab.backends.models import Backbone, ModelFacts
from actlab.backends.reader import Padding, Span
from actlab.backends.state import LoadedState
from actlab.ground.errors import ModelError
from actlab.ground.log import log

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Largest relative error of a row between two ways to compute it, by the model's dtype.

Other batch shapes take other kernels: some 5e-7 in float32 and 1e-2 in bfloat16. A wrong mask, position or
layer moves a row by 0.1 and more.
"""

BUDGET = 8
"""A proof, and the tests after it, run at most so many times the tokens of the run's longest text."""
_PLACES = 64
"""Tokens of a text that are compared, evenly spaced, the first and last among them."""
BLOCKS_IN_FLOAT32 = 8
"""The fewest blocks in which the padding of a model in half precision is decided, where it has so many."""
_FEW = 8
"""Tokens, and as many behind them, that tell whether a model looks ahead."""


class Proof(NamedTuple):
    """How texts may share a batch, and what it took to know."""

    padding: Padding
    proven: tuple[tuple[int, int], ...]
    """From and to which lengths, in texts on the same side of the model's limits."""
    error: float
    """Largest relative error of a compared token, in a batch against alone."""
    lengths: tuple[int, ...]
    """Tokens of the texts that were tried, ascending."""
    n_tokens: int
    """Tokens that were run, padding included."""


class _Padded(NamedTuple):
    """A text and how long it is made."""

    ids: tuple[int, ...]
    stop: int
    """One past the last token that is asked for."""
    causal_length: int
    """Tokens that are run where the model is causal."""
    to: int

    def run_as(self, padding: Padding) -> tuple[int, ...]:
        """Return the tokens that a reader runs."""
        return self.ids[: self.causal_length] if padding == "right, no mask" else self.ids


def prove_padding(
    backbone: Backbone, facts: ModelFacts, texts: Sequence[Span], *, kept_back: int, one_by_one: bool = False
) -> Proof:
    """Find out how a model may be padded on the right, by padding its shortest, median and longest texts.

    Causal models need no mask, which keeps their fast kernel; models that look ahead need one; where that changes
    a result all the same, only texts of one length share a batch; `one_by_one` says that none ever will. Texts on two
    sides of a limit that the model's config names never do. `kept_back` tokens of the budget are for others.

    Raises:
        ModelError: Not even texts of one length can share a batch.
    """
    return _Prover(backbone, facts, texts, kept_back, one_by_one=one_by_one).prove()


class _Prover:
    """Runs texts and counts their tokens."""

    def __init__(
        self, backbone: Backbone, facts: ModelFacts, texts: Sequence[Span], kept_back: int, *, one_by_one: bool
    ) -> None:
        self.backbone = backbone
        self.facts = facts
        self.one_by_one = one_by_one
        self.layers = range(len(backbone.blocks))
        self.longest = max(len(text.ids) for text in texts)
        self.budget = BUDGET * self.longest - kept_back
        self.n_tokens = 0
        self.texts = self._choose(texts)
        self.truths = {text: self._run(torch.tensor([text.ids]), None, _places([text])) for text in self.texts}
        """Each text alone, whole, not padded, by the module as it was loaded: [l, n, d]."""
        self.tolerance = self._noise() if backbone.is_quantised else TOLERANCE[backbone.dtype]

    def prove(self) -> Proof:
        padding: Padding = "right, masked" if self._looks_ahead() else "right, no mask"
        error = self._error(self.texts, padding)
        log.debug("padding %s: relative error %.1e", padding, error)
        if error < self.tolerance:
            return self._proof(padding, error)
        return self._proof("none", self._check_equal_lengths())

    def _looks_ahead(self) -> bool:
        """Whether the longest text's first tokens depend on the next ones: few of each, as that costs little."""
        ids = self.texts[-1].ids
        n = max(1, min(_FEW, len(ids) // 8))
        ids_bt = torch.tensor([(*ids[:n], *(ids * 2)[n : 2 * n])])
        is_first_bt = torch.arange(2 * n)[None] < n
        alone, beside = (self._run(ids_bt[:, :stop], None, is_first_bt[:, :stop]) for stop in (n, 2 * n))
        return not relative_error(beside, alone) < self.tolerance

    def _proof(self, padding: Padding, error: float) -> Proof:
        sides: dict[int, list[_Padded]] = {}
        for text in self.texts if padding != "none" else ():
            sides.setdefault(self.facts.side(len(text.ids)), []).append(text)
        proven = [
            (min(len(text.run_as(padding)) for text in texts), max(text.to for text in texts))
            for texts in sides.values()
        ]
        lengths = sorted(len(text.ids) for text in self.texts)
        return Proof(padding, tuple(proven), error, tuple(lengths), self.n_tokens)

    def _choose(self, texts: Sequence[Span]) -> list[_Padded]:
        """Return the longest text, the shortest, the median, and the ends of their sides, as far as the budget goes."""
        padded = sorted(map(self._padded, texts), key=lambda text: (text.causal_length, len(text.ids)))
        first, median, last = padded[0], padded[(len(padded) - 1) // 2], max(padded, key=lambda text: len(text.ids))
        beside_last = next(text for text in padded if text.to == last.to)
        beside_first = [text for text in padded if text.to == first.to][-1]
        chosen = [last]
        for text in (first, median, beside_last, beside_first):
            more = sorted([*chosen, text], key=lambda one: one.causal_length)
            is_new = (len(text.ids), text.causal_length) not in [(len(one.ids), one.causal_length) for one in chosen]
            if is_new and self._cost(more) <= self.budget:
                chosen = more
        return chosen

    def _padded(self, text: Span) -> _Padded:
        """Return a text to be padded past the longest, within the model's own length and the text's side."""
        n_tokens = len(text.ids)
        side = self.facts.side(n_tokens)
        to = self.longest + max(1, self.longest // 16)
        ends = [self.facts.max_positions or to, *self.facts.limits[side : side + 1]]
        causal_length = self.facts.causal_length(n_tokens, text.stop)
        return _Padded(tuple(text.ids), text.stop, causal_length, max(n_tokens, min(to, *ends)))

    def _cost(self, texts: list[_Padded]) -> int:
        """Return the tokens of a proof that fails: each alone, a few looked at, all padded, pairs of equal length."""
        n_pairs = 2 if self.backbone.is_quantised else 1  # one for the noise
        return 3 * _FEW + sum(len(text.ids) + text.to for text in texts) + n_pairs * 2 * len(texts[0].ids)

    def _error(self, texts: Sequence[_Padded], padding: Padding) -> float:
        """Return the largest error of texts in batches, padded, against alone; each side has its batch."""
        worst = 0.0
        for to in sorted({text.to for text in texts}):
            batch = [text for text in texts if text.to == to]
            truth = torch.cat([self.truths[text] for text in batch], dim=1)
            worst = max(worst, relative_error(self._padded_rows(batch, to, padding), truth))
        return worst

    def _padded_rows(self, batch: Sequence[_Padded], to: int, padding: Padding) -> Float[Tensor, "l n d"]:
        """Return the compared tokens of a padded batch; where a device has too little memory, of its halves."""
        run = [text.run_as(padding) for text in batch]
        ids_bt = torch.tensor([(ids * (to // len(ids) + 1))[:to] for ids in run])
        mask_bt = torch.tensor([[int(place < len(ids)) for place in range(to)] for ids in run])
        try:
            return self._run(ids_bt, mask_bt if padding == "right, masked" else None, _places(batch, to))
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        free_memory(self.backbone.device)
        half = len(batch) // 2
        return torch.cat([self._padded_rows(some, to, padding) for some in (batch[:half], batch[half:])], dim=1)

    def _run(self, ids_bt: Tensor, mask_bt: Tensor | None, places_bt: Tensor) -> Tensor:
        rows = residual_rows(self.backbone, ids_bt, mask_bt, self.layers, all_of(places_bt))
        self.n_tokens += ids_bt.numel()
        return rows

    def _check_equal_lengths(self) -> float:
        """Return the error of the longest affordable text in a batch with another of its length, if batches are asked.

        Raises:
            ModelError: It differs from the text alone.
        """
        affordable = [text for text in self.texts if 2 * len(text.ids) <= self.budget - self.n_tokens]
        if self.one_by_one or not affordable:
            return 0.0
        error = self._beside_another(max(affordable, key=lambda text: len(text.ids)))
        if not error < self.tolerance:
            raise ModelError(
                f"self-test: a text alone and beside another of its length differ by {error:.1e} (relative)",
                hint="this model cannot be batched safely; give --batch-size 1, and please report it",
            )
        return error

    def _beside_another(self, text: _Padded) -> float:
        """Return what a batch with another text of its length does to a text."""
        ids_bt = torch.tensor([text.ids[::-1], text.ids])
        places_bt = torch.cat([torch.zeros(1, len(text.ids), dtype=torch.bool), _places([text])])
        return relative_error(self._run(ids_bt, torch.ones_like(ids_bt), places_bt), self.truths[text])

    def _noise(self) -> float:
        """Return three times what another batch does to the shortest text, where affordable; at least float16's."""
        noise = self._beside_another(self.texts[0]) if self._cost(self.texts) <= self.budget else 0.0
        return max(3 * noise, TOLERANCE[torch.float16])


def _places(texts: Sequence[_Padded], to: int | None = None) -> Tensor:
    """Mark the tokens that are compared, [b, t]: of what is asked for, as many as are told apart."""
    marked_bt = torch.zeros(len(texts), to or len(texts[0].ids), dtype=torch.bool)
    for row, text in enumerate(texts):
        marked_bt[row, torch.linspace(0, text.stop - 1, min(text.stop, _PLACES)).long()] = True
    return marked_bt


def float32_cut(backbone: Backbone) -> Backbone:
    """Return a copy of a model's first blocks in float32, in which a wrong mask cannot hide behind rounding.

    They are as many as it takes to have one of each kind. A device that has too little memory for them gets fewer.
    """
    n_blocks = n_unlike_blocks(backbone)
    while True:
        try:
            return _cut(backbone, n_blocks)
        except RuntimeError as error:
            if n_blocks == 1 or not is_out_of_memory(error):
                raise
        free_memory(backbone.device)
        n_blocks //= 2
        log.warning("out of memory for the self-test's float32 copy: %d blocks in place of twice as many", n_blocks)


def n_unlike_blocks(backbone: Backbone) -> int:
    """Return how many blocks, from the first, hold one of each kind: of the modules in them, and as the config says."""
    types = getattr(getattr(backbone.module, "config", None), "layer_types", None) or []
    kinds = [
        (tuple(type(module) for module in block.modules()), types[place] if place < len(types) else None)
        for place, block in enumerate(backbone.blocks)
    ]
    return min(len(kinds), max(BLOCKS_IN_FLOAT32, *(kinds.index(kind) + 1 for kind in kinds)))


def _cut(backbone: Backbone, n_blocks: int) -> Backbone:
    memo: dict[int, object] = {id(block): nn.Identity() for block in backbone.blocks[n_blocks:]}
    module = copy.deepcopy(backbone.module, memo)
    blocks = [memo[id(block)] for block in backbone.blocks[:n_blocks]]
    for one in module.modules():
        if isinstance(one, nn.ModuleList) and len(one) == len(backbone.blocks) and one[0] is blocks[0]:
            del one[n_blocks:]
    module.float()
    return dataclasses.replace(
        backbone,
        module=module,
        blocks=cast(list[nn.Module], blocks),
        dtype=torch.float32,
        state=LoadedState(module),
        without_weights=(),
    )


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return the largest ‖value - truth‖ / ‖truth‖ over rows (the last dimension).

    A row that is finite in neither counts as no error: it is dropped later, by name.
    """
    value, truth = value.cpu().double(), truth.cpu().double()  # mps has no float64
    finite = torch.isfinite(truth).all(-1) | torch.isfinite(value).all(-1)
    error = (value - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-12)
    error = error[finite].nan_to_num(nan=torch.inf)  # of a row that only one of them can compute
    return float(error.max()) if error.numel() else 0.0
