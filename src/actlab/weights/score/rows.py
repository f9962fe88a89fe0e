"""What repaired networks are measured on: each example's own test rows, or one benchmark for all."""

# n rows, p positions

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from actlab.formats.sequence_sets import read_sequences
from actlab.formats.weights import WeightsDataset, tokens_of
from actlab.weights.compute.recorded import as_rows
from actlab.weights.patterns.registry import PATTERNS
from actlab.weights.patterns.space import Space
from actlab.weights.rows import Rows

RowsOf = Callable[[dict[int, Sequence[str]]], dict[int, Rows]]
"""From examples' patterns to their rows; an example that cannot be measured has none."""

FEW_NEGATIVES = 30
"""On fewer, one answer moves the accuracy by more than three points."""


def stored_rows(dataset: WeightsDataset) -> RowsOf:
    """Measure on the test rows that the dataset has of each example."""

    def rows_of(names: dict[int, Sequence[str]]) -> dict[int, Rows]:
        return {example_id: as_rows(rows, names[example_id]) for example_id, rows in dataset.rows(names).items()}

    return rows_of


class Benchmark:
    """One set of sequences for all examples; called, it returns their rows.

    For an example a row is a yes if it satisfies one of the example's patterns, and counts for that pattern which
    the file names it for, if it is one of the example's.
    """

    def __init__(self, path: Path, space: Space) -> None:
        made_by = f"create-benchmark-dataset --config-path FILE.yaml --filename {path}"
        read = read_sequences(path, vocab_size=space.vocab_size, sequence_length=space.length, made_by=made_by)
        self._tokens_np = tokens_of(read.sequences)
        self._named = read.patterns
        self._satisfied = {name: pattern.holds(self._tokens_np, space) for name, pattern in PATTERNS.items()}
        self.trouble: Counter[str] = Counter()
        """How many examples could not be measured, or not well, and why."""

    def __call__(self, names: dict[int, Sequence[str]]) -> dict[int, Rows]:
        """Return the rows of each example, leaving out those for which there are none of a pattern or no negatives."""
        drawn = {}
        for example_id, patterns in names.items():
            rows = self.rows(patterns)
            n_negatives = int((~rows.labels).sum())
            lacking = [name for place, name in enumerate(patterns) if not (rows.patterns == place).any()]
            if lacking:
                self.trouble[f"not measured: the benchmark has no sequence for {lacking[0]}"] += 1
            elif not n_negatives:
                self.trouble["not measured: every sequence of the benchmark satisfies one of their patterns"] += 1
            else:
                drawn[example_id] = rows
                if n_negatives < FEW_NEGATIVES:
                    self.trouble[f"measured on fewer than {FEW_NEGATIVES} negatives: take a larger benchmark"] += 1
        return drawn

    def rows(self, names: Sequence[str]) -> Rows:
        """Return the benchmark as the rows of a network that has these patterns."""
        yes_n = np.logical_or.reduce([self._satisfied[name] for name in names])
        places = {name: place for place, name in enumerate(names)}
        pattern_n = np.array([places.get(name, -1) for name in self._named], dtype=np.int16)
        return Rows(self._tokens_np, yes_n, pattern_n)
