from actlab.cli.classifiers import report_datasets
from actlab.cli.common import set_loudness
from actlab.features.datasets.config import DatasetConfig
from actlab.ground import options


@options.command(DatasetConfig)
def command(config: DatasetConfig) -> None:
    """Only the rows and features asked for are read. One NPZ with X, y, meta_* and norm_*.

    \b
    embedding-to-feature   X: embeddings              y: an SAE feature (--target-layer, --target-feature)
    hidden-to-feature      X: hidden states           y: an SAE feature (--target-layer, --target-feature)
    hidden-to-concept      X: hidden states           y: the label      (--layer or --layers)
    feature-to-concept     X: SAE features            y: the label      (--target-layer, --target-features)

    \b
    actlab generate-datasets --strategy hidden-to-concept --input DIR --layers 0-5 --output d.npz
    actlab generate-datasets --strategy hidden-to-feature --input DIR --features-from ranked_features.csv \\
        --top 5 --output 'd_h{layer}_to_f{feature}.npz'
    """
    from actlab.features.datasets.run import generate_datasets

    set_loudness(config.quiet)
    report_datasets(generate_datasets(config), as_json=config.json, dry_run=config.dry_run)
