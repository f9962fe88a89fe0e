"""Feature rankings: `ranked_features.csv`, the features that follow a label, best first.

`docs/formats.md` is the normative page.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from actlab.ground.errors import DataError
from actlab.ground.integrity import open_sealed
from actlab.ground.limits import LONG_LINE, lines_of, needed_file
from actlab.ground.options import as_path

KIND = "feature-ranking"
CSV_NAME = "ranked_features.csv"
EXAMPLES_NAME = "feature_examples.json"
DOCUMENT_LABELS = (0.0, 1.0, 2.0, 3.0)
"""Their means have a column in every ranking."""
DOCUMENT_COLUMNS = (
    "rank",
    "layer",
    "average_l0",
    "feature_id",
    "neuronpedia_url",
    "interpretability_score",
    "pearson_corr",
    "spearman_corr",
    "separation_score",
    "tpr",
    "fpr",
    "mean_label_0",
    "mean_label_1",
    "mean_label_2",
    "mean_label_3",
    "monotonic",
)
OWN_COLUMNS = ("auroc", "cohens_d", "p_value", "q_value", "n_active", "p_permutation", "ranked_on")
"""To the right of the document's; `p_permutation` only where labels were permuted."""
FALSE_DISCOVERY_RATE = 0.05
"""A listed feature with a q-value up to this passes it."""
_MEAN = "mean_label_"
_REQUIRED = ("rank", "layer", "feature_id")
_HINT = "give a ranked_features.csv that actlab rank-features wrote, or its folder"


@dataclass(frozen=True, kw_only=True)
class RankedFeature:
    """One row of a ranking. What a file does not say is None."""

    rank: int
    """From 1."""
    layer: int
    average_l0: int | None
    feature_id: int
    neuronpedia_url: str = ""
    interpretability_score: float | None = None
    pearson_corr: float | None = None
    spearman_corr: float | None = None
    separation_score: float | None = None
    tpr: float | None = None
    fpr: float | None = None
    means: Mapping[float, float] = field(default_factory=dict)
    """The mean activation by label, labels ascending."""
    monotonic: bool | None = None
    """Whether the mean never decreases from one label to the next."""
    auroc: float | None = None
    cohens_d: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    n_active: int | None = None
    """Rows in which the feature is not zero."""
    p_permutation: float | None = None
    ranked_on: str | None = None
    """"all", or "train:" and the fingerprint of the split whose training sentences were ranked on."""

    def as_json(self) -> dict[str, object]:
        """Return all of it by name, as JSON can hold it: labels as text, no infinite numbers."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }
        return finite | {"means": {f"{label:g}": mean for label, mean in self.means.items()}}


class Discoveries(NamedTuple):
    """How many listed features are more than chance lists."""

    n_listed: int
    n_passing: int
    """Those with a q-value up to `FALSE_DISCOVERY_RATE`."""
    smallest_q: float | None
    """Of the listed features; None where none is listed, or a file has no q-values."""

    @property
    def warning(self) -> str | None:
        """What to say where nothing passes."""
        if self.smallest_q is None or self.n_passing:
            return None
        return (
            f"none of the {self.n_listed} listed features passes a false discovery rate of {FALSE_DISCOVERY_RATE:.0%}: "
            f"the smallest q is {self.smallest_q:.2g}, so chance may have listed them all"
        )


def discoveries(features: Sequence[RankedFeature]) -> Discoveries:
    """Count the features that pass the false discovery rate by their q-values (Benjamini and Hochberg, 1995)."""
    q_values = [one.q_value for one in features if one.q_value is not None]
    n_passing = sum(q_value <= FALSE_DISCOVERY_RATE for q_value in q_values)
    return Discoveries(len(features), n_passing, min(q_values, default=None))


def mean_column(label: float) -> str:
    """Return the name of the column with a label's mean activation.

    >>> mean_column(3.0), mean_column(0.5)
    ('mean_label_3', 'mean_label_0.5')
    """
    return _MEAN + (str(int(label)) if float(label).is_integer() else repr(float(label)))


def ranking_columns(labels: Sequence[float], *, permuted: bool) -> list[str]:
    """Return a ranking's columns: the document's, ours, then the means of labels that the document lacks."""
    own = [name for name in OWN_COLUMNS if permuted or name != "p_permutation"]
    return [*DOCUMENT_COLUMNS, *own, *(mean_column(one) for one in sorted(labels) if one not in DOCUMENT_LABELS)]


def ranking_bytes(features: Sequence[RankedFeature], labels: Sequence[float], *, permuted: bool) -> bytes:
    """Return the bytes of `ranked_features.csv`, UTF-8, numbers to eight digits."""
    columns = ranking_columns(labels, permuted=permuted)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for feature in features:
        means = {mean_column(label): mean for label, mean in feature.means.items()}
        cells = {**vars(feature), **{name: means.get(name) for name in columns if name.startswith(_MEAN)}}
        writer.writerow([_cell(cells[name]) for name in columns])
    return text.getvalue().encode()


def read_ranking(path: str | Path) -> list[RankedFeature]:
    """Read a ranking, by its file or its folder: actlab's, or one that has the document's columns alone.

    Raises:
        DataError: It is none, or a cell is not what its column holds.
        StorageError: It is not as it was sealed.
    """
    given: Path = as_path(path)
    file = given / CSV_NAME if given.is_dir() else given
    path = needed_file(file, "there is no ranking", hint="make one: actlab rank-features --help")
    try:
        with io.TextIOWrapper(open_sealed(path), encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(map(_whole, lines_of(text)))
            if missing := [name for name in _REQUIRED if name not in (reader.fieldnames or [])]:
                raise DataError(f"{path} has no column {missing[0]!r}", hint=_HINT)
            return [_read_row(path, number, row) for number, row in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", hint=_HINT) from error


def _whole(line: str | None) -> str:
    if line is None:
        raise csv.Error(LONG_LINE)
    return line


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return format(value, ".8g") if isinstance(value, float) else str(value)


def _read_row(path: Path, number: int, row: Mapping[str, str | None]) -> RankedFeature:
    def number_in(name: str) -> float | None:
        text = (row.get(name) or "").strip()
        try:
            return float(text) if text else None
        except ValueError:
            raise DataError(f"{path}, line {number}: {name} is {text!r}, no number", hint=_HINT) from None

    def whole(name: str) -> int | None:
        value = number_in(name)
        if value is not None and (not value.is_integer() or value < 0):
            raise DataError(f"{path}, line {number}: {name} is {value:g}", hint=_HINT)
        return None if value is None else int(value)

    def needed(name: str) -> int:
        value = whole(name)
        if value is None:
            raise DataError(f"{path}, line {number}: {name} is empty", hint=_HINT)
        return value

    means = {float(name.removeprefix(_MEAN)): number_in(name) for name in row if _is_mean(name)}
    return RankedFeature(
        rank=needed("rank"),
        layer=needed("layer"),
        average_l0=whole("average_l0"),
        feature_id=needed("feature_id"),
        neuronpedia_url=row.get("neuronpedia_url") or "",
        interpretability_score=number_in("interpretability_score"),
        pearson_corr=number_in("pearson_corr"),
        spearman_corr=number_in("spearman_corr"),
        separation_score=number_in("separation_score"),
        tpr=number_in("tpr"),
        fpr=number_in("fpr"),
        means={label: mean for label, mean in sorted(means.items()) if mean is not None},
        monotonic={"true": True, "false": False}.get((row.get("monotonic") or "").strip().lower()),
        auroc=number_in("auroc"),
        cohens_d=number_in("cohens_d"),
        p_value=number_in("p_value"),
        q_value=number_in("q_value"),
        n_active=whole("n_active"),
        p_permutation=number_in("p_permutation"),
        ranked_on=row.get("ranked_on") or None,
    )


def _is_mean(name: str | None) -> bool:
    if name is None or not name.startswith(_MEAN):
        return False
    try:
        return math.isfinite(float(name.removeprefix(_MEAN)))
    except ValueError:
        return False
