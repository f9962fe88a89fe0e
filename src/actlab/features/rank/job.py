"""`actlab rank-features`: read the rows once, compare each feature with the label, list the best."""

from dataclasses import dataclass
from functools import cached_property

from actlab.features import kind  # noqa: F401  registers the kind
from actlab.features.rank.compute.examples import examples_of
from actlab.features.rank.compute.ranking import described, rank
from actlab.features.rank.config import RankConfig
from actlab.features.rank.plots import plot_files
from actlab.features.rank.sink import Best, RankingMetadata, files_of, metadata_of
from actlab.features.rank.source import Activations, open_source, read_activations
from actlab.features.split.compute.sides import VERSION as SPLIT_VERSION
from actlab.formats.ranking import FALSE_DISCOVERY_RATE, KIND, RankedFeature, discoveries, read_ranking
from actlab.ground.integrity import read_sealed_as
from actlab.ground.job import Cost, DatasetJob, Done, Outcome, run_job
from actlab.ground.log import log
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More, progress
from actlab.ground.storage import SINGLE, Plan, output_of

_FEW = 5


@dataclass(frozen=True, kw_only=True)
class Ranked(Outcome):
    """A ranking on disk; what is dropped are sentence files that were left out."""

    features: list[RankedFeature]
    """The rows of its CSV, best first."""

    def as_json(self) -> dict[str, object]:
        """Return all of it by name, and how many features are more than chance lists."""
        found = discoveries(self.features)
        return super().as_json() | {
            "false_discovery_rate": FALSE_DISCOVERY_RATE,
            "n_below_false_discovery_rate": found.n_passing,
            "smallest_q": found.smallest_q,
            "warning": found.warning,
            "features": [one.as_json() for one in self.features],
        }

    def tell(self) -> None:
        """Log the best feature, and what was left out."""
        if self.features:
            best, found = self.features[0], discoveries(self.features)
            log.info(
                "%d features listed, %d with a false discovery rate below %g; the best is layer %d, feature %d, "
                "score %.3f",
                *(found.n_listed, found.n_passing, FALSE_DISCOVERY_RATE),
                *(best.layer, best.feature_id, best.interpretability_score),
            )
        if self.n_dropped:
            log.warning("%s: %d sentence files left out, listed in its metadata.json", self.path, self.n_dropped)


@takes(RankConfig)
def rank_features(config: RankConfig) -> Ranked:
    """Rank the features of all layers by how they follow the sentences' label.

    Raises:
        ConfigError: The folder, or a layer or SAE asked for, is not there.
        DataError: The files have fewer than two labels, or the split is of other sentences.
        StorageError: Another ranking is in the way.
    """
    return run_job(jobs_of(config))


def jobs_of(config: RankConfig) -> list[list["RankJob"]]:
    """Return the one job."""
    return [[RankJob(config)]]


class RankJob(DatasetJob[Ranked]):
    """One ranking, made in one unit."""

    config: RankConfig

    def __init__(self, config: RankConfig) -> None:
        super().__init__(config, output_of(config.output))
        self.source = open_source(config)

    @cached_property
    def plan(self) -> Plan:
        """All that decides the ranking's bytes."""
        identity = {**identity_of(self.config), "ranked_on": self.source.ranked_on}
        if self.config.permutations:  # they are others than an earlier actlab's
            identity["versions"] = {"permutations": SPLIT_VERSION}
        return Plan(KIND, identity, [self.source.as_input()], SINGLE)

    def do_unit(self, number: int, more: More) -> Done:
        """Read the rows, rank, and return the folder's files."""
        config, source = self.config, self.source
        with progress("reading", total=len(source.sentences), unit="sentence", quiet=config.quiet) as tick:
            activations = read_activations(source, config.rows, tick)
        _warn_of_few(activations)
        total = len(source.configurations) * (1 + config.permutations)
        with progress("ranking", total=total, unit="labelling", quiet=config.quiet) as tick:
            statistics, highest_p = described(activations, config.permutations, config.seed, tick)
        ranking = rank(config, source, statistics, activations.labels, highest_p)
        shown = ranking.features[: config.top_examples]
        examples = examples_of(shown, source.configurations, activations, config.examples)
        plots = list(plot_files(ranking.features, examples, source.configurations)) if config.plots else []
        files = files_of(ranking, activations.labels, examples, permuted=config.permutations > 0)
        return Done([*files, *plots], {"metadata": metadata_of(self.plan, source, activations, ranking, plots)})

    def outcome(self) -> Ranked:
        """Return the ranking; say where no test is held out, it lists nothing, or chance may have listed all."""
        if self.source.ranked_on == "all":
            log.info("ranked on all sentences: a probe on these features has no held-out test; see --split")
        metadata = read_sealed_as(self.output / METADATA, RankingMetadata)
        features = read_ranking(self.output)
        if not features:
            self._warn_of_none(metadata.get("best"))
        if (warning := discoveries(features).warning) is not None:
            log.warning("%s", warning)
        return Ranked(path=self.output, features=features, n_dropped=len(metadata["dropped"]))

    def cost(self) -> Cost:
        """Count sentences, rows and features, reading no activation."""
        facts = [sentence.facts for sentence in self.source.sentences]
        labels = [one.label for one in facts]
        counts = {label: labels.count(label) for label in sorted(set(labels))}
        details = {
            "ranked_on": self.source.ranked_on,
            "n_sentences": len(facts),
            "n_rows": sum(one.n_rows for one in facts) if self.config.rows == "all" else len(facts),
            "labels": counts,
            "n_configurations": len(self.source.configurations),
            "n_features": facts[0].n_features,
            "n_permutations": self.config.permutations,
            "n_dropped": len(self.source.folder.lost),
        }
        by_label = ", ".join(f"{label:g}: {count}" for label, count in counts.items())
        notes = (
            "{n_configurations} layers with their SAEs, {n_features} features each",
            "{n_sentences} sentences ({ranked_on}), {n_rows} rows; by label " + by_label,
            "{n_permutations} permutations, {n_dropped} files left out",
        )
        return Cost(path=self.output, notes=tuple(note.format(**details) for note in notes), details=details)

    def _warn_of_none(self, best: Best | None) -> None:
        if best is None:
            log.warning("no feature is active in any row")
            return
        log.warning(
            "no feature passes --min-pearson %g --min-tpr %g --max-fpr %g; the best score is %.3f "
            "(layer %d, feature %d: Pearson %.3f, tpr %.2f, fpr %.2f)",
            *(self.config.min_pearson, self.config.min_tpr, self.config.max_fpr),
            *(best["interpretability_score"], best["layer"], best["feature_id"]),
            *(best["pearson_corr"], best["tpr"], best["fpr"]),
        )


def _warn_of_few(activations: Activations) -> None:
    for label in (activations.labels[0], activations.labels[-1]):
        count = int((activations.label_i == label).sum())
        if count < _FEW:
            log.warning("only %d sentences have the label %g, on which the score rests", count, label)
