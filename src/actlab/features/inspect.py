"""`show` and `verify` of what the commands of features write."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from actlab.formats.classifier import load_dataset
from actlab.formats.sentences.file import Sentence
from actlab.formats.sentences.folder import load_all_sentences, sentence_paths
from actlab.ground.errors import ActlabError, StorageError
from actlab.ground.integrity import read_sealed_object, sealed_manifest
from actlab.ground.manifest import METADATA, has_own_fingerprint
from actlab.ground.progress import progress
from actlab.ground.verify import sizes_of


def show_folder(path: Path) -> dict[str, object]:
    """Return a description of a sealed folder, as JSON.

    Raises:
        StorageError: It has no manifest, or is damaged.
    """
    manifest = sealed_manifest(path)
    if manifest is None:
        raise StorageError(f"{path} has no manifest", hint="name a folder that a command of actlab made")
    metadata = read_sealed_object(path / METADATA)
    return {
        "path": str(path),
        **sizes_of(path),
        "kind": manifest["kind"],
        "made_on": manifest.get("made_on", []),
        **{key: value for key, value in metadata.items() if not key.startswith("curve")},
    }


def show_sentences(path: Path) -> dict[str, object]:
    """Return a description of a folder of sentence files, which another program may have written, as JSON.

    Raises:
        ActlabError: It is none, or damaged.
    """
    if sealed_manifest(path) is not None:
        return show_folder(path)
    folder = load_all_sentences(path)
    labels = [sentence.facts.label for sentence in folder]
    return {
        "path": str(path),
        **sizes_of(path),
        "kind": "sentence-features",
        "n_sentences": len(folder),
        "n_rows": sum(sentence.facts.n_rows for sentence in folder),
        "layers": list(folder.facts.layers),
        "average_l0s": list(folder.facts.average_l0s),
        "num_features": folder.facts.n_features,
        "hidden_dim": folder.facts.hidden_dim,
        "labels": {f"{label:g}": labels.count(label) for label in sorted(set(labels))},
        "left_out": [one.reason for one in folder.lost],
    }


def show_file(path: Path) -> dict[str, object]:
    """Return a description of a classifier dataset, as JSON.

    Raises:
        ActlabError: It is none, or damaged.
    """
    X, y, metadata = load_dataset(path)
    short = {key: np.asarray(value).tolist() for key, value in metadata.items() if np.size(value) <= 16}
    values, counts = np.unique(y, return_counts=True)
    by_value = {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)}
    return {
        "path": str(path),
        "kind": "classifier-dataset",
        "n_bytes": path.stat().st_size,
        "X": list(X.shape),
        "y": list(y.shape),
        "y_dtype": str(y.dtype),
        **({"y_counts": by_value} if len(values) <= 16 else {}),
        **{key: value for key, value in short.items() if key != "manifest"},
    }


def read_file(path: Path, manifest: Mapping[str, object] | None, _quiet: bool) -> Iterator[str]:
    """Read a classifier dataset whole, checksums included, and compare its manifest with itself.

    Raises:
        ActlabError: It is damaged.
    """
    load_dataset(path)
    if manifest is not None and not has_own_fingerprint(manifest):
        yield f"{path.name}: its fingerprint is not that of its settings and inputs"


def read_sentences(folder: Path, manifest: Mapping[str, object] | None, quiet: bool) -> list[str]:
    """Read every number of sentence files, checksums included, and return what is wrong.

    Raises:
        ActlabError: There are none.
    """
    problems = [] if manifest is not None else [one.reason for one in load_all_sentences(folder).lost]
    paths = sentence_paths(folder)
    with progress("reading", total=len(paths), unit="file", quiet=quiet) as more:
        for path in paths:
            try:
                problems += Sentence(path).problems()
            except ActlabError as error:
                problems.append(str(error))
            more(1)
    return list(dict.fromkeys(problem.replace(f"{folder}/", "") for problem in problems))
