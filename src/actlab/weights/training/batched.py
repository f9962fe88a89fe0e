"""Many networks at once, as stacks: the reference's training at a fraction of its cost."""

# n networks, a those with a batch at this step (the first of them), q parameters of one
# b rows of a batch, h hidden layers, w width

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from actlab.backends.devices import device_errors
from actlab.weights.training.adam import Adam, step_factors
from actlab.weights.training.rows import Batch, Rows
from actlab.weights.training.run import Run
from actlab.weights.training.spec import Schedule, Trained, TrainingSpec, dropout_factors
from actlab.weights.training.stacks import Form

_STACK_PARAMETERS = {"cpu": 2**17, "cuda": 2**22, "mps": 2**22}
"""About the most of a stack. On a CPU a bigger one leaves the cache, and a smaller one pays more for its calls than
for the padding that it saves: measured at 64 to 256 networks of 6 to 9 layers of 25 to 40. The others are a guess."""

_OF_ONE_WIDTH = 4
"""So many times more where nothing is padded: measured at 7 layers of 32, a tenth cheaper."""

_KEPT_BYTES = 30 * 2**20
"""Just below what glibc still learns from (DEFAULT_MMAP_THRESHOLD_MAX)."""


def train_many(
    specs: Sequence[TrainingSpec], schedule: Schedule, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[Trained]:
    """Train every network in both stages; results are in the order of the specs.

    Networks of one depth, activation and input length are trained in stacks of near widths. Which are together
    depends on the specs and the kind of device alone, so the same call gives the same bytes; another selection of
    specs may move the last bits.
    """
    # glibc hands large freed blocks back to the system, and every step would fault its memory in anew (a tenth to a
    # quarter of the time): freeing one larger block first teaches it to keep them
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)
    trained: dict[int, Trained] = {}
    with device_errors(torch.device(device), if_out_of_memory="use --device cpu"):
        for members in _arrange(specs, device):
            stack = _Stack([specs[index] for index in members], schedule, device=device, dtype=dtype)
            trained.update(zip(members, stack.train(), strict=True))
    return [trained[index] for index in range(len(specs))]


def _arrange(specs: Sequence[TrainingSpec], device: str) -> Iterator[list[int]]:
    """Yield the stacks: networks of one kind and of near widths, those with the most rows first."""

    def kind(index: int) -> tuple[int, int, str, bool]:
        one = specs[index].architecture
        return one.sequence_length, one.num_layers, one.activation_type, one.dropout_rate > 0

    def rank(index: int) -> tuple[object, ...]:
        return *kind(index), specs[index].architecture.neurons_per_layer

    for _, group in itertools.groupby(sorted(range(len(specs)), key=rank), key=kind):
        members = list(group)
        widths = {specs[index].architecture.neurons_per_layer for index in members}
        most = _STACK_PARAMETERS[torch.device(device).type] * (_OF_ONE_WIDTH if len(widths) == 1 else 1)
        n_stacks = -(-sum(specs[index].architecture.n_parameters for index in members) // most)
        for part in np.array_split(members, min(n_stacks, len(members))):
            yield sorted(part.tolist(), key=lambda index: -len(specs[index].train_tokens))


class _Stack:
    """Networks that train together; those that have finished are taken out after each epoch."""

    def __init__(self, specs: Sequence[TrainingSpec], schedule: Schedule, *, device: str, dtype: torch.dtype) -> None:
        self._form = Form.of(specs, schedule)
        self._runs = [Run(spec, schedule) for spec in specs]
        self._rows = Rows(specs, schedule.batch_size, device=device, dtype=dtype)
        packed_nq = np.stack([self._form.pack(spec.initial) for spec in specs])
        self._parameters_nq = torch.from_numpy(packed_nq).to(device, dtype)
        self._mask_nw1 = self._form.mask(specs, like=self._parameters_nq)
        self._adam = Adam(self._parameters_nq)

    def train(self) -> list[Trained]:
        """Train until all have finished."""
        runs = self._runs
        while self._runs:
            train_losses_n = self._train_epoch()
            is_over_n = [
                run.record(*losses, parameters_q)
                for run, losses, parameters_q in zip(
                    self._runs, self._measure(train_losses_n), self._parameters_nq, strict=True
                )
            ]
            self._turn([index for index, is_over in enumerate(is_over_n) if is_over])
        return [run.result(self._form) for run in runs]

    def _turn(self, over: list[int]) -> None:
        """Send those whose stage is over into stage 2, or out."""
        if not over:
            return
        self._adam.forget(over)
        finished = {index for index in over if not self._runs[index].begin_next_stage()}
        going = [index for index in range(len(self._runs)) if index not in finished]
        self._runs = [self._runs[index] for index in going]
        if finished and going:
            index = torch.tensor(going, device=self._parameters_nq.device)
            self._parameters_nq = self._parameters_nq[index]
            self._mask_nw1 = None if self._mask_nw1 is None else self._mask_nw1[index]
            self._adam.keep(index)
            self._rows.keep(going)

    def _train_epoch(self) -> Float[Tensor, " n"]:
        """Take every network through its rows once; return the mean losses."""
        runs, n_steps_n = self._runs, self._rows.n_steps_n
        rates_n, taken_n = np.array([run.learning_rate for run in runs]), np.array([run.n_steps for run in runs])
        factors_s2n1 = torch.from_numpy(step_factors(rates_n, taken_n, n_steps_n.max()))
        factors_s2n1 = factors_s2n1.to(self._parameters_nq.dtype).to(self._parameters_nq.device)  # mps has no float64
        total_n = self._parameters_nq.new_zeros(len(runs))
        orders = [run.orders.permutation(n_rows) for run, n_rows in zip(runs, self._rows.n_rows_n, strict=True)]
        batches = self._rows.batches(orders, [run.stage for run in runs])
        for batch, factors_2n1 in zip(batches, factors_s2n1, strict=True):
            a = len(batch.n_rows_a)
            parameters_aq = self._parameters_nq[:a]
            losses_a, gradient_aq = self._loss(parameters_aq, batch)
            self._adam.step(parameters_aq, gradient_aq, factors_2n1[:, :a])
            total_n[:a] += losses_a
        for run, n_steps in zip(runs, n_steps_n.tolist(), strict=True):
            run.n_steps += n_steps
        return total_n / torch.from_numpy(self._rows.n_rows_n).to(total_n)

    @torch.enable_grad()
    def _loss(
        self, parameters_aq: Float[Tensor, "a q"], batch: Batch
    ) -> tuple[Float[Tensor, " a"], Float[Tensor, "a q"]]:
        """Return the sum of each network's losses, and the gradient of their mean."""
        leaf_aq = parameters_aq.detach().requires_grad_()
        mask_aw1 = None if self._mask_nw1 is None else self._mask_nw1[: len(leaf_aq)]
        logits_ab = self._form.logits(leaf_aq, batch.inputs_apb, mask_aw1=mask_aw1, dropout_hawb=self._dropout(batch))
        losses_a = _losses(logits_ab, batch.labels_ab, batch.real_ab)
        (gradient_aq,) = torch.autograd.grad(losses_a, leaf_aq, 1 / batch.n_rows_a)
        return losses_a.detach(), gradient_aq

    def _dropout(self, batch: Batch) -> Float[Tensor, "h a w b"] | None:
        if not self._form.has_dropout:
            return None
        a, b = batch.labels_ab.shape
        factors_hawb = np.zeros((len(self._form.sizes) - 1, a, self._form.sizes[0][0], b), np.float32)
        for index, n_rows in enumerate(batch.n_rows_a.int().tolist()):
            run = self._runs[index]
            own_hbw = dropout_factors(run.spec.architecture, n_rows, run.dropout)
            factors_hawb[:, index, : own_hbw.shape[2], :n_rows] = own_hbw.swapaxes(1, 2)
        return torch.from_numpy(factors_hawb).to(batch.inputs_apb)

    @torch.inference_mode()
    def _measure(self, train_losses_n: Float[Tensor, " n"]) -> list[tuple[float, float, float]]:
        """Return training loss, validation loss and validation accuracy by network."""
        rows = self._rows
        logits_nm = self._form.logits(self._parameters_nq, rows.validation_inputs_npm, mask_aw1=self._mask_nw1)
        labels_nm, real_nm = rows.validation_labels_nm, rows.validation_real_nm
        n_rows_n = real_nm.sum(1)
        losses_n = _losses(logits_nm, labels_nm, real_nm) / n_rows_n
        accuracies_n = (((logits_nm > 0) == (labels_nm > 0)) * real_nm).sum(1) / n_rows_n
        measured: list[tuple[float, float, float]] = torch.stack([train_losses_n, losses_n, accuracies_n], 1).tolist()
        return measured


def _losses(
    logits_ab: Float[Tensor, "a b"], labels_ab: Float[Tensor, "a b"], real_ab: Float[Tensor, "a b"]
) -> Float[Tensor, " a"]:
    """Return each network's binary cross-entropy, summed over its real rows."""
    losses_ab = functional.binary_cross_entropy_with_logits(logits_ab, labels_ab, reduction="none")
    return (losses_ab * real_ab).sum(1)
