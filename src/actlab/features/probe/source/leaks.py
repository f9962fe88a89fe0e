"""Whether the test rows had a say in how a dataset was made, by what the dataset tells of itself."""

# n sample

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from actlab.ground.errors import DataError


class Standing(NamedTuple):
    """What a test on these rows is worth."""

    held_out: bool | None
    """None where it is not known which rows chose the features."""
    notes: tuple[str, ...]


def judge(metadata: Mapping[str, Any], fingerprint: str | None, straddling: int, *, allow_leak: bool) -> Standing:
    """Say whether the test rows are held out, given the fingerprint of the split in use (None: drawn here).

    `straddling` counts the groups that have both training and test rows.

    Raises:
        DataError: They are not, and `allow_leak` is not given.
    """
    leaks = _choice_leaks(metadata, fingerprint)
    way_out = "rank, generate and train with one --split (actlab split)"
    if straddling:
        way_out = way_out if leaks else "draw the split from this dataset: actlab split --input DATASET"
        what = "of one sentence or prompt, of near-equal texts, or equal"
        leaks.append(f"the split goes through the middle of groups of rows ({straddling} of them: {what})")
    if leaks and not allow_leak:
        raise DataError(
            f"the test rows are not held out: {leaks[0]}",
            hint=f"{way_out}; or give --allow-leak to go on",
        )
    notes = [f"not held out: {leak}" for leak in leaks] + _mild_notes(metadata, fingerprint)
    unknown = _has_chosen_features(metadata) and _chosen_on(metadata) is None
    return Standing(False if leaks else None if unknown else True, tuple(notes))


def n_straddling(groups: Int[np.ndarray, " n"], sides: Shaped[np.ndarray, " n"]) -> int:
    """Return how many groups have both training and test rows."""
    return len(np.intersect1d(groups[sides == "train"], groups[sides == "test"]))


def _choice_leaks(metadata: Mapping[str, Any], fingerprint: str | None) -> list[str]:
    if not _has_chosen_features(metadata):
        return []
    chosen_on = _chosen_on(metadata)
    if chosen_on == "all":
        return ["its features were chosen by a ranking on all rows, the test rows among them"]
    if chosen_on is not None and chosen_on.removeprefix("train:") != fingerprint:
        used = "one drawn here" if fingerprint is None else f"the split {fingerprint}"
        return [f"its features were chosen on the split {chosen_on.removeprefix('train:')}, and this test is on {used}"]
    return []


def _mild_notes(metadata: Mapping[str, Any], fingerprint: str | None) -> list[str]:
    notes = []
    if _has_chosen_features(metadata) and _chosen_on(metadata) is None:
        notes.append(
            "its features were chosen by hand or without record: whether on the test rows too is not known, "
            "so held_out is null"
        )
    if _is_normalised(metadata):
        fitted_on = str(metadata.get("fit_norm", ""))
        if fitted_on == "all":
            notes.append("a mild leak: its features were normalised by the statistics of all rows, test rows included")
        elif fitted_on.startswith("train") and fingerprint != metadata.get("split_fingerprint"):
            notes.append("a mild leak: its features were normalised on another split's training rows")
        elif not fitted_on:
            notes.append("its features were normalised, and on which rows is not recorded")
    return notes


def _chosen_on(metadata: Mapping[str, Any]) -> str | None:
    """Return the rows that chose the features, "all" or "train:<split>"; None where that is not known."""
    found = str(metadata.get("features_chosen_on", "given"))
    return found if found == "all" or found.startswith("train:") else None


def _has_chosen_features(metadata: Mapping[str, Any]) -> bool:
    return metadata.get("strategy") == "feature-to-concept"


def _is_normalised(metadata: Mapping[str, Any]) -> bool:
    return str(metadata.get("method", "none")) != "none"
