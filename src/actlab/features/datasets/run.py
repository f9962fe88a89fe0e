"""`actlab generate-datasets`: from sentence feature files to X and y."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from actlab.features.datasets.compute import inputs_of, scale_columns, targets_of
from actlab.features.datasets.config import DatasetConfig, ReadOptions
from actlab.features.datasets.recipe import Recipe, recipes_of
from actlab.features.datasets.sink import KIND, is_there, metadata_of, write_dataset
from actlab.features.datasets.source import Bank, Wanted, read_bank, text_versions
from actlab.formats.sentences.folder import INPUTS_CHECKED, SentenceFolder, load_all_sentences
from actlab.formats.splits import Splits, read_splits
from actlab.ground.errors import DataError
from actlab.ground.hashes import sha256_of
from actlab.ground.integrity import sealed_manifest
from actlab.ground.options import takes
from actlab.ground.progress import progress
from actlab.ground.storage import Plan

log = logging.getLogger("actlab")

_EXPECTED = 100
"""Samples that the document's folders have."""
_FAR_MORE = 10


class Generated(NamedTuple):
    """One dataset that is there now, or with `--dry-run` would be."""

    path: Path
    n_samples: int
    n_columns: int
    """Of X."""
    n_dropped: int
    """Sentence files left out."""


@takes(DatasetConfig)
def generate_datasets(config: DatasetConfig) -> list[Generated]:
    """Make one dataset, or one a ranked feature; `DatasetConfig` has the settings.

    A file that was made with the same settings from the same inputs is left as it is.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    folder = load_all_sentences(config.input, check=config.check)
    return make_datasets(config, folder, recipes_of(config, folder))


def make_datasets(config: ReadOptions, folder: SentenceFolder, recipes: Sequence[Recipe]) -> list[Generated]:
    """Make datasets from one pass over a folder's files."""
    splits = read_splits(config.split) if config.split else None
    if config.on_bad == "error" and folder.lost:
        raise DataError(folder.lost[0].reason, hint="mend it, or leave --on-bad drop to go on without it")
    if splits is not None:
        splits.check_texts({one.facts.index: one.text for one in folder if splits.text_ids})
    versions = text_versions(folder)
    plans = [_plan(config, folder, recipe, splits, versions) for recipe in recipes]
    there = [is_there(one.output, plan, overwrite=config.overwrite) for one, plan in zip(recipes, plans, strict=True)]
    if config.dry_run:
        return [_planned(config, folder, recipe) for recipe in recipes]
    to_make = [recipe for recipe, is_done in zip(recipes, there, strict=True) if not is_done]
    generated = {}
    if to_make:
        _warn_of_few(folder, config)
        if _fitted_on(config) == "all" and any(recipe.normalize != "none" for recipe in to_make):
            log.info("the normaliser is fitted on all rows; with --split it sees the train rows only")
        with progress(folder.path.name, total=len(folder), unit="file", quiet=config.quiet) as more:
            bank = read_bank(folder, Wanted.by(to_make), rows=config.rows, on_bad=config.on_bad, more=more)
        for recipe, plan, is_done in zip(recipes, plans, there, strict=True):
            if not is_done:
                generated[recipe.output] = _make(config, recipe, bank, splits, plan, own=len(to_make) == 1)
    return [generated.get(recipe.output) or _found(recipe.output) for recipe in recipes]


def _make(
    config: ReadOptions, recipe: Recipe, bank: Bank, splits: Splits | None, plan: Plan, *, own: bool
) -> Generated:
    """Put one dataset together, scale it, and write it."""
    X = inputs_of(recipe, bank, own=own)
    y = targets_of(recipe, bank)
    metadata = metadata_of(recipe, bank, X, y, rows=config.rows, groups=config.groups)
    metadata[INPUTS_CHECKED] = bank.is_checked
    fit_rows = None
    if splits is not None:
        sides = splits.sides(bank.sentence_indices)
        groups = splits.groups(bank.sentence_indices)
        metadata |= {"split": sides, "split_fingerprint": splits.fingerprint, "groups": groups}
        fit_rows = sides == "train" if config.fit_norm != "all" else None
    metadata["fit_norm"] = _fitted_on(config)
    _warn(recipe, bank, X, y)
    metadata |= scale_columns(X, recipe.normalize, fit_rows)
    write_dataset(recipe.output, X, y, metadata, plan, bank)
    return Generated(recipe.output, len(X), X.shape[1], len(bank.lost))


def _fitted_on(config: ReadOptions) -> str:
    return config.fit_norm or ("train" if config.split else "all")


def _plan(
    config: ReadOptions, folder: SentenceFolder, recipe: Recipe, splits: Splits | None, versions: dict[str, int]
) -> Plan:
    """Return what decides the dataset's bytes."""
    identity: dict[str, Any] = {
        "strategy": recipe.strategy,
        "rows": config.rows,
        "input_layers": list(recipe.input_layers),
        "features": [[one.layer, one.average_l0, one.feature] for one in recipe.features],
        "features_chosen_on": recipe.chosen_on,
        "normalize": recipe.normalize,
        "fit_norm": _fitted_on(config),
        "groups": config.groups,
        "format": recipe.output.suffix[1:],
    }
    if versions:
        identity["versions"] = versions
    inputs = [folder.as_input()]
    if splits is not None:
        assert config.split is not None
        inputs.append({"role": "split", "sha256": sha256_of(Path(os.path.expanduser(config.split)))})
    return Plan(KIND, identity, inputs)


def _planned(config: ReadOptions, folder: SentenceFolder, recipe: Recipe) -> Generated:
    n = sum(one.facts.n_rows if config.rows == "all" else 1 for one in folder)
    n_columns = Wanted.by([recipe]).n_columns(folder.facts.hidden_dim)
    if not recipe.is_concept:
        n_columns -= len(recipe.features)
    return Generated(recipe.output, n, n_columns, len(folder.lost))


def _found(output: Path) -> Generated:
    from actlab.formats.classifier import load_dataset

    dataset = load_dataset(output)
    return Generated(output, len(dataset.X), dataset.X.shape[1], int(dataset.metadata.get("n_dropped", 0)))


def _warn(recipe: Recipe, bank: Bank, X: Any, y: Any) -> None:
    """Say what will make a probe on this dataset worthless."""
    name = recipe.output.name
    if recipe.is_concept and y.dtype.kind == "i" and len(np.unique(y)) == 1:
        log.warning("%s: every sample has the label %s: there is nothing to tell apart", name, y[0])
    if not recipe.is_concept:
        for place, feature in enumerate(recipe.features):
            column = y if y.ndim == 1 else y[:, place]
            if not column.any():
                log.warning("%s: feature %d of layer %d is 0 in every sample", name, feature.feature, feature.layer)
    if X.shape[1] > _FAR_MORE * len(X):
        log.warning(
            "%s: %d columns and only %d samples: regularise, and trust a held-out test only", name, *X.shape[::-1]
        )


def _warn_of_few(folder: SentenceFolder, config: ReadOptions) -> None:
    """Say that there are fewer sentences than the run that made the folder had, or than the document's 100."""
    manifest = sealed_manifest(folder.path)
    expected = manifest["identity"].get("n_sentences", _EXPECTED) if manifest else _EXPECTED
    if len(folder) < expected:
        log.warning("Only %d samples (expected ~%d)", len(folder), expected)
