"""Write a dataset, with all that a reader has to know to trust it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from actlab.features.datasets.config import DatasetConfig
from actlab.features.datasets.contents import Contents
from actlab.features.datasets.source import Bank
from actlab.formats.classifier import load_dataset, read_manifest_of, save_dataset
from actlab.formats.sentences.folder import INPUTS_CHECKED
from actlab.ground.errors import DataError
from actlab.ground.storage import OneFile, Plan, made_otherwise

KIND = "classifier-dataset"


def metadata_of(
    contents: Contents,
    config: DatasetConfig,
    bank: Bank,
    X: Shaped[np.ndarray, "n f"],
    y: Shaped[np.ndarray, "n ..."],
) -> dict[str, object]:
    """Return the `meta_*` of a dataset, without its normalisation and its split."""
    layers = list(dict.fromkeys(contents.input_layers))
    return {
        "strategy": contents.strategy.name,
        "input_source": contents.strategy.input_source,
        "input_layers": np.array(layers, dtype=np.int64),
        "input_layer": layers[0] if len(layers) == 1 else None,
        "input_dims": X.shape[1],
        "n_samples": len(X),
        "sentence_indices": bank.sentence_indices,
        "row_indices": bank.row_indices if config.rows != "final" else None,
        "rows": config.rows,
        "groups": bank.sentence_indices if config.groups else None,
        "text_groups": bank.text_groups,
        "n_tokens": bank.n_tokens,
        "last_token": None if bank.last_tokens is None else np.array(bank.last_tokens, dtype=np.str_),
        "output_type": "concept" if contents.strategy.is_concept else "feature",
        "normalization": config.normalize,
        "n_classes": len(np.unique(y)) if y.dtype.kind == "i" else None,
        "features_chosen_on": contents.chosen_on,
        **(_of_features(contents) if contents.features else {}),
        INPUTS_CHECKED: bank.is_checked,
    }


def _of_features(contents: Contents) -> dict[str, object]:
    _, layers, l0s, features = map(list, zip(*contents.features, strict=True))
    if contents.strategy.is_concept:
        average_l0 = l0s if len(l0s) > 1 else l0s[0]
        return {"input_features": features, "input_feature_layers": layers, "average_l0": average_l0}
    feature = features if len(features) > 1 else features[0]
    return {"target_layer": _same(layers), "target_feature": feature, "average_l0": _same(l0s)}


def _same(values: Sequence[int]) -> int | Sequence[int]:
    """Return the value that all have, or all where they differ."""
    return values[0] if len(set(values)) == 1 else values


def is_there(output: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether the dataset is there already, made with the same settings from the same inputs.

    One that may be overwritten has to be whole too: it is read for that.

    Raises:
        StorageError: Something else is there, and it may not be overwritten.
    """
    file = OneFile(
        path=output,
        overwrite=overwrite,
        is_own=lambda path: read_manifest_of(path) is not None,
        foreign="was not made by actlab generate-datasets",
        example="--output generated_datasets/NAME.npz",
    )
    file.refuse_foreign()
    manifest = read_manifest_of(output) or {}
    return file.is_there(
        lambda: manifest.get("fingerprint") == plan.fingerprint and (not overwrite or _is_whole(output)),
        lambda: made_otherwise(manifest, plan),
    )


def _is_whole(path: Path) -> bool:
    """Whether a dataset can be read, which compares its checksums."""
    try:
        load_dataset(path)
    except DataError:
        return False
    return True


def write_dataset(
    output: Path,
    X: Shaped[np.ndarray, "n f"],
    y: Shaped[np.ndarray, "n ..."],
    metadata: Mapping[str, object],
    plan: Plan,
    bank: Bank,
) -> None:
    """Write the dataset and its manifest as one file, which appears whole."""
    manifest = {
        **plan.described(),
        "fingerprint": plan.fingerprint,
        "dropped": {one.name: one.reason for one in bank.lost},
    }
    own = {"n_dropped": len(bank.lost), "manifest": json.dumps(manifest, ensure_ascii=False)}
    save_dataset(X, y, {**metadata, **own}, output)
