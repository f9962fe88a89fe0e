"""`actlab create-sig-dataset` and `create-benchmark-dataset`: labelled sequences for a config's patterns."""

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from actlab.formats.sequence_sets import NEGATIVE, Sequences, benchmark_json, signature_json
from actlab.formats.weights import letters_of
from actlab.ground.errors import StorageError
from actlab.ground.limits import read_at_most
from actlab.ground.options import takes
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import refuse_inside_dataset, storage_errors, write_file
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.config.sequence_sets import BenchmarkConfig, SigDatasetConfig
from actlab.weights.rows import draw_labelled
from actlab.weights.sampler import Sampler

log = logging.getLogger("actlab")


class MadeSequences(NamedTuple):
    """What is in the file."""

    path: Path
    n_examples: int
    by_pattern: dict[str, int]


@takes(SigDatasetConfig)
def create_sig_dataset(config: SigDatasetConfig) -> MadeSequences:
    """Write a signature dataset for a config's patterns; `SigDatasetConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    sampler = _source(config)
    n_negatives = round(config.size * config.dataset.patterns.negative_ratio)
    drawn = _draw(sampler, "signature", config.size - n_negatives, n_negatives)
    data = signature_json(drawn, pattern_names=[pattern.name for pattern in sampler.patterns])
    return _write(config.filename, data, drawn, overwrite=config.overwrite, dry_run=config.dry_run)


@takes(BenchmarkConfig)
def create_benchmark_dataset(config: BenchmarkConfig) -> MadeSequences:
    """Write a benchmark dataset for a config's patterns; `BenchmarkConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    sampler = _source(config)
    names = [pattern.name for pattern in sampler.patterns]
    drawn = _at_most(
        config.samples_per_pattern, _draw(sampler, "benchmark", config.samples_per_pattern * len(names), 0)
    )
    data = benchmark_json(drawn, pattern_names=names, samples_per_pattern=config.samples_per_pattern)
    return _write(config.filename, data, drawn, overwrite=config.overwrite, dry_run=config.dry_run)


def _source(config: WeightsSettings) -> Sampler:
    sampler = Sampler(config)
    for note in sampler.notes:
        log.warning("%s", note)
    return sampler


def _draw(sampler: Sampler, what: str, n_positives: int, n_negatives: int) -> Sequences:
    """Draw distinct sequences, positives in equal parts from each pattern; small patterns give what they have."""
    names = [pattern.name for pattern in sampler.patterns]
    rng = np.random.default_rng(derive_seed(sampler.config.pipeline.random_seed, what))
    rows = draw_labelled(rng, sampler.patterns, space=sampler.space, n_positives=n_positives, n_negatives=n_negatives)
    labels = rows.labels.tolist()
    patterns = [
        names[pattern] if label else NEGATIVE for label, pattern in zip(labels, rows.patterns.tolist(), strict=True)
    ]
    return Sequences(letters_of(rows.tokens), labels, patterns, list(sampler.space.letters))


def _is_other(path: Path, data: bytes) -> bool:
    """Whether a file holds something else; it is not read unless it has as many bytes."""
    return path.stat().st_size != len(data) or path.read_bytes() != data


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
    counts: Counter[str] = Counter()
    kept = []
    for number, pattern in enumerate(drawn.patterns):
        counts[pattern] += 1
        if counts[pattern] <= n_per_pattern:
            kept.append(number)
    return Sequences(
        [drawn.sequences[number] for number in kept],
        [drawn.labels[number] for number in kept],
        [drawn.patterns[number] for number in kept],
        drawn.vocab,
    )


def _write(filename: str, data: bytes, drawn: Sequences, *, overwrite: bool, dry_run: bool) -> MadeSequences:
    """Write the file, unless it is there with the same bytes.

    Raises:
        StorageError: Another file is in the way.
    """
    path = Path(os.path.expanduser(filename))
    refuse_inside_dataset(path)
    if path.is_dir():
        raise StorageError(f"{path} is a folder", hint="give --filename a file's name, such as sig.json")
    if path.exists() and not overwrite and _is_other(path, data):
        raise StorageError(
            f"{path} is there with other content", hint="choose another --filename, or give --overwrite to replace it"
        )
    if overwrite and path.exists() and not _is_sequence_set(path):
        raise StorageError(f"{path} holds no sequences", hint="choose another --filename: it is not replaced")
    if not dry_run:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    by_pattern = {name: drawn.patterns.count(name) for name in dict.fromkeys(sorted(drawn.patterns))}
    return MadeSequences(path, len(drawn.sequences), by_pattern)
