"""Write a dataset, with all that a reader has to know to trust it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from actlab.features.datasets.recipe import Recipe
from actlab.features.datasets.source import Bank
from actlab.formats.classifier import load_dataset, read_manifest_of, save_dataset
from actlab.ground.errors import DataError
from actlab.ground.storage import OneFile, Plan, made_otherwise

KIND = "classifier-dataset"


def metadata_of(
    recipe: Recipe,
    bank: Bank,
    X: Shaped[np.ndarray, "n f"],
    y: Shaped[np.ndarray, "n ..."],
    *,
    rows: str,
    groups: bool,
) -> dict[str, Any]:
    """Return the `meta_*` of a dataset, without its normalisation and its split."""
    layers = list(dict.fromkeys(recipe.input_layers))
    metadata: dict[str, Any] = {
        "strategy": recipe.strategy,
        "input_source": recipe.input_source,
        "input_layers": np.array(layers, dtype=np.int64),
        "input_layer": layers[0] if len(layers) == 1 else None,
        "input_dims": X.shape[1],
        "n_samples": len(X),
        "sentence_indices": bank.sentence_indices,
        "row_indices": bank.row_indices if rows != "final" else None,
        "rows": rows,
        "groups": bank.sentence_indices if groups else None,
        "text_groups": bank.text_groups,
        "n_tokens": bank.n_tokens,
        "last_token": None if bank.last_tokens is None else np.array(bank.last_tokens, dtype=np.str_),
        "output_type": "concept" if recipe.is_concept else "feature",
        "normalization": recipe.normalize,
        "n_classes": len(np.unique(y)) if y.dtype.kind == "i" else None,
        "features_chosen_on": recipe.chosen_on,
    }
    if not recipe.features:
        return metadata
    several = {
        "layer": [one.layer for one in recipe.features],
        "feature": [one.feature for one in recipe.features],
        "average_l0": [one.average_l0 for one in recipe.features],
    }
    values = {key: of[0] if len(of) == 1 else of for key, of in several.items()}
    if recipe.is_concept:
        return (
            metadata
            | {"input_features": several["feature"], "input_feature_layers": several["layer"]}
            | {"average_l0": values["average_l0"]}
        )
    layer = values["layer"] if len(set(several["layer"])) > 1 else several["layer"][0]
    l0 = values["average_l0"] if len(set(several["average_l0"])) > 1 else several["average_l0"][0]
    return metadata | {"target_layer": layer, "target_feature": values["feature"], "average_l0": l0}


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
    metadata: dict[str, Any],
    plan: Plan,
    bank: Bank,
) -> None:
    """Write the dataset and its manifest as one file, which appears whole."""
    manifest = {
        **plan.described(),
        "fingerprint": plan.fingerprint,
        "dropped": {one.name: one.reason for one in bank.lost},
    }
    text = json.dumps(manifest, ensure_ascii=False)
    save_dataset(X, y, metadata | {"n_dropped": len(bank.lost), "manifest": text}, output)
