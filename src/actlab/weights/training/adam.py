"""Adam over a stack of networks, each with its own learning rate and step."""

# n networks, a those with a batch at this step (the first of them), q parameters of one, s steps of an epoch

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

BETA_1: Final = 0.9
BETA_2: Final = 0.999
EPSILON: Final = 1e-8
"""The defaults of `torch.optim.Adam`."""


def step_factors(
    rate_n: Float[np.ndarray, " n"], taken_n: Int[np.ndarray, " n"], n_steps: int
) -> Float[np.ndarray, "s 2 n 1"]:
    """Return, for the next steps, minus the step size and epsilon, both with the bias corrections multiplied in.

    Adam's step is rate / (1 - β1^t) · m / (√v / √(1 - β2^t) + ε); multiplied out, both corrections sit in numbers by
    network. They are computed here in float64: in float32 1 - β2^t is off by 6e-3 after an epoch.
    """
    t_sn = taken_n + np.arange(1, n_steps + 1)[:, None]
    root_sn = np.sqrt(1 - BETA_2**t_sn)
    return np.stack([-rate_n * root_sn / (1 - BETA_1**t_sn), EPSILON * root_sn], axis=1)[..., None]


class Adam:
    """The moments of a stack's parameters."""

    def __init__(self, parameters_nq: Float[Tensor, "n q"]) -> None:
        self._moments_nq = (torch.zeros_like(parameters_nq), torch.zeros_like(parameters_nq))

    @torch.no_grad()
    def step(
        self,
        parameters_aq: Float[Tensor, "a q"],
        gradient_aq: Float[Tensor, "a q"],
        factors_2a1: Float[Tensor, "2 a 1"],
    ) -> None:
        """Move the parameters, in place; the gradient is used up."""
        first_aq, second_aq = (moment[: len(gradient_aq)] for moment in self._moments_nq)
        negative_rate_a1, epsilon_a1 = factors_2a1
        first_aq.lerp_(gradient_aq, 1 - BETA_1)
        second_aq.mul_(BETA_2).addcmul_(gradient_aq, gradient_aq, value=1 - BETA_2)
        denominator_aq = torch.sqrt(second_aq, out=gradient_aq).add_(epsilon_a1)
        parameters_aq.addcmul_(torch.div(first_aq, denominator_aq, out=denominator_aq), negative_rate_a1)

    def forget(self, networks: list[int]) -> None:
        """Start afresh for some networks."""
        for moment_nq in self._moments_nq:
            moment_nq[networks] = 0

    def keep(self, networks: Int[Tensor, " k"]) -> None:
        """Take the others out."""
        first_nq, second_nq = self._moments_nq
        self._moments_nq = (first_nq[networks], second_nq[networks])
