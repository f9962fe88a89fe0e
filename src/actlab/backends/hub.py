"""Where models come from: actlab's own, local folders, the hub through its own client and login."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actlab.backends import tiny
from actlab.ground.errors import ActlabError, ConfigError, ModelError, scrubbed
from actlab.ground.manifest import sha256_of

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
    if name == tiny.TINY:
        return ModelFolder(name, tiny.tiny_folder())
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        refuse_adapter(name, path)
        if not (path / "config.json").is_file():
            raise ModelError(f"{name} is no model: it has no config.json", hint="give a folder in Hugging Face format")
        return ModelFolder(path.resolve().name, path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no folder {name}", hint="check the path")
    snapshot = fetch(name, revision, weights=weights, code=code)
    refuse_adapter(name, snapshot)
    return ModelFolder(name, snapshot, revision=snapshot.name)


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


def model_files(model: ModelFolder) -> list[dict[str, Any]]:
    """Return name, bytes and sha256 of every file that decides what the model computes."""
    paths = [
        path
        for path in sorted(model.path.iterdir())
        if path.is_file() and path.suffix in _READ_SUFFIXES and path.name not in _NOT_READ
    ]
    if any(path.suffix == ".safetensors" for path in paths):
        paths = [path for path in paths if path.suffix != ".bin"]
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths]


def _sha256(path: Path) -> str:
    """Return a file's sha256; the hub's cache names its large files by it."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return sha256_of(path)


def weights_bytes(model: ModelFolder) -> int:
    """Return the bytes of a model's weight files."""
    return sum(file.stat().st_size for file in model.path.iterdir() if file.suffix in (".safetensors", ".bin"))


def fetch(name: str, revision: str | None, *, weights: bool = True, code: bool = False) -> Path:
    """Return the local snapshot of a model on the hub, downloaded where the hub's cache lacks it.

    Safetensors where there are any, `.bin` files otherwise; nothing from subfolders.

    Raises:
        ModelError: No such model or revision, no access, or no network and nothing in the cache.
    """
    small = [pattern for pattern in _SMALL if code or pattern != "*.py"]
    folder = _download(name, revision, [*small, *(["*.safetensors"] if weights else [])])
    if weights and not any(folder.glob("*.safetensors")):
        folder = _download(name, revision, [*small, "*.bin"])
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
    except errors.RepositoryNotFoundError as error:
        raise _unknown(name) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"the model {name!r} has no revision {revision!r}", hint="check --revision on its page"
        ) from error
    except errors.HFValidationError as error:
        raise _unknown(name) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"cannot fetch the model {name!r}: {first_line(error)}",
            hint="check the network, or give a local folder; actlab/tiny needs no network",
        ) from error


def _unknown(name: str) -> ActlabError:
    return ModelError(
        f"there is no model {name!r}, neither as a folder here nor on the hub",
        hint="check its name; a private model needs a login (hf auth login)",
    )


def first_line(error: BaseException) -> str:
    """Return the head of an error's message, tokens removed."""
    line = (str(error) or type(error).__name__).strip().splitlines()[0]
    return scrubbed(line)[:200]
