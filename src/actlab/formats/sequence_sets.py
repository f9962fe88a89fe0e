"""Sets of labelled letter sequences as JSON files: signature datasets and benchmark datasets."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from actlab.ground.errors import DataError
from actlab.ground.integrity import read_sealed
from actlab.ground.limits import JSON_BYTES
from actlab.ground.log import log

NEGATIVE = "none"
"""What stands for the pattern of a sequence that satisfies none."""


class Sequences(NamedTuple):
    """Sequences, each with the pattern that it was drawn for."""

    sequences: list[str]
    """Letters, "ACB…", all of one length."""
    labels: list[bool]
    patterns: list[str]
    """`NEGATIVE` where the label is false."""
    vocab: list[str]


def signature_json(drawn: Sequences, *, pattern_names: Sequence[str]) -> bytes:
    """Return a signature dataset's file in the documented form."""
    counts = Counter(drawn.patterns)
    n_yes = sum(drawn.labels)
    examples: list[Mapping[str, object]] = [
        {"sequence": list(sequence), "label": int(label), "pattern": pattern}
        for sequence, label, pattern in zip(drawn.sequences, drawn.labels, drawn.patterns, strict=True)
    ]
    rest = {
        "name": "signature_dataset",
        "description": "Sequences on which every subject network's activations are recorded",
        "purpose": "A network's activation signature",
        "num_examples": len(drawn.sequences),
        "pattern_coverage": {name: counts[name] for name in [*pattern_names, NEGATIVE]},
        "metadata": {
            "vocab": drawn.vocab,
            "sequence_length": len(drawn.sequences[0]),
            "total_patterns": len(pattern_names),
            "pattern_names": list(pattern_names),
            "samples_per_pattern": n_yes // len(pattern_names),
            "positive_examples": n_yes,
            "negative_examples": len(drawn.labels) - n_yes,
        },
    }
    return _as_bytes(examples, rest)


def benchmark_json(drawn: Sequences, *, pattern_names: Sequence[str], samples_per_pattern: int) -> bytes:
    """Return a benchmark dataset's file in the documented form: positives only."""
    examples: list[Mapping[str, object]] = [
        {"sequence": list(sequence), "pattern": pattern, "pattern_id": list(pattern_names).index(pattern)}
        for sequence, pattern in zip(drawn.sequences, drawn.patterns, strict=True)
    ]
    counts = {"total_examples": len(examples), "patterns": list(pattern_names)}
    return _as_bytes(examples, {**counts, "samples_per_pattern": samples_per_pattern})


def _as_bytes(examples: Sequence[Mapping[str, object]], rest: Mapping[str, object]) -> bytes:
    """Return JSON with one example a line, so that people can read it and diff it."""
    lines = ",\n".join("    " + json.dumps(example) for example in examples)
    return f'{{\n  "examples": [\n{lines}\n  ],\n{json.dumps(rest, indent=2)[2:]}\n'.encode()


def read_file(path: Path, *, made_by: str) -> bytes:
    """Read a signature or benchmark dataset's bytes; `made_by` is the command that makes one.

    Raises:
        DataError: It cannot be read.
        StorageError: It is a sealed dataset's and not as it was written.
    """
    try:
        return read_sealed(path, JSON_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint=f"make one with: actlab {made_by}") from None


def read_sequences(path: Path, *, vocab_size: int, sequence_length: int, made_by: str) -> Sequences:
    """Read a signature or benchmark dataset made for these sizes.

    Raises:
        DataError: As `read_file` and `parse_sequences`.
    """
    data = read_file(path, made_by=made_by)
    return parse_sequences(data, path, vocab_size=vocab_size, sequence_length=sequence_length, made_by=made_by)


def parse_sequences(data: bytes, path: Path, *, vocab_size: int, sequence_length: int, made_by: str) -> Sequences:
    """Return what the bytes of a signature or benchmark dataset hold.

    Raises:
        DataError: They are not those of such a file, empty, or of another length or vocabulary: a file that names its
            letters has to name the vocabulary's. Another one that never uses some of them is warned of.
    """
    hint = f"make one with: actlab {made_by}"
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not JSON", hint=hint) from None
    try:
        examples = content["examples"]
        rows = [(list(row["sequence"]), row.get("label", 1), row.get("pattern") or NEGATIVE) for row in examples]
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{path} has no examples with a sequence each", hint=hint) from None
    vocab = [chr(ord("A") + token) for token in range(vocab_size)]
    for number, (sequence, label, pattern) in enumerate(rows):
        if len(sequence) != sequence_length or not all(letter in vocab for letter in sequence):
            raise DataError(
                f"{path}: example {number} is not {sequence_length} letters from A to {vocab[-1]}: {sequence!r}"[:300],
                hint="it was made for another model.vocab_size or sequence_length: make one with this config",
            )
        if label not in (0, 1) or not isinstance(pattern, str):
            raise DataError(f"{path}: example {number} has label {label!r} and pattern {pattern!r}", hint=hint)
    if not rows:
        raise DataError(f"{path} is empty", hint=hint)
    _check_letters(content, {letter for sequence, _, _ in rows for letter in sequence}, vocab, path)
    return Sequences(
        ["".join(sequence) for sequence, _, _ in rows],
        [bool(label) for _, label, _ in rows],
        [pattern for _, _, pattern in rows],
        vocab,
    )


def _check_letters(content: Mapping[str, object], used: set[str], vocab: list[str], path: Path) -> None:
    """Refuse a file that says it was made for other letters; warn of one that says nothing and never uses some.

    Raises:
        DataError: It says so.
    """
    metadata = content.get("metadata")
    named = metadata.get("vocab") if isinstance(metadata, dict) else None
    hint = "it was made for another model.vocab_size: make one with this config"
    if not isinstance(named, list):
        if unused := [letter for letter in vocab if letter not in used]:
            log.warning("%s never uses %s: was it made for another model.vocab_size?", path, ", ".join(unused))
        return
    of_file = [str(letter) for letter in named]
    for what, letters, others in (("has no", vocab, of_file), ("also has", of_file, vocab)):
        if lacking := [letter for letter in letters if letter not in others]:
            what = f"{what} {', '.join(lacking)}"
            raise DataError(f"{path} was made for other letters than A to {vocab[-1]}: it {what}"[:300], hint=hint)
