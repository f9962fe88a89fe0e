"""`actlab generate-datasets`: from sentence feature files to X and y."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Shaped

from actlab.features import kind  # noqa: F401  registers the kind
from actlab.features.datasets.compute import make_dataset, scale_columns
from actlab.features.datasets.config import DatasetConfig
from actlab.features.datasets.contents import Contents, contents_of, path_of
from actlab.features.datasets.normalisations import NORMALISATIONS
from actlab.features.datasets.sink import KIND, is_there, metadata_of, write_dataset
from actlab.features.datasets.source import Source, Wanted
from actlab.features.datasets.strategies import STRATEGIES
from actlab.formats.classifier import load_dataset
from actlab.ground.errors import ConfigError
from actlab.ground.hashes import sha256_of
from actlab.ground.job import Cost, FileJob, Outcome, run_jobs
from actlab.ground.log import log
from actlab.ground.options import takes
from actlab.ground.storage import Plan
from actlab.ground.variants import plugins_identity

_FAR_MORE = 10


@dataclass(frozen=True, kw_only=True)
class Generated(Outcome):
    """A dataset; what is dropped are sentence files that were left out."""

    n_samples: int
    n_columns: int
    """Of X."""

    def tell(self) -> None:
        """Log what was left out."""
        if self.n_dropped:
            log.warning("%s: %d sentence files left out, listed in meta_manifest", self.path, self.n_dropped)


@takes(DatasetConfig)
def generate_datasets(config: DatasetConfig) -> list[Generated]:
    """Make one dataset, or one a ranked feature; `DatasetConfig` has the settings.

    A file that was made with the same settings from the same inputs is left as it is.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_jobs(jobs_of(config))


def jobs_of(config: DatasetConfig) -> list[list["GenerateJob"]]:
    """Return a job for each dataset."""
    return groups_of([[config]])


def groups_of(by_folder: Iterable[Sequence[DatasetConfig]]) -> list[list["GenerateJob"]]:
    """Return a group of jobs for each folder, whose files are read once for all of them.

    Raises:
        ConfigError: What settings name is not in the files, or two datasets would overwrite one another.
    """
    sources = [(Source(configs[0].input, configs[0]), configs) for configs in by_folder]
    groups = [
        [GenerateJob(source, config, one) for config in configs for one in contents_of(config, source.folder)]
        for source, configs in sources
    ]
    outputs = Counter(job.output for jobs in groups for job in jobs)
    if outputs.total() > len(outputs):
        raise ConfigError(
            f"two datasets would be named {outputs.most_common(1)[0][0]}",
            hint="put what tells them apart into --output: {name}, {normalize}, {input}, {strategy}, {layers}, "
            "{layer}, {feature} or {average_l0}",
        )
    return groups


class GenerateJob(FileJob[Generated]):
    """One dataset."""

    made: Generated | None = None
    """What this run wrote."""

    def __init__(self, source: Source, config: DatasetConfig, contents: Contents) -> None:
        self.source = source
        self.config = config
        self.contents = contents
        self.output = path_of(config, contents)

    @cached_property
    def plan(self) -> Plan:
        """All that decides the dataset's bytes."""
        config, contents = self.config, self.contents
        identity: dict[str, object] = {
            "strategy": config.strategy,
            "rows": config.rows,
            "input_layers": list(contents.input_layers),
            "features": [[one.layer, one.average_l0, one.feature] for one in contents.features],
            "features_chosen_on": contents.chosen_on,
            "normalize": config.normalize,
            "fit_norm": config.fitted_on,
            "groups": config.groups,
            "format": self.output.suffix[1:],
        }
        if self.source.versions:
            identity["versions"] = self.source.versions
        inputs = [self.source.folder.as_input()]
        if self.source.splits is not None and config.split is not None:
            inputs.append({"role": "split", "sha256": sha256_of(config.split)})
        return Plan(KIND, identity | plugins_identity(STRATEGIES.plugins_of([config.strategy])), inputs)

    def is_there(self) -> bool:
        """Whether it is there already; if not, its rows are read with those of the others."""
        return self._is_there

    @cached_property
    def _is_there(self) -> bool:
        is_done = is_there(self.output, self.plan, overwrite=self.config.overwrite)
        if not is_done:
            self.source.want(self.contents)
        return is_done

    def write(self) -> None:
        """Put the dataset together, scale it, and write it."""
        config, contents, splits = self.config, self.contents, self.source.splits
        bank, is_last = self.source.take(contents)
        X, y = make_dataset(contents, bank, own=is_last)
        metadata = metadata_of(contents, config, bank, X, y)
        fit_rows = None
        if splits is not None:
            sides, groups = splits.sides(bank.sentence_indices), splits.groups(bank.sentence_indices)
            metadata |= {"split": sides, "split_fingerprint": splits.fingerprint, "groups": groups}
            fit_rows = sides == "train" if config.fit_norm != "all" else None
        self._warn(X, y)
        metadata |= {"fit_norm": config.fitted_on, **scale_columns(X, config.normalize, fit_rows)}
        write_dataset(self.output, X, y, metadata, self.plan, bank)
        self.made = Generated(path=self.output, n_samples=len(X), n_columns=X.shape[1], n_dropped=len(bank.lost))

    def outcome(self) -> Generated:
        """Return what the file holds."""
        if self.made is not None:
            return self.made
        X, _, metadata = load_dataset(self.output)
        n_dropped = int(metadata.get("n_dropped", 0))
        return Generated(path=self.output, n_samples=len(X), n_columns=X.shape[1], n_dropped=n_dropped)

    def cost(self) -> Cost:
        """Count samples and columns, reading none."""
        folder = self.source.folder
        n_samples = sum(one.facts.n_rows if self.config.rows == "all" else 1 for one in folder)
        n_read = Wanted.by([self.contents]).n_columns(folder.facts.hidden_dim)
        n_columns = n_read - (0 if self.contents.strategy.is_concept else len(self.contents.features))
        return Cost(
            path=self.output,
            n_records=n_samples,
            records="samples",
            bytes_to_write=4 * n_samples * n_read,
            notes=(f"{n_columns} columns",),
            details={"n_samples": n_samples, "n_columns": n_columns, "n_dropped": len(folder.lost)},
        )

    def _warn(self, X: Float[np.ndarray, "n f"], y: Shaped[np.ndarray, "n ..."]) -> None:
        """Say what will make a probe on this dataset worthless."""
        name = self.output.name
        if NORMALISATIONS[self.config.normalize].fits is not None and self.config.fitted_on == "all":
            log.info("%s: the normaliser is fitted on all rows; with --split it sees the train rows only", name)
        if self.contents.strategy.is_concept and y.dtype.kind == "i" and len(np.unique(y)) == 1:
            log.warning("%s: every sample has the label %s: there is nothing to tell apart", name, y[0])
        if not self.contents.strategy.is_concept:
            for one, column in zip(self.contents.features, y.reshape(len(y), -1).T, strict=True):
                if not column.any():
                    log.warning("%s: feature %d of layer %d is 0 in every sample", name, one.feature, one.layer)
        if X.shape[1] > _FAR_MORE * len(X):
            log.warning(
                "%s: %d columns and only %d samples: regularise, and trust a held-out test only", name, *X.shape[::-1]
            )
