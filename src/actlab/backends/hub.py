"""Models on the hub: fetched into its own cache, by its own client and login."""

import re
from pathlib import Path

from actlab.ground.errors import ActlabError, ModelError

_SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "*.py", "*.tiktoken"]
_NOT = ["*/*", "consolidated*"]


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


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=_NOT))
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
            f"cannot fetch the model {name!r}: {_first_line(error)}",
            hint="check the network, or give a local folder; actlab/tiny needs no network",
        ) from error


def _unknown(name: str) -> ActlabError:
    return ModelError(
        f"there is no model {name!r}, neither as a folder here nor on the hub",
        hint="check its name; a private model needs a login (hf auth login)",
    )


def _first_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).strip().splitlines()[0]
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_…", line)[:200]
