"""`actlab create-sig-dataset` and `create-benchmark-dataset`: labelled sequences for a config's patterns."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actlab.formats.sequence_sets import NEGATIVE, Sequences, benchmark_json, signature_json
from actlab.formats.weights import letters_of
from actlab.ground.job import Cost, FileJob, Outcome, run_job
from actlab.ground.limits import read_at_most
from actlab.ground.log import log
from actlab.ground.options import takes
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import OneFile, write_file
from actlab.weights.config.sequence_sets import BenchmarkConfig, SigDatasetConfig
from actlab.weights.rows import draw_labelled
from actlab.weights.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class MadeSequences(Outcome):
    """What is in the file."""

    n_examples: int
    by_pattern: dict[str, int]

    def tell(self) -> None:
        """Log the counts."""
        log.info("%d sequences: %s", self.n_examples, _counted(self.by_pattern))


def _counted(by_pattern: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in by_pattern.items())


@takes(SigDatasetConfig)
def create_sig_dataset(config: SigDatasetConfig) -> MadeSequences:
    """Write a signature dataset for a config's patterns; `SigDatasetConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


@takes(BenchmarkConfig)
def create_benchmark_dataset(config: BenchmarkConfig) -> MadeSequences:
    """Write a benchmark dataset for a config's patterns; `BenchmarkConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: SigDatasetConfig | BenchmarkConfig) -> list[Sequence["SequencesJob"]]:
    """Draw the sequences, and return the one job."""
    sampler = Sampler(config)
    for note in sampler.notes:
        log.warning("%s", note)
    names = [pattern.name for pattern in sampler.patterns]
    if isinstance(config, SigDatasetConfig):
        n_negatives = round(config.size * config.dataset.patterns.negative_ratio)
        drawn = _draw(sampler, "signature", config.size - n_negatives, n_negatives)
        return [[SequencesJob(config, drawn, signature_json(drawn, pattern_names=names))]]
    n = config.samples_per_pattern
    drawn = _at_most(n, _draw(sampler, "benchmark", n * len(names), 0))
    return [[SequencesJob(config, drawn, benchmark_json(drawn, pattern_names=names, samples_per_pattern=n))]]


class SequencesJob(FileJob[MadeSequences]):
    """A file of sequences, which are drawn already."""

    def __init__(self, config: SigDatasetConfig | BenchmarkConfig, drawn: Sequences, data: bytes) -> None:
        self.data = data
        self.by_pattern = dict(sorted(Counter(drawn.patterns).items()))
        self.file = OneFile(
            path=config.filename,
            overwrite=config.overwrite,
            is_own=_is_sequence_set,
            foreign="holds no sequences",
            example="--filename sig.json",
        )

    def is_there(self) -> bool:
        """Whether the file is there with the same bytes."""
        return self.file.has(self.data, other=lambda: "is there with other content")

    def write(self) -> None:
        """Write the file."""
        write_file(self.file.path, self.data)

    def outcome(self) -> MadeSequences:
        """Return what is in the file."""
        counts = self.by_pattern
        return MadeSequences(path=self.file.path, n_examples=sum(counts.values()), by_pattern=counts)

    def cost(self) -> Cost:
        """Return what would be in the file."""
        n, counts = sum(self.by_pattern.values()), self.by_pattern
        return Cost(
            path=self.file.path,
            n_records=n,
            records="sequences",
            bytes_to_write=len(self.data),
            notes=(_counted(counts),),
            details={"n_examples": n, "by_pattern": counts},
        )


def _draw(sampler: Sampler, what: str, n_positives: int, n_negatives: int) -> Sequences:
    """Draw distinct sequences, positives in equal parts from each pattern; small patterns give what they have."""
    names = [*(pattern.name for pattern in sampler.patterns), NEGATIVE]
    rng = np.random.default_rng(derive_seed(sampler.config.pipeline.random_seed, what))
    rows = draw_labelled(rng, sampler.patterns, space=sampler.space, n_positives=n_positives, n_negatives=n_negatives)
    patterns = [names[pattern] for pattern in rows.patterns.tolist()]  # -1 is a negative's
    return Sequences(letters_of(rows.tokens), rows.labels.tolist(), patterns, list(sampler.space.letters))


def _is_sequence_set(path: Path) -> bool:
    """Whether a file is one that these commands made, and so may be replaced."""
    try:
        content = json.loads(read_at_most(path))
    except (ValueError, RecursionError):
        return False
    examples = content.get("examples") if isinstance(content, dict) else None
    return isinstance(examples, list) and all(isinstance(one, dict) and "sequence" in one for one in examples)


def _at_most(n_per_pattern: int, drawn: Sequences) -> Sequences:
    """Leave out what large patterns gave in the place of small ones."""
    sequences, labels, patterns, vocab = drawn
    places = {name: [number for number, one in enumerate(patterns) if one == name] for name in set(patterns)}
    kept = sorted(number for own in places.values() for number in own[:n_per_pattern])
    return Sequences(
        [sequences[number] for number in kept],
        [labels[number] for number in kept],
        [patterns[number] for number in kept],
        vocab,
    )
