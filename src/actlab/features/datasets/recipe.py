"""What one dataset consists of, once the settings have met the files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from actlab.features.datasets.config import DatasetConfig, ReadOptions, Strategy
from actlab.formats.ranking import RankedFeature, read_ranking
from actlab.formats.sentences.folder import SentenceFolder
from actlab.ground.errors import ConfigError, DataError
from actlab.ground.layers import parse_layers_arg

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
class Recipe:
    """One dataset: where X and y come from."""

    output: Path
    strategy: Strategy
    normalize: str
    input_layers: tuple[int, ...] = ()
    """Of the hidden states, or of the features in X."""
    features: tuple[Feature, ...] = ()
    """The targets; with feature-to-concept, the columns of X."""
    chosen_on: str | None = None
    """The rows that chose the features: "all", "train:<split>", or "given"; None without features."""

    @property
    def input_source(self) -> str:
        """What X is made of."""
        return {"embedding": "embeddings", "hidden": "hidden_states", "feature": "activations"}[
            self.strategy.split("-")[0]
        ]

    @property
    def is_concept(self) -> bool:
        """Whether y is the label."""
        return self.strategy.endswith("to-concept")


def recipes_of(config: DatasetConfig, folder: SentenceFolder) -> list[Recipe]:
    """Return the datasets that the settings ask for: one, or one a ranked feature.

    Raises:
        ConfigError: A layer, an SAE or a feature is not in the files, or two datasets would share a file.
    """
    if config.strategy == "hidden-to-concept":
        layers = [config.layer] if config.layer is not None else parse_layers_arg(config.layers or "")
        for layer in layers:
            folder.hidden_config(layer)
        return [_recipe(config, input_layers=tuple(layers))]
    features, chosen_on = chosen_features(config, folder)
    together = config.features_from is None or config.strategy == "feature-to-concept"
    recipes = [
        _recipe(config, input_layers=_input_layers(config, group, folder), features=group, chosen_on=chosen_on)
        for group in ([features] if together else [(one,) for one in features])
    ]
    refuse_same_file(recipes)
    return recipes


def chosen_features(config: DatasetConfig, folder: SentenceFolder) -> tuple[tuple[Feature, ...], str]:
    """Return the features that flags or a ranking name, and which rows chose them."""
    if config.features_from is None:
        assert config.target_layer is not None
        return tuple(
            find_feature(folder, config.target_layer, feature, config.average_l0) for feature in config.feature_list
        ), GIVEN
    ranked = ranked_features(config)
    features = tuple(find_feature(folder, one.layer, one.feature_id, one.average_l0) for one in ranked)
    return features, ranked[0].ranked_on or GIVEN


def ranked_features(config: ReadOptions) -> list[RankedFeature]:
    """Return the best features of the ranking that the settings name.

    Raises:
        DataError: The ranking is empty or says of its rows two things.
    """
    assert config.features_from is not None
    ranked = sorted(read_ranking(config.features_from), key=lambda one: one.rank)
    if config.average_l0 is not None:
        ranked = [one for one in ranked if one.average_l0 == config.average_l0]
    if not ranked:
        raise DataError(
            f"{config.features_from} lists no feature", hint="loosen actlab rank-features: --min-pearson, --min-tpr, …"
        )
    if len({one.ranked_on for one in ranked}) > 1:
        raise DataError(f"{config.features_from} was pieced together from several rankings", hint="rank once more")
    return ranked[: config.top]


def find_feature(folder: SentenceFolder, layer: int, feature: int, average_l0: int | None) -> Feature:
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


def refuse_same_file(recipes: list[Recipe]) -> None:
    """Refuse datasets that would overwrite one another.

    Raises:
        ConfigError: Two have one name.
    """
    seen: set[Path] = set()
    for recipe in recipes:
        if recipe.output in seen:
            raise ConfigError(
                f"two datasets would be named {recipe.output}",
                hint="put what tells them apart into --output: {name}, {normalize}, {input}, {strategy}, {layers}, "
                "{layer}, {feature} or {average_l0}",
            )
        seen.add(recipe.output)


def output_path(pattern: str, values: Mapping[str, Any], form: str | None) -> Path:
    """Fill a file name's placeholders in, and give it an ending.

    >>> output_path("d_h{layer}_to_f{feature}", {"layer": 12, "feature": 7}, None)
    PosixPath('d_h12_to_f7.npz')

    Raises:
        ConfigError: A placeholder is not known, or the ending is another form's.
    """
    try:
        path = Path(os.path.expanduser(pattern.format_map(dict(values))))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join("{" + key + "}" for key in values)
        raise ConfigError(f"--output {pattern!r} has a placeholder that is not known", hint=f"use {known}") from error
    if form is not None and path.suffix in (".npz", ".parquet") and path.suffix != f".{form}":
        raise ConfigError(f"--format {form} does not fit --output {pattern}", hint=f"end it in .{form}")
    if not path.name:
        raise ConfigError(f"--output {pattern} names no file", hint="write --output generated_datasets/NAME.npz")
    return path if path.suffix in (".npz", ".parquet") else path.with_name(f"{path.name}.{form or 'npz'}")


def _recipe(
    config: DatasetConfig,
    *,
    input_layers: tuple[int, ...],
    features: tuple[Feature, ...] = (),
    chosen_on: str | None = None,
) -> Recipe:
    """Return a recipe with its file's name."""
    layers = "-".join(map(str, input_layers)) if config.layers is None else config.layers.replace(" ", "")
    values: dict[str, Any] = {
        "input": Path(os.path.expanduser(config.input)).resolve().name,
        "strategy": config.strategy,
        "normalize": config.normalize,
        "layers": layers.replace(",", "_"),
    }
    source = "emb" if config.strategy == "embedding-to-feature" else f"h{values['layers']}"
    name = f"{source}_to_concept"
    if features:
        first = features[0]
        values |= {"layer": first.layer, "feature": first.feature, "average_l0": first.average_l0}
        several = "_".join(str(one.feature) for one in features)
        target = f"f{several}" if input_layers == (first.layer,) else f"l{first.layer}_f{several}"
        is_concept = config.strategy == "feature-to-concept"
        name = f"l{first.layer}_f{several}_to_concept" if is_concept else f"{source}_to_{target}"
    values["name"] = name
    path = output_path(config.output, values, config.format)
    return Recipe(path, config.strategy, config.normalize, input_layers, features, chosen_on)


def _input_layers(config: DatasetConfig, features: tuple[Feature, ...], folder: SentenceFolder) -> tuple[int, ...]:
    if config.strategy == "embedding-to-feature":
        return ()
    if config.strategy == "hidden-to-feature":
        layer = features[0].layer if config.input_layer is None else config.input_layer
        folder.hidden_config(layer)
        return (layer,)
    return tuple(feature.layer for feature in features)
