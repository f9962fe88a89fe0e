"""Advisory locks on files: they spare work, and nothing rests on them.

What several runs write into one folder is created exclusively and compared, so file systems without locks, and
those on which a lock is seen by one machine alone, cost work that is done twice and nothing else.
"""

import errno
import fcntl
import functools
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from actlab.ground.errors import StorageError
from actlab.ground.log import log
from actlab.ground.storage.files import storage_errors


class Lock:
    """An advisory lock on a file: held by one (exclusive) or by several that agree (shared)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_real = False
        """Whether it keeps others out: False before it is taken, and where there are no file locks."""
        self._descriptor: int | None = None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change the kind that is held, and say whether it is held now."""
        with storage_errors(self.path):
            if self.path.is_dir():
                raise StorageError(f"{self.path} is in the way", hint="move it: the lock of a run goes there")
            while True:
                if self._descriptor is None:
                    self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.release()
                    return False
                except OSError as error:
                    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                        raise
                    _say_that_there_are_none(self.path.parent)
                    return True
                if self._is_the_file_by_that_name():
                    self.is_real = True
                    return True
                self.release()  # its last holder removed it between our open and our lock

    def _is_the_file_by_that_name(self) -> bool:
        assert self._descriptor is not None
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock back."""
        self.is_real = False
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the file if the lock is held, and give the lock back. One that holds something is not actlab's."""
        if self._descriptor is not None and not os.fstat(self._descriptor).st_size:
            self.path.unlink(missing_ok=True)
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.release()


@functools.cache
def _say_that_there_are_none(folder: Path) -> None:
    log.warning(
        "no file locks in %s: two runs at once may do the same work twice. Their results are compared and never mixed; "
        "do not give --overwrite to more than one run at a time",
        folder,
    )
