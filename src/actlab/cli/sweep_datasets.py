from actlab.cli.classifiers import report_datasets
from actlab.cli.common import set_loudness
from actlab.features.sweep.config import SweepConfig
from actlab.ground import options


@options.command(SweepConfig)
def command(config: SweepConfig) -> None:
    """Every strategy with each of its layers or targets, in every normalisation. configs/workflow_*.yaml are
    sweeps with the layers of a model of 26 blocks.

    \b
    actlab sweep-datasets --input DIR --strategy hidden-to-concept --layers 1 --layers 3,5 --output '{name}.npz'
    actlab sweep-datasets --config-path configs/workflow_2_layers.yaml --input DIR
    """
    from actlab.features.sweep.run import sweep_datasets

    set_loudness(config.quiet)
    report_datasets(sweep_datasets(config), as_json=config.json, dry_run=config.dry_run)
