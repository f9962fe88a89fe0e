"""What `create-sig-dataset` and `create-benchmark-dataset` share."""

from typing import TYPE_CHECKING

from actlab.cli.common import echo, info, print_json
from actlab.weights.config.sequence_sets import BenchmarkConfig, SigDatasetConfig

if TYPE_CHECKING:
    from actlab.weights.sequence_sets import MadeSequences


def report_sequences(made: "MadeSequences", config: SigDatasetConfig | BenchmarkConfig) -> None:
    """Print the sequences that were made, or would be."""
    if config.json:
        print_json(made)
        return
    echo(str(made.path))
    counts = ", ".join(f"{name} {n}" for name, n in made.by_pattern.items())
    if config.dry_run:
        echo(f"  {made.n_examples} sequences: {counts}")
    else:
        info("%d sequences: %s", made.n_examples, counts)
