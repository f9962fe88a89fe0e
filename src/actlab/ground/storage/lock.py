"""Advisory locks on files."""

import errno
import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from actlab.ground.storage.files import storage_errors

log = logging.getLogger("actlab")


class Lock:
    """An advisory lock on a file: held by one (exclusive) or by several that agree (shared)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change the kind that is held, and say whether it is held now."""
        with storage_errors(self.path):
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
                    log.warning("no file locks here (%s): see to it that no two runs write here", self.path.parent)
                    return True
                if self._is_the_file_by_that_name():
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
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the file while the lock is held, and give the lock back."""
        self.path.unlink(missing_ok=True)
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.release()
