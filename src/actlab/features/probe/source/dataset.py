"""Rows from a classifier dataset of generate-datasets, or from several of the same rows."""

# n sample, f feature

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.samples import RAW, Affine, Samples, group_numbers
from actlab.formats.classifier import ClassifierDataset, load_dataset
from actlab.formats.groups import joined
from actlab.formats.splits import SIDES, Splits, read_splits
from actlab.ground.errors import DataError
from actlab.ground.manifest import InputEntry, file_entry


class _Loaded(NamedTuple):
    """A dataset, its X left on disk."""

    path: Path
    data: ClassifierDataset
    """Without X's numbers, which are zeros that take no memory."""
    together: Int[np.ndarray, " n"]
    entry: InputEntry


def read_datasets(config: ProbeConfig) -> tuple[Samples, ...]:
    """Read the datasets, settle their sides where a split is given or in the files, and judge them.

    Of several, which a sweep made from the same rows, all have the same groups: rows are together that any has.

    Raises:
        DataError: One cannot be read, has several targets or other rows, does not fit the split, or its test rows
            leaked.
    """
    loaded = [_load(path) for path in config.input]
    for other in loaded[1:]:
        _check_same_rows(loaded[0], other)
    splits = None if config.split is None else read_splits(config.split)
    of_split = [] if splits is None else [splits.groups(_sentences(loaded[0].data))]
    groups = joined(*(one.together for one in loaded), *of_split)
    return tuple(_samples(one, groups, splits, config) for one in loaded)


def _load(path: Path) -> _Loaded:
    data = load_dataset(path)
    if not data.X.size:
        raise DataError(f"{path} is empty: X is {list(data.X.shape)}", hint="see what generate-datasets dropped")
    return _Loaded(
        path=path,
        data=data._replace(X=np.broadcast_to(np.float32(0), data.X.shape)),
        together=data.together,
        entry=file_entry("dataset", path),
    )


def _check_same_rows(first: _Loaded, other: _Loaded) -> None:
    pairs = (
        (first.data.y, other.data.y, "targets"),
        (first.data.sentence_indices, other.data.sentence_indices, "sentences"),
        (first.data.metadata.get("split", 0), other.data.metadata.get("split", 0), "sides of a split"),
    )
    for here, there, what in pairs:
        if not np.array_equal(here, there):
            raise DataError(
                f"{other.path} has other {what} than {first.path}: they cannot be compared",
                hint="of several --input one is chosen: give datasets of the same rows, as actlab sweep-datasets makes",
            )


def _samples(one: _Loaded, groups: Int[np.ndarray, " n"], splits: Splits | None, config: ProbeConfig) -> Samples:
    data = one.data
    sides, fingerprint = _sides(data, splits)
    straddling = 0 if sides is None else len(np.intersect1d(groups[sides == "train"], groups[sides == "test"]))
    held_out, leaks = judge(data.metadata, fingerprint, straddling, allow_leak=config.allow_leak)
    confounds, scaled = _confounds(data), _scaling(data)
    layers = np.asarray(data.metadata.get("input_layers", ()))
    method = str(data.metadata.get("method", "none"))
    is_raw = method == "none" or scaled is not None
    scaling_note = f"the weights apply to X as it is in the dataset: its {method} normalisation cannot be undone"
    return Samples(
        name="probe",
        y=_target(data, one.path),
        groups=groups,
        layers=(),
        n_features=data.X.shape[1],
        read=lambda _: load_dataset(one.path).X.astype(np.float64),
        about={
            "dataset_path": one.entry["name"],
            "dataset_hash": one.entry["sha256"],
            "n_samples": len(data.y),
            "n_features": data.X.shape[1],
            "meta_strategy": data.metadata.get("strategy"),
        },
        inputs=[one.entry, *(file_entry("split", path) for path in (config.split,) if path is not None)],
        sides=sides,
        split_fingerprint=fingerprint,
        held_out=held_out,
        notes=(*leaks, *_unsaid(data, confounds), *(() if is_raw else (scaling_note,))),
        scaled=scaled,
        space=RAW if is_raw else "the dataset's normalised X",
        confounds=confounds,
        input_layers=tuple(layers.reshape(-1).tolist()) if layers.dtype.kind in "iu" else (),
    )


def _confounds(data: ClassifierDataset) -> dict[str, Int[np.ndarray, " n"]]:
    """Return each row's length and last token, the token as a number, where the dataset says them."""
    n_tokens, last_token = data.of_rows("n_tokens"), data.of_rows("last_token")
    return {
        **({"n_tokens": n_tokens} if n_tokens is not None and n_tokens.dtype.kind in "iu" else {}),
        **({"last_token": group_numbers(last_token)} if last_token is not None else {}),
    }


def _unsaid(data: ClassifierDataset, confounds: Mapping[str, object]) -> Iterator[str]:
    """Say what cannot be checked because the dataset does not tell it."""
    if data.of_rows("groups") is None and data.of_rows("sentence_indices") is None:
        yield "the dataset does not say which sentence each row comes from: each was taken for a sentence of its own"
    named = {"n_tokens": "length", "last_token": "last token"}
    lacking = " and ".join(name for key, name in named.items() if key not in confounds)
    if lacking:
        yield (
            f"the dataset does not say each row's {lacking}: "
            "whether that alone does as well as the probe was not checked"
        )
    has_texts = data.of_rows("text_groups") is not None
    if not has_texts:
        yield "the dataset does not say which texts are nearly equal: rows of such texts may be on both sides"
    if (lacking or not has_texts) and "manifest" in data.metadata:
        yield "an earlier actlab made the dataset: remove it and run generate-datasets again to add it"


def _target(data: ClassifierDataset, path: Path) -> Shaped[np.ndarray, " n"]:
    if data.y.ndim == 2 and data.y.shape[1] != 1:
        raise DataError(
            f"{path} has {data.y.shape[1]} targets, and a probe has one",
            hint="make one dataset a target: give generate-datasets one target feature",
        )
    return data.y.reshape(-1)


def _sides(data: ClassifierDataset, splits: Splits | None) -> tuple[Shaped[np.ndarray, " n"] | None, str | None]:
    """Return each row's side and the fingerprint of the split that settled it: `--split`'s, or the file's own."""
    if splits is not None:
        return splits.sides(_sentences(data)), splits.fingerprint
    sides, fingerprint = data.of_rows("split"), data.metadata.get("split_fingerprint")
    if sides is None:
        return None, None
    if not np.isin(sides, SIDES).all():
        raise DataError("the dataset's own split is not a side a row", hint="make the dataset anew, or give --split")
    return sides, None if fingerprint is None else str(fingerprint)


def _sentences(data: ClassifierDataset) -> Int[np.ndarray, " n"]:
    sentences = data.of_rows("sentence_indices" if "sentence_indices" in data.metadata else "groups")
    if sentences is None or sentences.dtype.kind not in "iu":
        raise DataError(
            "the dataset does not say which sentence each row comes from, so --split cannot be applied",
            hint="make it anew with generate-datasets, or omit --split",
        )
    return sentences


def _scaling(data: ClassifierDataset) -> Affine | None:
    """Return the normalisation to undo; None where there is none, or the dataset does not hold it whole."""
    stored: dict[str, Float[np.ndarray, " f"]] = {
        name: np.asarray(data.metadata[name], dtype=np.float64)
        for name in ("mean", "std", "min", "max", "range")
        if name in data.metadata
    }
    if {"min", "max"} <= set(stored) and stored["min"].shape == stored["max"].shape:
        stored.setdefault("range", stored["max"] - stored["min"])
    names = {"standardize": ("mean", "std"), "minmax": ("min", "range")}.get(str(data.metadata.get("method")), ())
    found = [stored[name] for name in names if name in stored]
    if [one.shape for one in found] != [data.X.shape[1:]] * 2:
        return None
    return Affine(found[0], np.where(found[1] == 0, 1.0, found[1]))


def judge(
    metadata: Mapping[str, object], fingerprint: str | None, straddling: int, *, allow_leak: bool
) -> tuple[bool | None, list[str]]:
    """Say whether the test rows are held out, None where that is not known, and what there is to note.

    `fingerprint` is that of the split in use, None for one drawn here; `straddling` counts the groups that have both
    training and test rows.

    Raises:
        DataError: They are not, and `allow_leak` is not given.
    """
    has_chosen = "input_features" in metadata or metadata.get("strategy") == "feature-to-concept"
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
