"""Files that get their names together, when a record that names them stands: exclusive without a lock.

Several processes may make the same files at once, each delayed or killed at any moment. Each writes its own under
temporary names and then tries to create the record, which one of them alone can do. Only files that a record names
ever get a dataset's names, so a file under its name is the one whose hash is in the record. The pending record, which
is the record under a temporary name, stays until the files have their names: whoever finds one finishes the renaming.

What killed processes leave stays until the dataset is published, since nobody can tell it from a slow process's files:
a lock may be seen by one machine alone.
"""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from actlab.ground.errors import ActlabError
from actlab.ground.manifest import Stored
from actlab.ground.storage.files import is_gone, make_folders, storage_errors, sync_folder, write_through
from actlab.ground.storage.plan import output_of
from actlab.ground.temporary import TEMPORARY, new_token, temporary_of

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NewFile(NamedTuple):
    """A file that a unit or a seal writes."""

    path: str
    data: bytes | Callable[[BinaryIO], None]
    """Its bytes, or a function that writes them."""
    rows: int | None = None


class Aside:
    """Files of one unit or one sealing, under temporary names until `name`; an error in a `with` block removes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_lost = False
        """Whether the folder has gone: files are only measured then."""
        self._token = new_token()
        self._paths: list[str] = []
        self._pending: Path | None = None

    def write(self, new: NewFile) -> Stored:
        """Write one file and return its entry for the manifest."""
        with storage_errors(self.folder / new.path), self._new_file(new.path) as file:
            return _fill(file, new)

    def _new_file(self, path: str) -> BinaryIO:
        temporary = temporary_of(self.folder / path, self._token)
        if not self.is_lost:
            try:
                make_folders(self.folder, temporary.parent)
                self._paths.append(path)
                return open(temporary, "wb", opener=_open_to_read_too)
            except OSError as error:
                if not is_gone(error):
                    raise
                self.is_lost = True
        return tempfile.TemporaryFile("wb", dir=self.folder.parent)

    def settle(self, record: Path, data: bytes) -> bool:
        """Create the record unless there is one, and say whether the one that is there now is this one."""
        self._pending = temporary_of(record, self._token)
        with storage_errors(record):
            _sync_folders_of(self.folder, self._paths)
            with open(self._pending, "wb") as file:
                write_through(file, data)
            is_new = link_new(self._pending, record)
            sync_folder(record.parent)
        return is_new

    def name(self, only: str | None = None) -> None:
        """Give the files their names, or one of them: for who created the record, or found one with the same hashes.

        Raises:
            GoneError: One is there by neither of its names.
        """
        with storage_errors(self.folder):
            _name_files(self.folder, self._token, [path for path in self._paths if only in (None, path)])
        self.drop()

    def __enter__(self) -> "Aside":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | ActlabError | KeyboardInterrupt):  # else publication removes them
            self.drop()

    def drop(self) -> None:
        """Remove what still has a temporary name, wherever it is now.

        A file that is being created while its folder is published may come to lie in the dataset.
        """
        temporary = [temporary_of(self.folder / path, self._token) for path in self._paths]
        temporary += [self._pending] if self._pending is not None else []
        for place in (self.folder, output_of(self.folder)):
            for path in temporary if place.is_dir() else ():
                with contextlib.suppress(OSError):
                    (place / path.relative_to(self.folder)).unlink()


def finish_naming(folder: Path, record: Path, files: Iterable[Stored], pending: Iterable[Path]) -> None:
    """Give a record's files the names that its maker, stopped or slow, did not give them yet."""
    for one in pending:
        with storage_errors(record), contextlib.suppress(FileNotFoundError):
            if one.read_bytes() == record.read_bytes():
                token = one.name.removeprefix(TEMPORARY).split("-")[0]
                _name_files(folder, token, [file.path for file in files])
                one.unlink()


def is_aside(name: str) -> bool:
    """Whether a name is a temporary one."""
    return name.startswith(TEMPORARY)


def _name_files(folder: Path, token: str, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            os.replace(temporary_of(folder / path, token), folder / path)
        except FileNotFoundError:
            if not (folder / path).exists():  # else another process gave it its name
                raise
    _sync_folders_of(folder, paths)


def _sync_folders_of(folder: Path, paths: Iterable[str]) -> None:
    for parent in {(folder / path).parent for path in paths}:
        sync_folder(parent)


def _open_to_read_too(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_WRONLY | os.O_RDWR, 0o666)


def _fill(file: BinaryIO, new: NewFile) -> Stored:
    """Write a file's bytes and hash them, by the open file: its name may be taken away meanwhile."""
    write_through(file, new.data)
    if isinstance(new.data, bytes):
        return Stored(new.path, len(new.data), hashlib.sha256(new.data).hexdigest(), new.rows)
    with open(os.dup(file.fileno()), "rb") as again:
        again.seek(0)
        sha256 = hashlib.file_digest(again, "sha256").hexdigest()
        return Stored(new.path, os.fstat(again.fileno()).st_size, sha256, new.rows)


def link_new(source: Path, target: Path) -> bool:
    """Give a whole file a second name that nothing has yet, in one step, and say whether it has it now."""
    try:
        os.link(source, target)
    except FileExistsError:
        # a server whose answer was lost is asked again and says this of its own success
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.stat(source), os.stat(target))
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _copy_new(source, target)
    return True


def _copy_new(source: Path, target: Path) -> bool:
    """Do what `link_new` does where there are no hard links: a stop may leave half a record, which counts as none."""
    try:
        with open(target, "xb") as file:
            write_through(file, source.read_bytes())
            return os.path.samestat(os.fstat(file.fileno()), os.stat(target))
    except FileExistsError:
        return False
