"""Where models come from: actlab's own, local folders, the hub through its own client and login."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from actlab.backends import tiny
from actlab.ground.errors import ConfigError, ModelError, first_line
from actlab.ground.hashes import Hashed, is_unchanged, measured_hash, remembered_hash
from actlab.ground.manifest import InputEntry

_SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "*.py", "*.tiktoken"]
_ADAPTER = "adapter_config.json"
_NOT = ["*/*", "consolidated*"]
_READ_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".py", ".tiktoken"}
_NOT_READ = {"trainer_state.json", "requirements.txt", "LICENSE.txt", "license.txt"}


@dataclass(frozen=True)
class ModelFolder:
    """A model on this disk."""

    name: str
    """As the dumps name it: a hub name, or a local folder's last component."""
    path: Path
    revision: str | None = None
    """The hub's commit."""
    code: bool = False
    """Whether code that it brings may be run."""
    hashed: dict[Path, Hashed] = field(default_factory=dict, compare=False, repr=False)
    """The files that `model_files` hashed, as they were then."""

    @property
    def folder_name(self) -> str:
        """The model's folder under an output root."""
        return self.name.replace("/", "_")


def find_model(name: str, revision: str | None = None, *, weights: bool = True, code: bool = False) -> ModelFolder:
    """Find a model by the name that a user gives: `actlab/tiny`, a local folder, or a hub name.

    Raises:
        ModelError: There is none.
    """
    if revision is not None and (name == tiny.TINY or Path(os.path.expanduser(name)).is_dir()):
        raise ConfigError(f"--revision is for hub models, and {name} is none", hint="leave --revision away")
    here = local_folder(name, hint="check the path")
    path = here or fetch(name, revision, weights=weights, code=code)
    refuse_adapter(name, path)
    if here is not None and not (path / "config.json").is_file():
        raise ModelError(f"{name} is no model: it has no config.json", hint="give a folder in Hugging Face format")
    if here is None:
        return ModelFolder(name, path, revision=path.name, code=code)
    return ModelFolder(name if name == tiny.TINY else path.resolve().name, path, code=code)


def local_folder(name: str, *, hint: str) -> Path | None:
    """Return the folder of `actlab/tiny`, or the local one of that name; None where the name can be one on the hub.

    Raises:
        ModelError: It can only be a folder, and there is none.
    """
    if name == tiny.TINY:
        return tiny.tiny_folder()
    path = Path(os.path.expanduser(name))
    if not path.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(f"there is no folder {name}", hint=hint)
    return path if path.is_dir() else None


def refuse_adapter(name: str, folder: Path) -> None:
    """Refuse a folder with an adapter: transformers applies it where peft is installed, and ignores it elsewhere.

    Raises:
        ModelError: There is one.
    """
    if not (folder / _ADAPTER).is_file():
        return
    hint = "merge it into its base model and save that: model.merge_and_unload().save_pretrained(DIR)"
    if (folder / "config.json").is_file():
        raise ModelError(
            f"{name} holds an adapter beside the model ({_ADAPTER}), which is applied only where peft is installed",
            hint=f"{hint}; for the model without it, move {_ADAPTER} away",
        )
    raise ModelError(f"{name} is an adapter ({_ADAPTER}), not a whole model", hint=hint)


def model_files(model: ModelFolder, *, remembered: bool = True) -> list[InputEntry]:
    """Return name, bytes and sha256 of every file that decides what the model computes.

    A plan may take remembered hashes; what asks whether the files are whole may not.

    Raises:
        ModelError: One in the hub's cache is damaged.
    """
    paths = [
        path
        for path in sorted(model.path.iterdir())
        if path.is_file() and path.suffix in _READ_SUFFIXES and path.name not in _NOT_READ
    ]
    if any(path.suffix == ".safetensors" for path in paths):
        paths = [path for path in paths if path.suffix != ".bin"]
    model.hashed.update(hashed_whole(paths, remembered=remembered))
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": model.hashed[path].sha256} for path in paths]


def hashed_whole(paths: Iterable[Path], *, remembered: bool = True) -> dict[Path, Hashed]:
    """Return the hashes of files, each compared with its name where it lies in the hub's cache.

    Raises:
        ModelError: One is damaged.
    """
    found = {path: remembered_hash(path) if remembered else measured_hash(path) for path in paths}
    for path, hashed in found.items():
        _refuse_damaged(path, hashed.sha256)
    return found


def _refuse_damaged(path: Path, sha256: str) -> None:
    """Refuse a file in the hub's cache whose bytes are not those that the hub names.

    Source: huggingface_hub names a blob by its etag, which is the sha256 of a file in LFS or Xet, and git's own
    hash of any other; https://huggingface.co/docs/hub/local-cache. A mirror's may be the sha1 of the bytes alone, and
    names of other lengths say nothing.
    """
    etag = _etag(path)
    if etag is None or etag in ((sha256,) if len(etag) == 64 else _sha1s(path)):
        return
    raise ModelError(
        f"{path.resolve()}, which is {path.name}, is damaged: its bytes are not those that the hub names {etag[:12]}",
        hint="delete that file, then rerun the command: it is downloaded again",
    )


def _etag(path: Path) -> str | None:
    """Return the hash by which the hub's cache names a file's bytes; None for a file elsewhere.

    A snapshot's file is a link to blobs/ETAG, which newer versions link on to bytes that several models share.
    """
    for _ in range(8):
        if path.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", path.name):
            return path.name
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _sha1s(path: Path) -> tuple[str, str]:
    """Return the hash that git gives a file's content, and that of the content alone."""
    of_git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    alone = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            of_git.update(piece)
            alone.update(piece)
    return of_git.hexdigest(), alone.hexdigest()


def refuse_changed(hashed: Mapping[Path, Hashed]) -> None:
    """Refuse files that were loaded and are not those that were hashed for the plan.

    Raises:
        ModelError: One has changed since.
    """
    for path, then in hashed.items():
        if not is_unchanged(path, then):
            raise ModelError(
                f"{path} changed after it was hashed for the plan",
                hint="rerun the command when nothing else writes to that folder",
            )


def weights_bytes(model: ModelFolder) -> int:
    """Return the bytes of a model's weight files."""
    return sum(file.stat().st_size for file in model.path.iterdir() if file.suffix in (".safetensors", ".bin"))


def fetch(name: str, revision: str | None, *, weights: bool = True, code: bool = False) -> Path:
    """Return the local snapshot of a model on the hub, downloaded where the hub's cache lacks it.

    Safetensors where there are any, `.bin` files otherwise; nothing from subfolders.

    Raises:
        ModelError: No such model or revision, no access, no network and nothing in the cache, or a damaged file
            there, weights not looked at.
    """
    small = [pattern for pattern in _SMALL if code or pattern != "*.py"]
    folder = _download(name, revision, [*small, *(["*.safetensors"] if weights else [])])
    if weights and not any(folder.glob("*.safetensors")):
        folder = _download(name, revision, [*small, "*.bin"])
    hashed_whole(path for pattern in small for path in folder.glob(pattern) if path.is_file())
    return folder


def fetch_folder(name: str) -> Path:
    """Return the local snapshot of a folder of a repository on the hub: "owner/repository/folder/in/it".

    Raises:
        ModelError: No such repository or folder, no access, or no network and nothing in the cache.
    """
    owner, repository, folder = name.split("/", 2)
    snapshot = _download(f"{owner}/{repository}", None, [f"{folder}/*"], ignore=None)
    if not (snapshot / folder).is_dir():
        raise ModelError(f"the repository {owner}/{repository} has no folder {folder}", hint="check it on its page")
    return snapshot / folder


def _download(name: str, revision: str | None, patterns: list[str], *, ignore: list[str] | None = _NOT) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=ignore))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"the model {name!r} is gated, and this login has no access to it",
            hint="accept its terms on its page, then log in with: hf auth login",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(
            f"there is no model {name!r}, neither as a folder here nor on the hub",
            hint="check its name; a private model needs a login (hf auth login)",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"the model {name!r} has no revision {revision!r}", hint="check --revision on its page"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"cannot fetch the model {name!r}: {first_line(error)}",
            hint="check the network, or give a local folder; actlab/tiny needs no network",
        ) from error
