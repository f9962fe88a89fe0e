"""`actlab rank-features` on the command line."""

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import click

from actlab.cli.common import EXIT_DROPPED, log, print_plan, set_loudness
from actlab.features.rank.config import RankConfig
from actlab.ground.options import command

if TYPE_CHECKING:
    from actlab.features.rank.run import PlannedRanking, Ranked


@command("rank-features", RankConfig)
def rank(config: RankConfig) -> None:
    """Rank SAE features by how they follow the sentences' label, over all layers.

    Reads the folder that compute-features wrote. Writes ranked_features.csv (score, correlations, AUROC,
    q-values), feature_examples.json and plots. Features that fail a filter are not listed.

    \b
    actlab rank-features --input DIR --output Rankings/honesty
    actlab rank-features --input DIR --split splits.json --permutations 1000 --output Rankings/honesty
    """
    from actlab.features.rank.run import plan_ranking, rank_features

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_ranking(config), _as_text, as_json=config.json)
        return
    ranked = rank_features(config)
    click.echo(_as_json(ranked) if config.json else str(ranked.path))
    if ranked.features:
        best = ranked.features[0]
        said = (len(ranked.features), best.layer, best.feature_id, best.interpretability_score)
        log.info("%d features listed; the best is layer %d, feature %d, score %.3f", *said)
    if ranked.n_dropped:
        log.warning("%s: %d sentence files left out, listed in its metadata.json", ranked.path, ranked.n_dropped)
        sys.exit(EXIT_DROPPED)


def _as_json(ranked: "Ranked") -> str:
    features = [{name: _jsonable(value) for name, value in vars(one).items()} for one in ranked.features]
    return json.dumps({"path": str(ranked.path), "n_dropped": ranked.n_dropped, "features": features}, indent=2)


def _jsonable(value: Any) -> Any:
    """Return a value as JSON can hold it: labels as text, no infinite numbers."""
    if isinstance(value, dict):
        return {f"{label:g}": mean for label, mean in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(plan: "PlannedRanking") -> str:
    labels = ", ".join(f"{label:g}: {count}" for label, count in plan.labels.items())
    return (
        f"{plan.path}\n"
        f"  {plan.n_configurations} layers with their SAEs, {plan.n_features} features each\n"
        f"  {plan.n_sentences} sentences ({plan.ranked_on}), {plan.n_rows} rows; by label {labels}\n"
        f"  {plan.n_permutations} permutations, {plan.n_dropped} files left out"
    )
