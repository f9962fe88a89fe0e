"""What needs no interpreter: the mean network, the usual answer."""

# q weights and biases of a network, k patterns that a dataset has, n examples

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from actlab.formats.weights import Spec, WeightsDataset
from actlab.weights.compute.recorded import architecture_of
from actlab.weights.networks import Architecture, Layer, Weights
from actlab.weights.score.repair import flat

_Shape = tuple[tuple[tuple[int, int], ...], str]


class MeanWeights:
    """The mean of the train split's improved weights, by shape and activation."""

    def __init__(self, dataset: WeightsDataset, specs: Iterable[Spec]) -> None:
        self._train = {spec["example_id"]: architecture_of(spec) for spec in specs if spec["split"] == "train"}
        self._sums: dict[_Shape, np.ndarray] = {}
        self._counts: Counter[_Shape] = Counter()
        for example_ids in dataset.by_unit(self._train):
            stored = dataset.weights(example_ids)
            for example_id in example_ids:
                shape = _shape(self._train[example_id])
                row_q = flat(stored[example_id, "improved"])
                self._sums[shape] = self._sums[shape] + row_q if shape in self._sums else row_q
                self._counts[shape] += 1

    def without(self, example_id: int, architecture: Architecture, improved: Weights) -> Weights | None:
        """Return the mean for an example, its own weights left out of it; None where nothing is left."""
        shape = _shape(architecture)
        is_own = example_id in self._train
        n = self._counts[shape] - is_own
        if n == 0:
            return None
        return _unflat((self._sums[shape] - is_own * flat(improved)) / n, architecture)


class Majority(NamedTuple):
    """The usual answers in the train split."""

    whole: Bool[np.ndarray, " k"]
    """The most frequent pattern set; of equals, the one that comes first."""
    each: Bool[np.ndarray, " k"]
    """Every pattern that more than half of the networks have."""


def majority(patterns_nk: Bool[np.ndarray, "n k"]) -> Majority | None:
    """Return the usual answers; None where the train split is empty."""
    if not len(patterns_nk):
        return None
    (usual, _), *_ = Counter(map(tuple, patterns_nk.tolist())).most_common(1)
    return Majority(np.array(usual), patterns_nk.mean(axis=0) > 0.5)


def _shape(architecture: Architecture) -> _Shape:
    return architecture.sizes, architecture.activation_type


def _unflat(row_q: Float64[np.ndarray, " q"], architecture: Architecture) -> Weights:
    ends = np.cumsum([length for o, i in architecture.sizes for length in (o * i, o)])
    parts = iter(np.split(row_q.astype(np.float32), ends[:-1]))
    return tuple(Layer(next(parts).reshape(shape), next(parts)) for shape in architecture.sizes)
