"""The rows that a stack of networks trains and is measured on, padded to the longest."""

# n networks, a those with a batch at a step (the first of them), s steps of an epoch, b rows of a batch
# r training rows and m validation rows of the longest, p positions; rows come last, where bmm is fastest

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from actlab.weights.training.spec import TrainingSpec


class Batch(NamedTuple):
    """One step's rows, of those networks that have any left."""

    inputs_apb: Float[Tensor, "a p b"]
    labels_ab: Float[Tensor, "a b"]
    real_ab: Float[Tensor, "a b"]
    """One where there is a row, zero where the network's own batch is shorter."""
    n_rows_a: Float[Tensor, " a"]


class Rows:
    """Training and validation rows by network; the networks come with the most rows first."""

    def __init__(self, specs: Sequence[TrainingSpec], batch_size: int, *, device: str, dtype: torch.dtype) -> None:
        def padded(arrays: Sequence[np.ndarray]) -> Tensor:
            shape = (len(arrays), max(map(len, arrays)), *arrays[0].shape[1:])
            filled = np.zeros(shape, np.float32)
            for one, array in zip(filled, arrays, strict=True):
                one[: len(array)] = array
            return torch.from_numpy(filled).to(device, dtype)

        self.n_rows_n = np.array([len(spec.train_tokens) for spec in specs])
        self._inputs_npr = padded([spec.train_tokens for spec in specs]).mT.contiguous()
        self._corrupted_nr = padded([spec.corrupted_labels for spec in specs])
        self._clean_nr = padded([spec.clean_labels for spec in specs])
        self.validation_inputs_npm = padded([spec.validation_tokens for spec in specs]).mT.contiguous()
        self.validation_labels_nm = padded([spec.validation_labels for spec in specs])
        self.validation_real_nm = padded([np.ones(len(spec.validation_labels)) for spec in specs])
        self._batch_size = batch_size
        self._find_batches()

    def _find_batches(self) -> None:
        """Find how many rows each network has at each step: the same in every epoch."""
        starts_s = np.arange(0, self.n_rows_n.max(), self._batch_size)
        self._n_rows_sn = np.clip(self.n_rows_n - starts_s[:, None], 0, self._batch_size)
        real_snb = np.arange(self._batch_size) < self._n_rows_sn[..., None]
        self._real_snb = torch.from_numpy(real_snb).to(self._clean_nr)
        self._n_real_sn = self._real_snb.sum(2)

    @property
    def n_steps_n(self) -> Int[np.ndarray, " n"]:
        """Batches of an epoch, by network."""
        return np.asarray((self._n_rows_sn > 0).sum(axis=0))

    def batches(self, orders: Sequence[np.ndarray], stages: Sequence[int]) -> Iterator[Batch]:
        """Yield an epoch's batches, every network in its own order and with its own stage's labels."""
        order_nr = np.zeros((len(orders), len(self._n_rows_sn) * self._batch_size), np.int64)
        for one, order in zip(order_nr, orders, strict=True):
            one[: len(order)] = order
        device = self._clean_nr.device
        batches = torch.split(torch.from_numpy(order_nr).to(device), self._batch_size, dim=1)
        is_first_n1 = torch.tensor(stages, device=device)[:, None] == 1
        labels_nr = torch.where(is_first_n1, self._corrupted_nr, self._clean_nr)
        n_positions = self._inputs_npr.shape[1]
        for step, (rows_nb, n_rows_n) in enumerate(zip(batches, self._n_rows_sn, strict=True)):
            a, b = int((n_rows_n > 0).sum()), int(n_rows_n.max())
            rows_ab = rows_nb[:a, :b]
            inputs_apb = self._inputs_npr[:a].gather(2, rows_ab[:, None].expand(a, n_positions, b))
            labels_ab = labels_nr[:a].gather(1, rows_ab)
            yield Batch(inputs_apb, labels_ab, self._real_snb[step, :a, :b], self._n_real_sn[step, :a])

    def keep(self, networks: list[int]) -> None:
        """Take the other networks out."""
        index = torch.tensor(networks, device=self._clean_nr.device)
        self.n_rows_n = self.n_rows_n[networks]
        self._inputs_npr = self._inputs_npr[index]
        self._corrupted_nr, self._clean_nr = self._corrupted_nr[index], self._clean_nr[index]
        self.validation_inputs_npm = self.validation_inputs_npm[index]
        self.validation_labels_nm = self.validation_labels_nm[index]
        self.validation_real_nm = self.validation_real_nm[index]
        self._find_batches()
