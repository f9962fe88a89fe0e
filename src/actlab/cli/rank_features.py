import json
import math
import sys
from typing import TYPE_CHECKING, Any

from actlab.cli.common import EXIT_DROPPED, echo, info, print_plan, set_loudness, warn
from actlab.features.rank.config import RankConfig
from actlab.ground import options

if TYPE_CHECKING:
    from actlab.features.rank.run import PlannedRanking, Ranked


@options.command(RankConfig)
def command(config: RankConfig) -> None:
    """Reads the folder that compute-features wrote. Writes ranked_features.csv (score, correlations, AUROC,
    q-values), feature_examples.json and plots. Features that fail a filter are not listed.

    \b
    actlab rank-features --input DIR --output Rankings/honesty
    actlab rank-features --input DIR --split splits.json --permutations 1000 --output Rankings/honesty
    """
    from actlab.features.rank.run import plan_ranking, rank_features
    from actlab.formats.ranking import FALSE_DISCOVERY_RATE, discoveries

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_ranking(config), _as_text, as_json=config.json)
        return
    ranked = rank_features(config)
    echo(_as_json(ranked) if config.json else str(ranked.path))
    if ranked.features:
        best = ranked.features[0]
        said = (best.layer, best.feature_id, best.interpretability_score)
        found = discoveries(ranked.features)
        info(
            "%d features listed, %d with a false discovery rate below %g; the best is layer %d, feature %d, score %.3f",
            *(found.n_listed, found.n_passing, FALSE_DISCOVERY_RATE),
            *said,
        )
    if ranked.n_dropped:
        warn("%s: %d sentence files left out, listed in its metadata.json", ranked.path, ranked.n_dropped)
        sys.exit(EXIT_DROPPED)


def _as_json(ranked: "Ranked") -> str:
    from actlab.formats.ranking import FALSE_DISCOVERY_RATE, discoveries

    features = [{name: _jsonable(value) for name, value in vars(one).items()} for one in ranked.features]
    found = discoveries(ranked.features)
    described = {
        "path": str(ranked.path),
        "n_dropped": ranked.n_dropped,
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
        "n_below_false_discovery_rate": found.n_passing,
        "smallest_q": found.smallest_q,
        "warning": found.warning,
    }
    return json.dumps(described | {"features": features}, indent=2)


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
