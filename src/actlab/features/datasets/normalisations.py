"""Normalisations: how each column of X is scaled."""

from dataclasses import dataclass

from actlab.ground.variants import Table, Variant


@dataclass(frozen=True, kw_only=True)
class Normalisation(Variant):
    """A way to scale columns."""

    fits: str | None = None
    """Of the function that fits it to columns, "module:function"; None where they stay as they are."""
    keys: tuple[str, ...] = ()
    """What a dataset keeps of each column as norm_*, last what it was divided by."""


NORMALISATIONS = Table(
    "normalisation",
    Normalisation(
        name="standardize",
        help="its mean is taken off and it is divided by its standard deviation",
        hint="a column that does not vary becomes 0: is it one that you need?",
        fits="actlab.features.datasets.compute:fit_standard",
        keys=("mean", "std"),
    ),
    Normalisation(
        name="minmax",
        help="its smallest value becomes 0, its largest 1",
        hint="a column that does not vary becomes 0: is it one that you need?",
        fits="actlab.features.datasets.compute:fit_minmax",
        keys=("min", "max", "range"),
    ),
    Normalisation(name="none", help="it stays as it is", hint="scale it yourself, on the rows that you train on"),
    is_open=False,
)
