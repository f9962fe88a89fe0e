"""What the probes of all layers have in common: which rows they are fitted and tested on, in which folds."""

# n sample

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from actlab.features.probe.compute.estimators import PROBE_TYPES
from actlab.features.probe.compute.scores import CLASSES, Target
from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.samples import Samples
from actlab.features.split.compute.sides import classes_of, divide, shuffled_order
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
    """A name in `PROBE_TYPES`."""
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
    def target(self) -> Target:
        """What is predicted."""
        return PROBE_TYPES[self.model_type].target

    def classes(self, *rows: Int[np.ndarray, " i"]) -> Int[np.ndarray, " k"]:
        """Return the classes among some rows, ascending; none where the target is a number."""
        return np.unique(self.y[np.concatenate(rows) if self.target is CLASSES else []])


def make_task(samples: Samples, config: ProbeConfig) -> Task:
    """Settle the kind of probe, the rows to fit and to test on, and the folds.

    Raises:
        DataError: The target does not suit the probe, or there are too few rows, groups or classes.
    """
    model_type = config.model_type
    if model_type == "auto":
        model_type = "logistic" if samples.y.dtype.kind in "iu" else "ridge"
    y = _target_of(samples.y, model_type)
    if samples.sides is None:
        test = _drawn_test_rows(y, samples.groups, config)
        train = np.setdiff1d(np.arange(len(y)), test)
    else:
        train, test = np.flatnonzero(samples.sides == "train"), np.flatnonzero(samples.sides == "test")
    _check_sides(y[train], y[test])
    n_unused = len(y) - len(train) - len(test)
    notes = [f"{n_unused} validation rows were not used"] if n_unused else []
    if len(train) < samples.n_features:
        notes.append(f"{len(train)} rows to fit {samples.n_features} features on: the training scores mean little")
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
        notes=tuple(notes),
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


def _target_of(y: Shaped[np.ndarray, " n"], model_type: str) -> Shaped[np.ndarray, " n"]:
    """Return what a type of probe is to predict, as int64 or float64."""
    probe = PROBE_TYPES[model_type]
    if probe.target is CLASSES and y.dtype.kind not in "iu":
        raise DataError(
            f"--model-type {model_type} needs classes, and y holds {y.dtype}", hint="use --model-type ridge"
        )
    values = np.unique(y)
    if len(values) < 2:
        raise DataError(f"every y is {values[0]}: there is nothing to tell apart", hint="give rows of two classes")
    if len(values) > probe.most_classes:
        raise DataError(
            f"{model_type} tells two classes apart, and y has {len(values)}",
            hint="use --model-type logistic, or keep two classes",
        )
    return y.astype(np.int64 if probe.target is CLASSES else np.float64)


def _check_sides(y_train: Shaped[np.ndarray, " i"], y_test: Shaped[np.ndarray, " j"]) -> None:
    if not len(y_test) or not len(y_train):
        side = "to test on" if not len(y_test) else "to fit on"
        raise DataError(f"the split leaves no rows {side}", hint="make another: actlab split, or omit --split")
    if len(np.unique(y_train)) < 2:
        what = "one class" if y_train.dtype.kind == "i" else "one value"
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
    if y.dtype.kind == "i" and np.unique(y, return_counts=True)[1].max() < 2:
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
    if y.dtype.kind == "i" and int(np.unique(y[train], return_counts=True)[1].max()) < config.folds:
        raise DataError(f"no class has {config.folds} rows, one for each fold", hint="give fewer --folds")
    shares = [1 / config.folds] * config.folds
    fold_of = _divided(y[train], groups[train], shares, derive_seed(config.seed, "folds"))
    return tuple(Fold(train[fold_of != fold], train[fold_of == fold]) for fold in range(config.folds))


def _divided(
    y: Shaped[np.ndarray, " n"], groups: Int[np.ndarray, " n"], shares: Sequence[float], seed: int
) -> Int[np.ndarray, " n"]:
    """Return each row's part, by the division that `actlab split` makes."""
    class_n = np.unique(y, return_inverse=True)[1] if y.dtype.kind == "i" else classes_of(y.tolist(), len(y))
    return divide(class_n, np.unique(groups, return_inverse=True)[1], shares, seed)
