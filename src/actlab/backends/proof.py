"""How texts of different lengths may share a batch: proved by padding some of the run's own texts."""

# b batch row, t token, l layer, d model width, n compared token

import copy
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actlab.backends.capture import all_of, residual_rows
from actlab.backends.memory import free_memory, is_out_of_memory
from actlab.backends.models import Backbone, ModelFacts
from actlab.backends.reader import Padding, Span
from actlab.backends.state import LoadedState
from actlab.ground.errors import ModelError

log = logging.getLogger("actlab")

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Largest relative error of a row between two ways to compute it, by the model's dtype.

Other batch shapes take other kernels: some 5e-7 in float32 and 1e-2 in bfloat16. A wrong mask, position or
layer moves a row by 0.1 and more.
"""

BUDGET = 8
"""A proof, and the tests after it, run at most so many times the tokens of the run's longest text."""
_PLACES = 64
"""Tokens of a text that are compared, evenly spaced, the first and last among them."""
_BLOCKS_IN_FLOAT32 = 8
"""Layouts of unlike blocks repeat at most every eight, as far as is known (Jamba's)."""
_FEW = 8
"""Padding that tells whether a model looks ahead, before longer paddings are paid for."""


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

    @property
    def compared(self) -> tuple[tuple[int, ...], int]:
        """What decides the tokens that are compared, however it is padded."""
        return self.ids, self.stop

    def run_as(self, padding: Padding) -> tuple[int, ...]:
        """Return the tokens that a reader runs."""
        return self.ids[: self.causal_length] if padding == "right, no mask" else self.ids


def prove_padding(
    backbone: Backbone, facts: ModelFacts, texts: Sequence[Span], *, fresh: Callable[[], Backbone], kept_back: int
) -> Proof:
    """Find out how a model may be padded on the right, by padding its shortest, median and longest texts.

    Causal models need no mask, which keeps their fast kernel; models that look ahead need one; where that changes
    a result all the same, only texts of one length share a batch. Texts on two sides of a limit that the model's config
    names never do. `fresh` loads the model once more, for models that a forward pass changes. `kept_back` tokens of
    the budget are for others.

    Raises:
        ModelError: Not even texts of one length can share a batch.
    """
    return _Prover(backbone, facts, texts, fresh, kept_back).prove()


class _Prover:
    """Runs texts and counts their tokens."""

    def __init__(
        self,
        backbone: Backbone,
        facts: ModelFacts,
        texts: Sequence[Span],
        fresh: Callable[[], Backbone],
        kept_back: int,
    ) -> None:
        self.backbone = backbone
        self.facts = facts
        self.fresh = fresh
        self.layers = range(min(len(backbone.blocks), backbone.n_layers))
        self.longest = max(len(text.ids) for text in texts)
        self.budget = BUDGET * self.longest - kept_back
        self.n_tokens = 0
        self.texts = self._choose(texts)
        self.truths = {text.compared: self._alone(text) for text in self.texts}
        self.tolerance = self._noise() if backbone.is_quantised else TOLERANCE[backbone.dtype]

    def prove(self) -> Proof:
        shortest = self.texts[0]._replace(to=min(len(self.texts[0].ids) + _FEW, self.texts[0].to))
        looks_ahead = not self._error([shortest], "right, no mask") < self.tolerance
        padding: Padding = "right, masked" if looks_ahead else "right, no mask"
        error = self._error(self.texts, padding)
        log.debug("padding %s: relative error %.1e", padding, error)
        if error < self.tolerance:
            return self._proof(padding, error)
        return self._proof("none", self._check_equal_lengths())

    def _proof(self, padding: Padding, error: float) -> Proof:
        sides: dict[int, list[_Padded]] = {}
        for text in self.texts if padding != "none" else ():
            sides.setdefault(self.facts.side(len(text.ids)), []).append(text)
        proven = []
        for texts in sides.values():
            shortest = min(len(text.run_as(padding)) for text in texts)
            proven.append((shortest, max(text.to for text in texts)))
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
        """Return the tokens of a proof: each text alone, the first padded a little, all padded, and the noise."""
        noise = 2 * len(texts[0].ids) if self.backbone.is_quantised else 0
        return len(texts[0].ids) + _FEW + sum(len(text.ids) + text.to for text in texts) + noise

    def _alone(self, text: _Padded) -> Float[Tensor, "l n d"]:
        """Return the truth of a text: alone, whole, not padded, by a module that nothing has changed."""
        backbone = self.fresh() if self.backbone.state.was_changed else self.backbone
        self.n_tokens += len(text.ids)
        return residual_rows(backbone, torch.tensor([text.ids]), None, self.layers, all_of(_places([text])))

    def _error(self, texts: Sequence[_Padded], padding: Padding) -> float:
        """Return the largest error of texts in batches, padded, against alone; each side has its batch."""
        worst = 0.0
        for to in sorted({text.to for text in texts}):
            batch = [text for text in texts if text.to == to]
            truth = torch.cat([self.truths[text.compared] for text in batch], dim=1)
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
        """Return the error of the longest affordable text in a batch with another of its length.

        Raises:
            ModelError: It differs from the text alone.
        """
        left = self.budget - self.n_tokens
        affordable = [text for text in self.texts if 2 * len(text.ids) <= left] or self.texts[:1]
        error = self._beside_another(max(affordable, key=lambda text: len(text.ids)))
        if not error < self.tolerance:
            raise ModelError(
                f"self-test: a text alone and beside another of its length differ by {error:.1e} (relative)",
                hint="this model cannot be batched safely; please report it",
            )
        return error

    def _beside_another(self, text: _Padded) -> float:
        """Return what a batch with another text of its length does to a text."""
        ids_bt = torch.tensor([text.ids, text.ids[::-1]])
        places_bt = torch.cat([_places([text]), torch.zeros(1, len(text.ids), dtype=torch.bool)])
        return relative_error(self._run(ids_bt, torch.ones_like(ids_bt), places_bt), self.truths[text.compared])

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
    """Return a copy of a model's first blocks in float32, in which a wrong mask cannot hide behind rounding."""
    left_away = backbone.blocks[_BLOCKS_IN_FLOAT32:]
    memo: dict[int, object] = {id(block): nn.Identity() for block in left_away}
    blocks: list[nn.Module] = []
    module = copy.deepcopy(backbone.module, memo)
    for block in backbone.blocks[:_BLOCKS_IN_FLOAT32]:
        copied = memo[id(block)]
        assert isinstance(copied, nn.Module)
        blocks.append(copied)
    for one in module.modules():
        if isinstance(one, nn.ModuleList) and len(one) == len(backbone.blocks) and one[0] is blocks[0]:
            del one[len(blocks) :]
    module.float()
    return Backbone(
        module=module,
        blocks=blocks,
        n_layers=backbone.n_layers,
        hidden_dim=backbone.hidden_dim,
        vocab_size=backbone.vocab_size,
        dtype=torch.float32,
        device=backbone.device,
        state=LoadedState(module),
    )


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return the largest ‖value - truth‖ / ‖truth‖ over rows (the last dimension).

    A row that is not finite in both counts as no error: it is dropped later, by name.
    """
    value, truth = value.cpu().double(), truth.cpu().double()  # mps has no float64
    finite = torch.isfinite(truth).all(-1) | torch.isfinite(value).all(-1)
    error = (value - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-12)
    error = error[finite]
    return float(error.max()) if error.numel() else 0.0
