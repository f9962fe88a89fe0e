"""A dataset repository on the hub, through the hub's own client and login: look into it, add to it, its errors."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from actlab.ground.errors import StorageError, first_line
from actlab.ground.progress import progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

_TYPE = "dataset"


class NewFile(NamedTuple):
    """A file as it goes to a repository."""

    path: str
    n_bytes: int
    sha256: str
    source: Path | bytes
    """Where it lies, or its content where it is made on the way."""

    def is_like(self, remote: "RepoFile") -> bool:
        """Whether a file in the repository has the same bytes, by what the hub says of it."""
        if remote.lfs is not None:
            return bool(remote.lfs.sha256 == self.sha256)
        return bool(remote.size == self.n_bytes and remote.blob_id == self._git_hash())

    def may_stay(self, remote: "RepoFile", *, overwrite: bool) -> bool:
        """Whether what the repository has by this name need not be replaced.

        A card may have been written there by hand, and is worth more than one that is made here.
        """
        return (isinstance(self.source, bytes) and not overwrite) or self.is_like(remote)

    def _git_hash(self) -> str:
        """Return git's name for the content: the sha1 of a header and the bytes."""
        hashed = hashlib.sha1(b"blob %d\0" % self.n_bytes)
        hashed.update(self.source if isinstance(self.source, bytes) else self.source.read_bytes())
        return hashed.hexdigest()


class Commit(NamedTuple):
    """What goes into one commit."""

    files: list[NewFile]
    deleted: list[str]


class Repository(NamedTuple):
    """A repository as it was found."""

    head: str
    private: bool
    files: "dict[str, RepoFile]"
    """The hub's own description of each file, by path."""


class Found(NamedTuple):
    """The hub's client, the repository's full name, and what it holds, None where there is none."""

    hub: "HfApi"
    repo_id: str
    repository: Repository | None


def found(repo_id: str, *, private: bool) -> Found:
    """Look for a repository; a name alone is the user's own.

    Raises:
        StorageError: Nobody is logged in; everybody can read it, and `private` is wanted; or the hub fails.
    """
    from huggingface_hub import HfApi

    hub = HfApi(library_name="actlab", library_version=version("actlab"))
    with hub_errors(repo_id):
        user = hub.whoami()["name"]
        full = repo_id if "/" in repo_id else f"{user}/{repo_id}"
        return Found(hub, full, look(hub, full, private=private))


def look(hub: "HfApi", repo_id: str, *, private: bool) -> Repository | None:
    """Return what a repository holds, or None where there is none.

    Raises:
        StorageError: Everybody can read it, and `private` is wanted.
    """
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        info = hub.repo_info(repo_id, repo_type=_TYPE)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise StorageError(
            f"{repo_id} is there already, and everybody can read it",
            hint="choose another --repo-id, or give --no-private if that is meant",
        )
    tree = hub.list_repo_tree(repo_id, recursive=True, revision=info.sha, repo_type=_TYPE)
    return Repository(info.sha, info.private, {one.path: one for one in tree if isinstance(one, RepoFile)})


def make(hub: "HfApi", repo_id: str, *, private: bool) -> Repository:
    """Make a repository and return it as it is then."""
    hub.create_repo(repo_id, repo_type=_TYPE, private=private)
    made = look(hub, repo_id, private=private)
    assert made is not None
    return made


def send(hub: "HfApi", repo_id: str, head: str, commits: list[Commit], *, quiet: bool) -> str:
    """Make the commits, each on top of the one before, and return the head that comes of it."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    total = sum(len(commit.files) for commit in commits)
    with _no_bars_of_the_hub(), progress(f"pushing to {repo_id}", total=total, unit="file", quiet=quiet) as more:
        for number, commit in enumerate(commits, start=1):
            added = [CommitOperationAdd(file.path, file.source) for file in commit.files]
            deleted = [CommitOperationDelete(path, is_folder=False) for path in commit.deleted]
            made = hub.create_commit(
                repo_id,
                [*added, *deleted],
                commit_message=f"actlab push, {number} of {len(commits)}",
                repo_type=_TYPE,
                parent_commit=head,  # so that the hub refuses where somebody else wrote meanwhile
            )
            head = made.oid
            more(len(added))
    return head


@contextmanager
def _no_bars_of_the_hub() -> Iterator[None]:
    """Borrow the hub client's own bars: gone inside the block, back after it."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            enable_progress_bars()


_AGAIN = "run the same command again: what was sent stays"
_BY_STATUS = {
    401: ("the hub does not accept this login", "log in again: hf auth login (HF_TOKEN, where it is set, comes first)"),
    403: ("this login may not write to {repo_id}", "check the owner, or log in with a token that may: hf auth login"),
    404: ("there is no {repo_id}, or this login may not see it", "check --repo-id and its owner"),
    409: ("{repo_id} is there already, or was changed meanwhile", _AGAIN),
    412: ("{repo_id} was changed meanwhile", _AGAIN),
    429: ("the hub says: too many requests", f"wait a while, then {_AGAIN}"),
}


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Say what the hub or its client refused, and what to do about it."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise StorageError("you are not logged in to the hub", hint="log in: hf auth login, or set HF_TOKEN") from error
    except errors.OfflineModeIsEnabled as error:
        raise StorageError("HF_HUB_OFFLINE is set, so the hub is not asked", hint="unset HF_HUB_OFFLINE") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in _BY_STATUS:
            message, hint = _BY_STATUS[status]
            raise StorageError(message.format(repo_id=repo_id), hint=hint) from error
        raise StorageError(f"the hub failed or refused ({status}): {first_line(error)}", hint=_AGAIN) from error
    except (errors.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: of the uploader, hf_xet
        if isinstance(error, OSError) and error.filename is not None:
            raise  # one of our files, not the network
        raise StorageError(
            f"cannot reach the hub: {first_line(error)}", hint=f"check the network, then {_AGAIN}"
        ) from error
