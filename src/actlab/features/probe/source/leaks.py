"""Whether the test rows had a say in how a dataset was made, by what the dataset tells of itself."""

# n sample

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Shaped

from actlab.ground.errors import DataError


def judge(
    metadata: Mapping[str, object], fingerprint: str | None, straddling: int, *, allow_leak: bool
) -> tuple[bool | None, list[str]]:
    """Say whether the test rows are held out, None where that is not known, and what there is to note.

    `fingerprint` is that of the split in use, None for one drawn here; `straddling` counts the groups that have both
    training and test rows.

    Raises:
        DataError: They are not, and `allow_leak` is not given.
    """
    has_chosen = metadata.get("output_type") == "concept" and "input_features" in metadata
    chosen_on = str(metadata.get("features_chosen_on", "given")) if has_chosen else ""
    split = chosen_on.removeprefix("train:")
    leaks = []
    if chosen_on == "all":
        leaks.append("its features were chosen by a ranking on all rows, the test rows among them")
    elif split not in (chosen_on, fingerprint):
        used = "one drawn here" if fingerprint is None else f"the split {fingerprint}"
        leaks.append(f"its features were chosen on the split {split}, and this test is on {used}")
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
    notes = [f"not held out: {leak}" for leak in leaks]
    is_unknown = has_chosen and chosen_on == split != "all"
    if is_unknown:
        notes.append(
            "its features were chosen by hand or without record: whether on the test rows too is not known, "
            "so held_out is null"
        )
    notes += _normalised_on(metadata, fingerprint)
    return False if leaks else None if is_unknown else True, notes


def n_straddling(groups: Int[np.ndarray, " n"], sides: Shaped[np.ndarray, " n"]) -> int:
    """Return how many groups have both training and test rows."""
    return len(np.intersect1d(groups[sides == "train"], groups[sides == "test"]))


def _normalised_on(metadata: Mapping[str, object], fingerprint: str | None) -> list[str]:
    """Say whose statistics the features were normalised by, where those may be the test rows' too."""
    fitted_on = str(metadata.get("fit_norm", ""))
    if str(metadata.get("method", "none")) == "none":
        return []
    if fitted_on == "all":
        return ["a mild leak: its features were normalised by the statistics of all rows, test rows included"]
    if fitted_on.startswith("train") and fingerprint != metadata.get("split_fingerprint"):
        return ["a mild leak: its features were normalised on another split's training rows"]
    return [] if fitted_on else ["its features were normalised, and on which rows is not recorded"]
