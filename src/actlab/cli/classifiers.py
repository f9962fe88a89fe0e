"""What `generate-datasets` and `sweep-datasets` share."""

import sys
from typing import TYPE_CHECKING

from actlab.cli.common import EXIT_DROPPED, echo, print_json, warn

if TYPE_CHECKING:
    from actlab.features.datasets.run import Generated


def report_datasets(generated: "list[Generated]", *, as_json: bool, dry_run: bool) -> None:
    """Print the datasets that were made, or would be; exit with a status of its own where sentences were left out."""
    if as_json:
        print_json(generated)
    for one in generated if not as_json else ():
        sizes = f": {one.n_samples} samples, {one.n_columns} columns"
        echo(f"{one.path}{sizes}" if dry_run else str(one.path))
    n_dropped = max((one.n_dropped for one in generated), default=0)
    if n_dropped and not dry_run:
        warn("%d sentence files left out, listed in meta_manifest", n_dropped)
        sys.exit(EXIT_DROPPED)
