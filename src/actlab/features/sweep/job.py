"""`actlab sweep-datasets`: many datasets, each folder's files read once."""

from actlab.features.datasets.job import Generated, GenerateJob, groups_of
from actlab.features.sweep.config import SweepConfig
from actlab.ground.job import run_jobs
from actlab.ground.options import takes


@takes(SweepConfig)
def sweep_datasets(config: SweepConfig) -> list[Generated]:
    """Make every dataset of a sweep; `SweepConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_jobs(jobs_of(config))


def jobs_of(config: SweepConfig) -> list[list[GenerateJob]]:
    """Return a job for each dataset, in a group a folder."""
    return groups_of(config.datasets(folder) for folder in config.input)
