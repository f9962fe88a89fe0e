"""Rows from a classifier dataset of generate-datasets."""

# n sample, f feature

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.leaks import judge, n_straddling
from actlab.features.probe.source.samples import RAW, Affine, Samples, group_numbers
from actlab.formats.classifier import ClassifierDataset, load_dataset
from actlab.formats.splits import SIDES, Splits, read_splits
from actlab.ground.errors import DataError
from actlab.ground.manifest import file_entry


def read_dataset(config: ProbeConfig) -> Samples:
    """Read a dataset, settle its sides where a split is given or in the file, and judge them.

    Raises:
        DataError: It cannot be read, has several targets, does not fit the split, or its test rows leaked.
    """
    assert config.input is not None
    path = Path(os.path.expanduser(config.input))
    data = load_dataset(path)
    if not data.X.size:
        raise DataError(f"{path} is empty: X is {list(data.X.shape)}", hint="see what generate-datasets dropped")
    splits = None if config.split is None else read_splits(config.split)
    groups = group_numbers(data.groups if splits is None else splits.groups(_sentences(data)))
    sides, fingerprint = _sides(data, splits)
    straddling = 0 if sides is None else n_straddling(groups, sides)
    standing = judge(data.metadata, fingerprint, straddling, allow_leak=config.allow_leak)
    scaled, space, scaling_notes = _scaling(data)
    inputs = [file_entry("dataset", path)]
    if config.split is not None:
        inputs.append(file_entry("split", Path(os.path.expanduser(config.split))))
    return Samples(
        name="probe",
        y=_target(data, path),
        groups=groups,
        layers=(),
        n_features=data.X.shape[1],
        read=lambda _: data.X.astype(np.float64),
        about=_about(data, inputs[0]),
        inputs=inputs,
        sides=sides,
        split_fingerprint=fingerprint,
        held_out=standing.held_out,
        notes=(*standing.notes, *_group_notes(data), *scaling_notes),
        scaled=scaled,
        space=space,
    )


def _about(data: ClassifierDataset, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset_path": entry["name"],
        "dataset_hash": entry["sha256"],
        "n_samples": len(data.X),
        "n_features": data.X.shape[1],
        "meta_strategy": data.metadata.get("strategy"),
    }


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
    found = data.metadata.get("split")
    if found is None:
        return None, None
    sides = np.asarray(found)
    if sides.shape != (len(data.X),) or not np.isin(sides, SIDES).all():
        raise DataError("the dataset's own split is not a side a row", hint="make the dataset anew, or give --split")
    fingerprint = data.metadata.get("split_fingerprint")
    return sides, None if fingerprint is None else str(fingerprint)


def _sentences(data: ClassifierDataset) -> Int[np.ndarray, " n"]:
    found = data.metadata.get("sentence_indices", data.metadata.get("groups"))
    sentences = np.asarray(found)
    if sentences.shape != (len(data.X),) or sentences.dtype.kind not in "iu":
        raise DataError(
            "the dataset does not say which sentence each row comes from, so --split cannot be applied",
            hint="make it anew with generate-datasets, or leave --split away",
        )
    return sentences


def _group_notes(data: ClassifierDataset) -> list[str]:
    recorded = data.metadata.get("groups", data.metadata.get("sentence_indices"))
    if recorded is not None and np.shape(recorded) == (len(data.X),):
        return []
    return ["the dataset does not say which rows belong together: each was taken for its own group"]


def _scaling(data: ClassifierDataset) -> tuple[Affine | None, str, list[str]]:
    """Return the normalisation to undo, what the weights then apply to, and what there is to say."""
    method = str(data.metadata.get("method", "none"))
    if method == "none":
        return None, RAW, []
    stored = _affine(method, data)
    if stored is not None:
        return stored, RAW, []
    note = f"the weights apply to X as it is in the dataset: its {method} normalisation cannot be undone"
    return None, "the dataset's normalised X", [note]


def _affine(method: str, data: ClassifierDataset) -> Affine | None:
    names = {"standardize": ("mean", "std"), "minmax": ("min", "range")}.get(method)
    values: dict[str, Float[np.ndarray, " f"]] = {
        name: np.asarray(data.metadata[name], dtype=np.float64)
        for name in ("mean", "std", "min", "max", "range")
        if name in data.metadata
    }
    if {"min", "max"} <= set(values) and values["min"].shape == values["max"].shape:
        values.setdefault("range", values["max"] - values["min"])
    if names is None or not set(names) <= set(values):
        return None
    offset, scale = (values[name] for name in names)
    if offset.shape != scale.shape or offset.shape != (data.X.shape[1],):
        return None
    return Affine(offset, np.where(scale == 0, 1.0, scale))
