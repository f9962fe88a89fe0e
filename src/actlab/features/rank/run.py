"""`actlab rank-features` on one screen: read the rows once, compare each feature with the label, list the best."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from actlab.features.rank.compute.columns import columns_of
from actlab.features.rank.compute.examples import Example, FeatureExamples, most_active
from actlab.features.rank.compute.ranking import Bounds, Ranking, highest_scores, permuted_labels, rank
from actlab.features.rank.compute.statistics import Statistics, describe
from actlab.features.rank.config import RankConfig
from actlab.features.rank.plots import plot_files
from actlab.features.rank.sink import make_files
from actlab.features.rank.source import Activations, Inputs, as_input, open_inputs, read_activations, read_tokens
from actlab.features.split.compute.order import VERSION as SPLIT_VERSION
from actlab.formats.ranking import KIND, RankedFeature, discoveries, read_ranking
from actlab.ground.integrity import read_sealed_object
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, Made, Plan, output_of, publish_single, refuse_others

log = logging.getLogger("actlab")

_FEW = 5


class Ranked(NamedTuple):
    """A ranking on disk."""

    path: Path
    features: list[RankedFeature]
    """The rows of its CSV, best first."""
    n_dropped: int
    """Sentence files that were left out."""


class PlannedRanking(NamedTuple):
    """What a run would do."""

    path: Path
    ranked_on: str
    n_sentences: int
    n_rows: int
    labels: dict[float, int]
    """Sentences by label."""
    n_configurations: int
    n_features: int
    """Of each configuration."""
    n_permutations: int
    n_dropped: int


@takes(RankConfig)
def rank_features(config: RankConfig) -> Ranked:
    """Rank the features of all layers by how they follow the sentences' label.

    Raises:
        ConfigError: The folder, or a layer or SAE asked for, is not there.
        DataError: The files have fewer than two labels, or the split is of other sentences.
        StorageError: Another ranking is in the way.
    """
    output = output_of(Path(os.path.expanduser(config.output)))
    inputs = open_inputs(config)
    plan = _plan(config, inputs)
    refuse_others(output, plan, overwrite=config.overwrite)
    if inputs.ranked_on == "all":
        log.info("ranked on all sentences: a probe on these features has no held-out test; see --split")
    publish_single(output, plan, lambda: _make(config, inputs, plan), overwrite=config.overwrite)
    metadata = read_sealed_object(output / METADATA, dropped=list)
    ranked = Ranked(output, read_ranking(output), len(metadata["dropped"]))
    if not ranked.features:
        _warn_of_none(metadata["best"], config)
    if (warning := discoveries(ranked.features).warning) is not None:
        log.warning("%s", warning)
    return ranked


@takes(RankConfig)
def plan_ranking(config: RankConfig) -> PlannedRanking:
    """Return what `rank_features` would do, reading no activation.

    Raises:
        ConfigError, DataError, StorageError: As `rank_features` does.
    """
    output = output_of(Path(os.path.expanduser(config.output)))
    inputs = open_inputs(config)
    refuse_others(output, _plan(config, inputs), overwrite=config.overwrite)
    facts = [sentence.facts for sentence in inputs.sentences]
    labels = [one.label for one in facts]
    return PlannedRanking(
        path=output,
        ranked_on=inputs.ranked_on,
        n_sentences=len(facts),
        n_rows=sum(one.n_rows for one in facts) if config.rows == "all" else len(facts),
        labels={label: labels.count(label) for label in sorted(set(labels))},
        n_configurations=len(inputs.configurations),
        n_features=facts[0].n_features,
        n_permutations=config.permutations,
        n_dropped=len(inputs.folder.lost),
    )


def _plan(config: RankConfig, inputs: Inputs) -> Plan:
    identity = {**identity_of(config), "ranked_on": inputs.ranked_on}
    if config.permutations:  # they are others than an earlier actlab's
        identity["versions"] = {"permutations": SPLIT_VERSION}
    return Plan(KIND, identity, [as_input(inputs.folder)], SINGLE)


def _make(config: RankConfig, inputs: Inputs, plan: Plan) -> Made:
    with progress("reading", total=len(inputs.sentences), unit="sentence", quiet=config.quiet) as tick:
        activations = read_activations(inputs, config.rows, tick)
    _warn_of_few(activations)
    described, highest_p = _describe(config, inputs, activations)
    ranking = rank(
        list(zip(inputs.configurations, described, strict=True)),
        activations.labels,
        Bounds(config.min_pearson, config.min_tpr, config.max_fpr),
        top=config.top,
        ranked_on=inputs.ranked_on,
        highest_p=highest_p,
    )
    examples = _examples(config, inputs, activations, ranking)
    plots = list(plot_files(ranking.features, examples, inputs.configurations)) if config.plots else []
    return make_files(plan, inputs, activations, ranking, examples, plots, permuted=config.permutations > 0)


def _describe(
    config: RankConfig, inputs: Inputs, activations: Activations
) -> tuple[list[Statistics], Float[np.ndarray, " p"] | None]:
    """Return the statistics of each configuration, and the highest score of any under each permutation."""
    label_i, sentence_n = activations.label_i, activations.sentence_n
    highest_p = np.full(config.permutations, -np.inf)
    described = []
    total = len(inputs.configurations) * (1 + config.permutations)
    with progress("ranking", total=total, unit="labelling", quiet=config.quiet) as tick:
        for matrix in activations.matrices:
            columns = columns_of(matrix)
            described.append(describe(columns, label_i[sentence_n]))
            tick(1)
            labellings = permuted_labels(label_i, sentence_n, config.permutations, config.seed)
            for number, highest in enumerate(highest_scores(columns, labellings)):
                highest_p[number] = max(highest_p[number], highest)
                tick(1)
    return described, highest_p if config.permutations else None


def _examples(config: RankConfig, inputs: Inputs, activations: Activations, ranking: Ranking) -> list[FeatureExamples]:
    """Return the sentences of the top features, token by token."""
    place = {(one.layer, one.average_l0): number for number, one in enumerate(inputs.configurations)}
    chosen: list[tuple[RankedFeature, int, list[tuple[int, float]]]] = []
    wanted: dict[tuple[int, int], list[int]] = {}
    for feature in ranking.features[: config.top_examples]:
        number = place[feature.layer, feature.average_l0]
        value_n = activations.matrices[number][:, [feature.feature_id]].toarray()[:, 0]
        best = most_active(value_n, activations.sentence_n, config.examples)
        chosen.append((feature, inputs.configurations[number].place, best))
        for i, _ in best:
            wanted.setdefault((i, inputs.configurations[number].place), []).append(feature.feature_id)
    tokens = read_tokens(activations, wanted)
    examples = []
    for feature, configuration, best in chosen:
        keys = [(i, value, (i, configuration, feature.feature_id)) for i, value in best]
        shown = [_example(activations, i, value, tokens[key]) for i, value, key in keys if key in tokens]
        examples.append(FeatureExamples(feature, shown))
    return examples


def _example(activations: Activations, i: int, activation: float, values: Sequence[float | None]) -> Example:
    sentence = activations.sentences[i]
    tokens = sentence.token_texts if "fragments" in sentence else ()
    return Example(
        sentence_index=sentence.facts.index,
        label=sentence.facts.label,
        activation=activation,
        sentence=sentence.text,
        tokens=tokens if len(tokens) == len(values) else [],
        activations=values,
    )


def _warn_of_few(activations: Activations) -> None:
    for label in (activations.labels[0], activations.labels[-1]):
        count = int((activations.label_i == label).sum())
        if count < _FEW:
            log.warning("only %d sentences have the label %g, on which the score rests", count, label)


def _warn_of_none(best: dict[str, Any] | None, config: RankConfig) -> None:
    if best is None:
        log.warning("no feature is active in any row")
        return
    log.warning(
        "no feature passes --min-pearson %g --min-tpr %g --max-fpr %g; the best score is %.3f "
        "(layer %d, feature %d: Pearson %.3f, tpr %.2f, fpr %.2f)",
        *(config.min_pearson, config.min_tpr, config.max_fpr),
        *(best[key] for key in ("interpretability_score", "layer", "feature_id", "pearson_corr", "tpr", "fpr")),
    )
