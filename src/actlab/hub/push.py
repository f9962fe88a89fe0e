"""A sealed dataset goes to the hub: what the repository lacks is sent, what says that it is whole goes last.

A commit is whole or not at all, so a push that was stopped goes on with what is missing.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from actlab.ground.errors import ConfigError, StorageError
from actlab.ground.hashes import sha256_of
from actlab.ground.log import log
from actlab.ground.manifest import MANIFEST, METADATA, Manifest, damaged_files, read_manifest, stored_files
from actlab.ground.storage import is_complete
from actlab.ground.storage.plan import PLAN
from actlab.ground.verify import check_against_manifest
from actlab.hub.card import CARD, make_card
from actlab.hub.repository import Commit, NewFile, found, hub_errors, make, send

FILES_A_COMMIT = 100
BYTES_A_COMMIT = 1_000_000_000
_NOT_DATA = {CARD, ".gitattributes"}
"""What a repository may hold besides a dataset's files."""


class Pushed(NamedTuple):
    """What a push did."""

    repo_id: str
    """With its owner."""
    url: str
    private: bool
    commit: str
    """The repository's head: the whole dataset."""
    n_files_sent: int
    n_bytes_sent: int
    n_files_there: int
    """Needed not be sent."""
    n_files_deleted: int


def sizes_to_push(folder: Path, repo_id: str, *, verify: bool = True, quiet: bool = False) -> dict[str, int]:
    """Return what `push_dataset` would send to an empty repository: bytes by path, in the order of sending.

    The hub is asked nothing.

    Raises:
        ActlabError: As `push_dataset`, but for what only the hub can tell.
    """
    _check_name(repo_id)
    manifest = _sealed(folder)
    files = _files_of(folder, manifest, repo_id)
    if verify:
        _refuse_damage(folder, check_against_manifest(folder, manifest, quiet=quiet))
    return {file.path: file.n_bytes for file in files}


def refuse_push(repo_id: str, *, private: bool, overwrite: bool) -> None:
    """Refuse early what `push_dataset` of a dataset to be made would refuse later.

    That is the repository's name, the login, its being public, and files that it holds.

    Raises:
        ActlabError: As `push_dataset`.
    """
    _check_name(repo_id)
    repository = found(repo_id, private=private).repository
    there = sorted(repository.files.keys() - _NOT_DATA) if repository else []
    if there and not overwrite:
        raise StorageError(
            f"{repo_id} holds files already: {_some(there)}",
            hint="choose another repository, or give --overwrite to replace what is there",
        )


def push_dataset(
    folder: Path,
    repo_id: str,
    *,
    private: bool = True,
    overwrite: bool = False,
    verify: bool = True,
    quiet: bool = False,
) -> Pushed:
    """Send a sealed dataset to a dataset repository on the hub, which is made where there is none.

    The login is the hub client's own (`hf auth login`, or HF_TOKEN). Files that are there already are not sent
    again. `overwrite` replaces whatever else the repository holds; without it, only a card (README.md) may
    stand there, and stays unless the dataset brings its own. `verify` hashes the files before anything is sent.

    Raises:
        ConfigError: `repo_id` is no name of a repository.
        StorageError: The folder is no sealed dataset, or damaged; the repository is public and `private` is
            wanted, or it holds other files; or the hub refuses or cannot be reached, and what was sent stays.
    """
    _check_name(repo_id)
    manifest = _sealed(folder)
    hub, repo_id, repository = found(repo_id, private=private)
    files = _files_of(folder, manifest, repo_id)
    there = repository.files if repository else {}
    kept = {file.path for file in files if file.path in there and file.may_stay(there[file.path], overwrite=overwrite)}
    others = sorted(there.keys() - kept - _NOT_DATA)
    if others and not overwrite:
        raise StorageError(
            f"{repo_id} holds what is not of this dataset: {_some(others)}",
            hint="choose another --repo-id, or give --overwrite to replace what is there",
        )
    if others:  # what says that it is whole goes first and comes last, even where it is the same
        kept = {path for path in kept if not _says_whole(path)}
        others = sorted(there.keys() - kept - _NOT_DATA)
    if verify:
        _refuse_damage(folder, check_against_manifest(folder, manifest, quiet=quiet))
    commits = plan_commits([file for file in files if file.path not in kept], others)
    with hub_errors(repo_id):
        repository = repository or make(hub, repo_id, private=private)
        if repository.private and not private:
            log.warning("%s is private, and stays so", repo_id)
        head = send(hub, repo_id, repository.head, commits, quiet=quiet)
    return Pushed(
        repo_id=repo_id,
        url=f"{hub.endpoint}/datasets/{repo_id}",
        private=repository.private,
        commit=head,
        n_files_sent=len(files) - len(kept),
        n_bytes_sent=sum(file.n_bytes for file in files if file.path not in kept),
        n_files_there=len(kept),
        n_files_deleted=len(set(others) - {file.path for file in files}),
    )


def plan_commits(files: Iterable[NewFile], others: Iterable[str]) -> list[Commit]:
    """Divide what is to be sent into commits, so that no state between them passes for a whole dataset.

    Data come first, in the order given; then, in one commit, the card, the manifest and each `metadata.json`.
    `others` are the paths in the repository that are to be replaced or deleted: a manifest and a
    `metadata.json` among them go with the first commit, the rest with the last.
    """
    files = sorted(files, key=_turn)
    commits = [Commit(batch, []) for batch in _batches(file for file in files if _turn(file) == 0)]
    closing = Commit([file for file in files if _turn(file) > 0], [])
    replaced = {file.path for file in files}
    for path in others:
        if commits and _says_whole(path):
            commits[0].deleted.append(path)
        elif path not in replaced:
            closing.deleted.append(path)
    return [commit for commit in [*commits, closing] if commit.files or commit.deleted]


def _batches(files: Iterable[NewFile]) -> Iterator[list[NewFile]]:
    batch: list[NewFile] = []
    for file in files:
        n_bytes = sum(one.n_bytes for one in batch) + file.n_bytes
        if batch and (len(batch) == FILES_A_COMMIT or n_bytes > BYTES_A_COMMIT):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _turn(file: NewFile) -> int:
    """Return 0 for data, then 1, 2 and 3 for what goes last, in that order."""
    return {CARD: 1, MANIFEST: 2}.get(file.path, 3 if _says_whole(file.path) else 0)


def _says_whole(path: str) -> bool:
    return PurePosixPath(path).name in (MANIFEST, METADATA)


def _check_name(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(
            f"--repo-id {repo_id!r} cannot be the name of a repository",
            hint="use OWNER/NAME or NAME, of letters, digits, -, _ and .",
        ) from error


def _sealed(folder: Path) -> Manifest:
    """Return the manifest of a dataset that is whole, as far as names and sizes can tell."""
    if not folder.is_dir():
        what = "is a file, not a dataset's folder" if folder.is_file() else "is not there"
        raise StorageError(f"{folder} {what}", hint="name a sealed dataset's folder")
    if (folder / PLAN).is_file() or folder.resolve().name.endswith(".partial"):
        raise StorageError(
            f"{folder} is still in progress", hint="run the command that makes it to its end, then push what it seals"
        )
    manifest = read_manifest(folder)
    if manifest is None:
        above = folder.resolve().parent
        hint = f"push the whole dataset: {above}" if read_manifest(above) else "name a dataset that actlab has sealed"
        raise StorageError(f"{folder} has no {MANIFEST}", hint=hint)
    _refuse_damage(folder, damaged_files(folder, stored_files(manifest)))
    if not is_complete(folder):
        raise StorageError(f"{folder} has no {METADATA}, so it is not whole", hint="make it again")
    return manifest


def _refuse_damage(folder: Path, problems: list[str]) -> None:
    if problems:
        raise StorageError(
            f"{folder} is damaged: {_some(problems, most=1)}",
            hint=f"see all that is wrong (actlab verify {folder}), and make it again",
        )


def _files_of(folder: Path, manifest: Manifest, repo_id: str) -> list[NewFile]:
    """Return the files that the manifest names, itself, and a card where there is none; in the order of sending."""
    folder = folder.absolute()
    files = [NewFile(one.path, one.bytes, one.sha256, folder / one.path) for one in stored_files(manifest)]
    if CARD not in {file.path for file in files}:
        card = make_card(folder, manifest, repo_id).encode()
        files.append(NewFile(CARD, len(card), hashlib.sha256(card).hexdigest(), card))
    path = folder / MANIFEST
    files.append(NewFile(MANIFEST, path.stat().st_size, sha256_of(path), path))
    return sorted(files, key=_turn)


def _some(names: list[str], *, most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
