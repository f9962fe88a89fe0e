"""`generate-datasets` and `sweep-datasets` on the command line."""

import json
import logging
import sys
from typing import TYPE_CHECKING

import click

from actlab.features.datasets.config import DatasetConfig
from actlab.features.sweep.config import SweepConfig
from actlab.ground.options import command

if TYPE_CHECKING:
    from actlab.features.datasets.run import Generated

EXIT_DROPPED = 3


@command("generate-datasets", DatasetConfig)
def generate(config: DatasetConfig) -> None:
    """Make classifier datasets (X, y) from sentence feature files.

    Only the rows and features asked for are read. One NPZ with X, y, meta_* and norm_*.

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

    _quiet(config.quiet)
    _report(generate_datasets(config), as_json=config.json, dry_run=config.dry_run)


@command("sweep-datasets", SweepConfig)
def sweep(config: SweepConfig) -> None:
    """Make many classifier datasets, reading each folder's files once.

    Every strategy with each of its layers or targets, in every normalisation; configs/ has the common sweeps.

    \b
    actlab sweep-datasets --config-path configs/sweep_layers.yaml --input DIR
    """
    from actlab.features.sweep.run import sweep_datasets

    _quiet(config.quiet)
    _report(sweep_datasets(config), as_json=config.json, dry_run=config.dry_run)


def _quiet(quiet: bool) -> None:
    if quiet:
        logging.getLogger("actlab").setLevel(logging.WARNING)


def _report(generated: "list[Generated]", *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        click.echo(json.dumps([{**one._asdict(), "path": str(one.path)} for one in generated], indent=2))
    for one in generated if not as_json else ():
        sizes = f": {one.n_samples} samples, {one.n_columns} columns"
        click.echo(f"{one.path}{sizes}" if dry_run else str(one.path))
    n_dropped = max((one.n_dropped for one in generated), default=0)
    if n_dropped and not dry_run:
        logging.getLogger("actlab").warning("%d sentence files left out, listed in meta_manifest", n_dropped)
        sys.exit(EXIT_DROPPED)
