"""What a dataset's X and y are made of, found in the files that the settings name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from actlab.features.datasets.config import DatasetConfig
from actlab.features.datasets.strategies import STRATEGIES, Strategy
from actlab.formats.ranking import RankedFeature, read_ranking
from actlab.formats.sentences.folder import SentenceFolder
from actlab.ground.errors import ConfigError, DataError

GIVEN = "given"
"""Features named by hand: which rows chose them is not known."""


class Feature(NamedTuple):
    """One SAE feature in the files."""

    config: int
    """Its layer's and SAE's place in the files."""
    layer: int
    average_l0: int
    feature: int


@dataclass(frozen=True)
class Contents:
    """Where a dataset's X and y come from."""

    strategy: Strategy
    input_layers: tuple[int, ...]
    """Of the hidden states, or of the features in X."""
    features: tuple[Feature, ...]
    """The targets; or the columns of X."""
    chosen_on: str | None
    """The rows that chose the features: "all", "train:<split>", or "given"; None without features."""


def contents_of(config: DatasetConfig, folder: SentenceFolder) -> Iterator[Contents]:
    """Yield what the settings ask for: one dataset, or one a ranked feature.

    Raises:
        ConfigError: A layer, an SAE or a feature is not in the files.
    """
    strategy = STRATEGIES[config.strategy]
    features, chosen_on = _chosen(config, folder) if strategy.has_features else ((), None)
    is_one = config.features_from is None or strategy.is_concept
    for group in [features] if is_one else [(one,) for one in features]:
        layers = strategy.layers(config.named_layers, [one.layer for one in group])
        for layer in layers:
            folder.hidden_config(layer)
        yield Contents(strategy, layers, group, chosen_on)


def _chosen(config: DatasetConfig, folder: SentenceFolder) -> tuple[tuple[Feature, ...], str]:
    """Return the features that flags or a ranking name, and which rows chose them."""
    if config.features_from is None:
        assert config.target_layer is not None
        layer, l0 = config.target_layer, config.average_l0
        return tuple(_find(folder, layer, feature, l0) for feature in config.feature_list), GIVEN
    ranked = _ranked(config.features_from, config)
    found = tuple(_find(folder, one.layer, one.feature_id, one.average_l0) for one in ranked)
    return found, ranked[0].ranked_on or GIVEN


def _ranked(path: Path, config: DatasetConfig) -> list[RankedFeature]:
    """Return the best features of a ranking.

    Raises:
        DataError: The ranking is empty or says of its rows two things.
    """
    ranked = sorted(read_ranking(path), key=lambda one: one.rank)
    if config.average_l0 is not None:
        ranked = [one for one in ranked if one.average_l0 == config.average_l0]
    if not ranked:
        raise DataError(f"{path} lists no feature", hint="loosen actlab rank-features: --min-pearson, --min-tpr, …")
    if len({one.ranked_on for one in ranked}) > 1:
        raise DataError(f"{path} was pieced together from several rankings", hint="rank once more")
    return ranked[: config.top]


def _find(folder: SentenceFolder, layer: int, feature: int, average_l0: int | None) -> Feature:
    """Return where a feature lies in the files.

    Raises:
        ConfigError: The layer, the SAE or the index is not there.
    """
    config = folder.config_of(layer, average_l0)
    if not 0 <= feature < folder.facts.n_features:
        raise ConfigError(
            f"Feature index must be 0-{folder.facts.n_features - 1}, not {feature}",
            hint="take layer and feature_id from one row of ranked_features.csv",
        )
    return Feature(config, layer, folder.facts.average_l0s[config], feature)


def path_of(config: DatasetConfig, contents: Contents) -> Path:
    """Return a dataset's file, the placeholders of --output filled in.

    Raises:
        ConfigError: A placeholder is not known, or the ending is another form's.
    """
    layers = "-".join(map(str, contents.input_layers)) if config.layers is None else config.layers.replace(" ", "")
    values: dict[str, object] = {
        "input": config.input.resolve().name,
        "strategy": config.strategy,
        "normalize": config.normalize,
        "layers": layers.replace(",", "_"),
    }
    features, target = "", "concept"
    if contents.features:
        first = contents.features[0]
        values |= {"layer": first.layer, "feature": first.feature, "average_l0": first.average_l0}
        features = "_".join(str(one.feature) for one in contents.features)
        if not contents.strategy.is_concept:
            target = f"f{features}" if contents.input_layers == (first.layer,) else f"l{first.layer}_f{features}"
    values["name"] = contents.strategy.stem.format(**{"layer": "", **values, "features": features}) + f"_to_{target}"
    return output_path(str(config.output), values, config.format)


def output_path(pattern: str, values: dict[str, object], form: str | None) -> Path:
    """Fill a file name's placeholders in, and give it an ending.

    >>> output_path("d_h{layer}_to_f{feature}", {"layer": 12, "feature": 7}, None)
    PosixPath('d_h12_to_f7.npz')

    Raises:
        ConfigError: A placeholder is not known, or the ending is another form's.
    """
    try:
        path = Path(pattern.format_map(values))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join("{" + key + "}" for key in values)
        raise ConfigError(f"--output {pattern!r} has a placeholder that is not known", hint=f"use {known}") from error
    if form is not None and path.suffix in (".npz", ".parquet") and path.suffix != f".{form}":
        raise ConfigError(f"--format {form} does not fit --output {pattern}", hint=f"end it in .{form}")
    if not path.name:
        raise ConfigError(f"--output {pattern} names no file", hint="write --output generated_datasets/NAME.npz")
    return path if path.suffix in (".npz", ".parquet") else path.with_name(f"{path.name}.{form or 'npz'}")
