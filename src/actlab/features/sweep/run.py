"""`actlab sweep-datasets`: many datasets, each folder's files read once."""

from actlab.features.datasets.recipe import Recipe, recipes_of, refuse_same_file
from actlab.features.datasets.run import Generated, make_datasets
from actlab.features.sweep.config import SweepConfig
from actlab.formats.sentences.folder import SentenceFolder, load_all_sentences
from actlab.ground.options import takes


@takes(SweepConfig)
def sweep_datasets(config: SweepConfig) -> list[Generated]:
    """Make every dataset of a sweep; `SweepConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    jobs: list[tuple[SentenceFolder, list[Recipe]]] = []
    for path in config.input:
        folder = load_all_sentences(path, check=config.check)
        jobs.append((folder, [recipe for one in config.datasets(path) for recipe in recipes_of(one, folder)]))
    refuse_same_file([recipe for _, recipes in jobs for recipe in recipes])
    return [made for folder, recipes in jobs for made in make_datasets(config, folder, recipes)]
