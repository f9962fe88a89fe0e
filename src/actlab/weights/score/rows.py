"""What repaired networks are measured on: each example's own test rows, or one benchmark for all."""

# n rows, p positions

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from actlab.formats.sequence_sets import read_sequences
from actlab.formats.weights import StoredRows, WeightsDataset, letters_of, tokens_of
from actlab.weights.compute.recorded import as_rows
from actlab.weights.patterns.registry import PATTERNS
from actlab.weights.patterns.space import Space
from actlab.weights.rows import Rows

RowsOf = Callable[[Mapping[int, Sequence[str]]], dict[int, Rows]]
"""From examples' patterns to their rows; an example that cannot be measured has none."""

FEW_NEGATIVES = 30
"""On fewer, one answer moves the accuracy by more than three points."""
FEW_OF_PATTERN = 50
"""On fewer, two answers move a pattern's balanced accuracy by more than two points, which is the usual
`max_other_degradation`."""


def stored_rows(dataset: WeightsDataset) -> RowsOf:
    """Measure on the test rows that the dataset has of each example."""
    return lambda names: {one: as_rows(rows, names[one]) for one, rows in dataset.rows(names).items()}


class Benchmark:
    """One set of sequences for all examples; called, it returns their rows.

    For an example a row is a yes if it satisfies one of the example's patterns, and counts for that pattern which
    the file names it for, if it is one of the example's. Sequences that the example's networks were trained or
    validated on are left out.
    """

    def __init__(self, path: Path, space: Space, dataset: WeightsDataset) -> None:
        made_by = f"create-benchmark-dataset --config-path FILE.yaml --filename {path}"
        read = read_sequences(path, vocab_size=space.vocab_size, sequence_length=space.length, made_by=made_by)
        self._sequences = read.sequences
        self._tokens_np = tokens_of(read.sequences)
        self._named = read.patterns
        names: list[str] = dataset.identity["patterns"]
        self._satisfied = {name: PATTERNS[name].holds(self._tokens_np, space) for name in names}
        self._dataset = dataset
        self._trouble: Counter[str] = Counter()
        self._n_seen: list[int] = []
        self._fewest: dict[str, int] = {}

    @property
    def notes(self) -> list[str]:
        """What became of the examples so far: which could not be measured, or not well, and why."""
        notes = [f"{n} examples are {what}" for what, n in self._trouble.items()]
        if any(self._n_seen):
            notes.append(
                "what an example's networks were trained or validated on is left out of its benchmark: "
                f"{fmean(self._n_seen):.1f} of {len(self._sequences)} sequences on average, {max(self._n_seen)} at most"
            )
        if self._fewest:
            fewest = ", ".join(f"{name} ({n})" for name, n in sorted(self._fewest.items()))
            notes.append(
                f"fewer than {FEW_OF_PATTERN} sequences are left of {fewest}: whether their criteria are met is inside "
                "the noise; compare with the improved weights, or take a larger benchmark"
            )
        return notes

    def __call__(self, names: Mapping[int, Sequence[str]]) -> dict[int, Rows]:
        """Return the rows of each example, leaving out those for which there are none of a pattern or no negatives."""
        seen = _trained_on(self._dataset, names)
        drawn = {}
        for example_id, patterns in names.items():
            rows = self.rows(patterns, seen[example_id])
            n_negatives = int((~rows.labels).sum())
            n_own = {name: int((rows.patterns == place).sum()) for place, name in enumerate(patterns)}
            wrong = [
                *(f"the benchmark has no sequence for {one} that is new to them" for one, n in n_own.items() if not n),
                *([] if n_negatives else ["every sequence of the benchmark satisfies one of their patterns"]),
            ]
            if wrong:
                self._trouble[f"not measured: {wrong[0]}"] += 1
                continue
            drawn[example_id] = rows
            self._n_seen.append(len(self._sequences) - len(rows.labels))
            if n_negatives < FEW_NEGATIVES:
                self._trouble[f"measured on fewer than {FEW_NEGATIVES} negatives: take a larger benchmark"] += 1
            for name, n in n_own.items():
                if n < FEW_OF_PATTERN:
                    self._fewest[name] = min(n, self._fewest.get(name, n))
        return drawn

    def rows(self, names: Sequence[str], seen: Collection[str] = ()) -> Rows:
        """Return the benchmark, without the sequences seen, as the rows of a network that has these patterns."""
        yes_n = np.logical_or.reduce([self._satisfied[name] for name in names])
        is_new_n = np.array([sequence not in seen for sequence in self._sequences])
        rows = as_rows(StoredRows(self._tokens_np, yes_n, [*self._named]), names)
        return Rows(*(column[is_new_n] for column in rows))


def _trained_on(dataset: WeightsDataset, example_ids: Collection[int]) -> dict[int, set[str]]:
    """Return the sequences that examples' networks were trained or validated on."""
    seen: dict[int, set[str]] = {example_id: set() for example_id in example_ids}
    for part in ("train", "validation"):
        for example_id, rows in dataset.rows(example_ids, part=part).items():
            seen[example_id].update(letters_of(rows.tokens))
    return seen
