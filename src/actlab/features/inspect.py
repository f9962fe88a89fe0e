"""`show` and `verify` of what the commands of features write."""

from pathlib import Path
from typing import Any

import numpy as np

from actlab.formats.classifier import load_dataset, read_manifest_of
from actlab.formats.sentences.file import Sentence
from actlab.formats.sentences.folder import load_all_sentences, sentence_paths
from actlab.ground.errors import ActlabError, ConfigError
from actlab.ground.integrity import read_sealed_object, sealed_manifest, unchecked
from actlab.ground.manifest import METADATA, fingerprint, read_manifest
from actlab.ground.progress import progress
from actlab.ground.verify import Verified, check_against_manifest, files_of


def show_features(path: str | Path) -> dict[str, Any]:
    """Return a description of a folder or a classifier dataset, as JSON.

    Raises:
        ActlabError: It is none, or damaged.
    """
    path = Path(path)
    if path.is_file():
        return _show_file(path)
    files = files_of(path)
    manifest = sealed_manifest(path)
    if manifest is not None:
        metadata = read_sealed_object(path / METADATA)
        metadata = {key: value for key, value in metadata.items() if not key.startswith("curve")}
        described = {"kind": manifest["kind"], "made_on": manifest.get("made_on", [])} | metadata
    else:
        folder = load_all_sentences(path)
        labels = [sentence.facts.label for sentence in folder]
        described = {
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
    sizes = {"n_files": len(files), "n_bytes": sum(file.stat().st_size for file in files)}
    return {"path": str(path)} | sizes | described


def _show_file(path: Path) -> dict[str, Any]:
    X, y, metadata = load_dataset(path)
    short = {key: value for key, value in metadata.items() if np.size(value) <= 16 and key != "manifest"}
    values, counts = np.unique(y, return_counts=True)
    described: dict[str, Any] = {"path": str(path), "kind": "classifier-dataset", "n_bytes": path.stat().st_size}
    described |= {"X": list(X.shape), "y": list(y.shape), "y_dtype": str(y.dtype)}
    if len(values) <= 16:
        described["y_counts"] = {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)}
    return described | {key: np.asarray(value).tolist() for key, value in short.items()}


@unchecked()
def verify_features(
    path: str | Path,
    *,
    recompute: int = 0,
    model: str | None = None,
    dataset: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Verified:
    """Check a folder against its manifest, and read every number of sentence files, checksums included.

    Raises:
        ActlabError: There is nothing to verify, or `recompute` is asked for, which activations have alone.
    """
    path = Path(path)
    if recompute or model or dataset:
        raise ConfigError("only a dump of activations can be recomputed", hint="omit --recompute")
    if path.is_file():
        return _verify_file(path)
    manifest = read_manifest(path)
    files = files_of(path)
    problems = [] if manifest is None else check_against_manifest(path, manifest, quiet=quiet)
    if manifest is None or manifest["kind"] == "sentence-features":
        problems += _check_sentences(path, quiet=quiet)
    return Verified(path, len(files), sum(file.stat().st_size for file in files), manifest is not None, problems)


def _verify_file(path: Path) -> Verified:
    """Read a classifier dataset whole, checksums included, and compare its manifest with itself."""
    load_dataset(path)
    manifest = read_manifest_of(path)
    problems = []
    if manifest is not None:
        described = {key: manifest.get(key) for key in ("format_version", "kind", "identity", "inputs")}
        if manifest.get("fingerprint") != fingerprint(described):
            problems.append(f"{path.name}: its fingerprint is not that of its settings and inputs")
    return Verified(path, 1, path.stat().st_size, manifest is not None, problems)


def _check_sentences(folder: Path, *, quiet: bool) -> list[str]:
    problems = [] if read_manifest(folder) else [one.reason for one in load_all_sentences(folder).lost]
    paths = sentence_paths(folder)
    with progress("reading", total=len(paths), unit="file", quiet=quiet) as more:
        for path in paths:
            try:
                problems += Sentence(path).problems()
            except ActlabError as error:
                problems.append(str(error))
            more(1)
    return list(dict.fromkeys(problem.replace(f"{folder}/", "") for problem in problems))
