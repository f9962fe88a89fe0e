"""What `show`, `verify` and `seal` share: who answers for a kind of dataset."""

import contextlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actlab.ground.errors import StorageError
from actlab.ground.limits import refuse_pipe
from actlab.ground.manifest import METADATA, read_json, read_manifest


@dataclass(frozen=True)
class Kind:
    """Who answers for a kind of dataset: module and function, imported when needed."""

    show: str
    verify: str
    finish: str


def _of_features(finish: str) -> Kind:
    inspect = "actlab.features.inspect"
    return Kind(show=f"{inspect}:show_features", verify=f"{inspect}:verify_features", finish=finish)


_TEXT = Kind(
    show="actlab.text.inspect:show_text",
    verify="actlab.text.inspect:verify_text",
    finish="actlab.ground.storage:finish_single",
)


_ROW_SUFFIXES = (".npz", ".parquet")


KINDS = {
    "activations": Kind(
        show="actlab.activations.show:show_activations",
        verify="actlab.activations.verify.run:verify_activations",
        finish="actlab.activations.sink:finish",
    ),
    "sentence-features": _of_features("actlab.features.encode.sink:finish"),
    "saes": _of_features("actlab.features.train_sae.sink:finish"),
    "feature-ranking": _of_features("actlab.ground.storage:finish_single"),
    "probe": _of_features("actlab.ground.storage:finish_single"),
    "weights": Kind(
        show="actlab.weights.inspect:show_weights",
        verify="actlab.weights.inspect:verify_weights",
        finish="actlab.weights.sink:finish",
    ),
    "text": _TEXT,
    "tokens": _TEXT,
    "gpt": _TEXT,
}


def load(where: str) -> Callable[..., Any]:
    module, name = where.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def kind_of(folder: Path) -> Kind:
    """Return who answers for a path; what another program wrote has no manifest."""
    if folder.is_file() or any(folder.glob("sentence_*.npz")):
        return KINDS["sentence-features"]
    for place in (folder, folder.parent):
        manifest = read_manifest(place)
        if manifest is not None:
            if manifest["kind"] not in KINDS:
                raise StorageError(
                    f"{folder} is a dataset of kind {manifest['kind']!r}",
                    hint="a newer actlab made it: upgrade",
                )
            return KINDS[manifest["kind"]]
    return KINDS.get(_told_kind(folder), KINDS["activations"])


def _told_kind(folder: Path) -> str:
    """Return the kind of which a dataset's own metadata speaks; "" where there is none that can be read."""
    with contextlib.suppress(StorageError):
        match read_json(folder / METADATA):
            case {"kind": str(kind)}:
                return kind
    return ""


def existing(path: str) -> Path:
    folder = Path(os.path.expanduser(path))
    if folder.is_file() and folder.suffix in _ROW_SUFFIXES:
        return folder
    if folder.is_file():
        raise StorageError(
            f"{path} is a file of another kind", hint="name a dataset's folder, an NPZ or a Parquet file"
        )
    if not folder.is_dir():
        refuse_pipe(folder)
        raise StorageError(
            f"there is no folder {path}",
            hint="name a dataset's folder, or a classifier dataset's file; show also takes a grammar, as cooking",
        )
    return folder if folder.name not in ("", "..") else folder.resolve()
