"""How good one predicted network is, measured beside the two that its example has."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from actlab.weights.compute.judge import ACCEPTED, Accuracies, change, measure, verdict
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.networks import Architecture, Weights
from actlab.weights.number_format import NumberFormat
from actlab.weights.prompts import weights_json
from actlab.weights.rows import Rows


class Repair(NamedTuple):
    """What a network in the improved one's place is worth."""

    exact_text: bool
    """Its completion is the dataset's, white space around it aside."""
    exact_weights: bool
    """Its weights are the improved ones, as the dataset writes them."""
    gain: float
    """Of the target pattern's balanced accuracy over the degraded network."""
    recovered: float | None
    """The gain as a share of the improved network's; None where that one does not gain on these rows."""
    worst_other: float
    """The smallest change of another pattern, negative for a loss; 0 where there is no other."""
    accepted: bool
    """It meets the dataset's acceptance criteria on these rows."""
    distance: float | None
    """From the improved weights, in units of the degraded ones' distance; None where that is 0."""


@dataclass(frozen=True, eq=False)
class Case:
    """An example, ready to have networks put in its improved one's place."""

    architecture: Architecture
    degraded: Weights
    improved: Weights
    reference: str
    """The dataset's completion."""
    target: int
    """Which of the network's patterns is to be restored."""
    n_patterns: int
    rows: Rows
    settings: WeightsSettings
    acceptance: int
    """Of which version the dataset's criteria are."""
    digits: NumberFormat

    @cached_property
    def before(self) -> Accuracies:
        """The degraded network's accuracies on the rows."""
        return self.measured(self.degraded)

    @cached_property
    def reference_gain(self) -> float:
        """How much the improved network gains on the rows."""
        return change(self.before, self.measured(self.improved), self.target).target_gain

    def measured(self, weights: Weights) -> Accuracies:
        """Measure a network on the rows."""
        return measure(self.architecture, weights, self.rows, self.n_patterns)


def score_repair(case: Case, weights: Weights, completion: str | None = None) -> Repair:
    """Measure predicted weights; without a completion, they are taken as the dataset would write them."""
    after = case.measured(weights)
    changed = change(case.before, after, case.target)
    written = weights_json(case.architecture, weights, case.digits)
    improved = flat(case.improved)
    whole = float(np.linalg.norm(flat(case.degraded) - improved))
    left = float(np.linalg.norm(flat(weights) - improved))
    return Repair(
        exact_text=(written if completion is None else completion.strip()) == case.reference,
        exact_weights=written == case.reference,
        gain=changed.target_gain,
        recovered=changed.target_gain / case.reference_gain if case.reference_gain > 0 else None,
        worst_other=changed.worst_other,
        accepted=verdict(case.before, after, case.target, case.settings, acceptance=case.acceptance) == ACCEPTED,
        distance=left / whole if whole else None,
    )


def flat(weights: Weights) -> Float64[np.ndarray, " q"]:
    """Return all weights and biases as one row."""
    return np.concatenate([array.ravel() for layer in weights for array in layer]).astype(np.float64)
