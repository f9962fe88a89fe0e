"""What the probes of all layers have in common: which rows they are fitted and tested on, in which folds."""

# n sample

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.samples import Samples
from actlab.features.split.compute.order import shuffled_order
from actlab.features.split.compute.sides import classes_of, divide
from actlab.ground.errors import DataError
from actlab.ground.seeds import derive_seed

_SHUFFLES = 5


class Fold(NamedTuple):
    """Row numbers of one fold of the cross-validation."""

    train: Int[np.ndarray, " i"]
    test: Int[np.ndarray, " j"]


@dataclass(frozen=True)
class Task:
    """One target, one division of its rows, one kind of probe."""

    model_type: str
    """logistic, ridge or difference-of-means."""
    y: Shaped[np.ndarray, " n"]
    """int64 classes, or a float64 target."""
    groups: Int[np.ndarray, " n"]
    train: Int[np.ndarray, " i"]
    """Row numbers, ascending."""
    test: Int[np.ndarray, " j"]
    folds: tuple[Fold, ...]
    """Inside the training rows."""
    shuffled: tuple[Shaped[np.ndarray, " i"], ...]
    """The training labels permuted, several times: one draw says little of what chance can reach."""
    regularization: float
    notes: tuple[str, ...]

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class."""
        return self.model_type != "ridge"

    @property
    def classes(self) -> Int[np.ndarray, " k"]:
        """The classes among the rows in use, ascending."""
        return np.unique(self.y[np.concatenate([self.train, self.test])])


def make_task(samples: Samples, config: ProbeConfig) -> Task:
    """Settle the kind of probe, the rows to fit and to test on, and the folds.

    Raises:
        DataError: The target does not suit the probe, or there are too few rows, groups or classes.
    """
    model_type = _model_type(samples.y, config.model_type)
    y = samples.y.astype(np.float64 if model_type == "ridge" else np.int64)
    _check_target(y, model_type)
    if samples.sides is None:
        test = _drawn_test_rows(y, samples.groups, config)
        train = np.setdiff1d(np.arange(len(y)), test)
    else:
        train, test = np.flatnonzero(samples.sides == "train"), np.flatnonzero(samples.sides == "test")
    _check_sides(y, train, test, model_type)
    return Task(
        model_type=model_type,
        y=y,
        groups=samples.groups,
        train=train,
        test=test,
        folds=_folds(y, samples.groups, train, config),
        shuffled=tuple(
            shuffled(y[train], samples.groups[train], derive_seed(config.seed, "shuffled labels", draw))
            for draw in range(_SHUFFLES)
        ),
        regularization=config.regularization,
        notes=_notes(samples, train, test),
    )


def shuffled(y: Shaped[np.ndarray, " n"], groups: Int[np.ndarray, " n"], seed: int) -> Shaped[np.ndarray, " n"]:
    """Permute labels: a whole group at a time where each has one label only, row by row otherwise.

    >>> labels = shuffled(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), seed=1)
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """
    _, first, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    if (y[first][group_of_row] == y).all():
        return np.asarray(y[first][shuffled_order(len(first), seed)][group_of_row])
    return np.asarray(y[shuffled_order(len(y), seed)])


def _model_type(y: Shaped[np.ndarray, " n"], asked: str) -> str:
    are_classes = y.dtype.kind in "iu"
    if asked == "auto":
        return "logistic" if are_classes else "ridge"
    if asked != "ridge" and not are_classes:
        raise DataError(f"--model-type {asked} needs classes, and y holds {y.dtype}", hint="use --model-type ridge")
    return asked


def _check_target(y: Shaped[np.ndarray, " n"], model_type: str) -> None:
    values = np.unique(y)
    if len(values) < 2:
        raise DataError(f"every y is {values[0]}: there is nothing to tell apart", hint="give rows of two classes")
    if model_type == "difference-of-means" and len(values) != 2:
        raise DataError(
            f"difference-of-means tells two classes apart, and y has {len(values)}",
            hint="use --model-type logistic, or keep two classes",
        )


def _check_sides(
    y: Shaped[np.ndarray, " n"], train: Int[np.ndarray, " i"], test: Int[np.ndarray, " j"], model_type: str
) -> None:
    if not len(test) or not len(train):
        side = "to test on" if not len(test) else "to fit on"
        raise DataError(f"the split leaves no rows {side}", hint="make another: actlab split, or omit --split")
    if len(np.unique(y[train])) < 2:
        what = "one class" if model_type != "ridge" else "one value"
        raise DataError(f"the training rows have only {what}", hint="give more rows, or another --split or --seed")


def _drawn_test_rows(
    y: Shaped[np.ndarray, " n"], groups: Int[np.ndarray, " n"], config: ProbeConfig
) -> Int[np.ndarray, " j"]:
    """Draw whole groups to test on, with each class's share, or each tenth's of the target."""
    n_groups = len(np.unique(groups))
    if n_groups <= config.folds:
        raise DataError(
            f"{n_groups} groups are too few for a test set and {config.folds} folds",
            hint="give more rows, or fewer --folds; rows of one sentence or prompt, or equal ones, are one group",
        )
    if y.dtype.kind in "iu" and np.unique(y, return_counts=True)[1].max() < 2:
        raise DataError(f"{len(y)} rows are too few to hold some out", hint="give more rows")
    shares = (1 - config.test_size, config.test_size)
    return np.flatnonzero(_divided(y, groups, shares, derive_seed(config.seed, "test rows")) == 1)


def _folds(
    y: Shaped[np.ndarray, " n"], groups: Int[np.ndarray, " n"], train: Int[np.ndarray, " i"], config: ProbeConfig
) -> tuple[Fold, ...]:
    """Divide the training rows into folds: whole groups, each class's share in each."""
    n_groups = len(np.unique(groups[train]))
    if n_groups < config.folds:
        raise DataError(f"{n_groups} groups to fit on are too few for {config.folds} folds", hint="give fewer --folds")
    if y.dtype.kind in "iu" and int(np.unique(y[train], return_counts=True)[1].max()) < config.folds:
        raise DataError(f"no class has {config.folds} rows, one for each fold", hint="give fewer --folds")
    shares = [1 / config.folds] * config.folds
    fold_of = _divided(y[train], groups[train], shares, derive_seed(config.seed, "folds"))
    return tuple(Fold(train[fold_of != fold], train[fold_of == fold]) for fold in range(config.folds))


def _divided(
    y: Shaped[np.ndarray, " n"], groups: Int[np.ndarray, " n"], shares: Sequence[float], seed: int
) -> Int[np.ndarray, " n"]:
    """Return each row's part, by the division that `actlab split` makes."""
    class_n = np.unique(y, return_inverse=True)[1] if y.dtype.kind in "iu" else classes_of(y.tolist(), len(y))
    return divide(class_n, np.unique(groups, return_inverse=True)[1], shares, seed)


def _notes(samples: Samples, train: Int[np.ndarray, " i"], test: Int[np.ndarray, " j"]) -> tuple[str, ...]:
    notes = []
    n_unused = len(samples.y) - len(train) - len(test)
    if n_unused:
        notes.append(f"{n_unused} validation rows were not used")
    if len(train) < samples.n_features:
        notes.append(f"{len(train)} rows to fit {samples.n_features} features on: the training scores mean little")
    return tuple(notes)
