"""Every finished call on a line of its own, so that none is ever asked for again."""

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from actlab.ground.errors import DataError
from actlab.ground.limits import LONG_LINE, lines_of
from actlab.ground.storage.files import storage_errors
from actlab.servers.calls import Reply
from actlab.servers.thoughts import without_thoughts


class Journal:
    """A file of replies that grows by a line a call; use it in a `with` block.

    A last line that was torn by a stop is cut off when the file is opened. With `forget_failures` the replies
    that failed are asked for again: for a server that was mended meanwhile. With `retry_if_all_failed` so are those of
    a journal in which all failed.

    Raises:
        DataError: Another line is not a journal's.
    """

    def __init__(self, path: Path, *, forget_failures: bool = False, retry_if_all_failed: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._replies, self._n_whole_bytes, self._n_torn_bytes = _read(path)
        if forget_failures or (retry_if_all_failed and all(reply.failed for reply in self._replies.values())):
            self._replies = {key: reply for key, reply in self._replies.items() if not reply.failed}

    def __len__(self) -> int:
        return len(self._replies)

    def __enter__(self) -> Self:
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
            if self._n_torn_bytes and self._file.tell() == self._n_whole_bytes + self._n_torn_bytes:
                os.truncate(self.path, self._n_whole_bytes)  # else another run has written since: nothing is cut
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, k: int, key: str) -> Reply | None:
        """Return the reply to request k, if it was asked for in the same words of the same model."""
        return self._replies.get((k, key))

    def append(self, key: str, reply: Reply) -> None:
        """Write a reply; after this it is safe from a stop. Any thread may."""
        line = json.dumps({"key": key, **reply.as_json()}, ensure_ascii=False, separators=(",", ":"))
        with self._lock, storage_errors(self.path):
            assert self._file is not None, "a journal is written inside its with block"
            self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
            self._file.flush()
            self._replies[reply.k, key] = reply


def _read(path: Path) -> tuple[dict[tuple[int, str], Reply], int, int]:
    """Return the replies, the latest of each, the length of the whole lines, and of a torn one after them."""
    replies: dict[tuple[int, str], Reply] = {}
    n_bytes = 0
    if not path.exists():
        return replies, 0, 0
    with storage_errors(path), path.open("rb") as file:
        for number, line in enumerate(lines_of(file), start=1):
            if line is not None and not line.endswith(b"\n"):
                return replies, n_bytes, len(line)
            try:
                if line is None:
                    raise ValueError(LONG_LINE)
                fields = json.loads(line.decode("utf-8", "surrogatepass"))
                key = fields.pop("key")
                reply = without_thoughts(Reply.from_json(fields))
                replies[reply.k, key] = reply
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{path}:{number} is not a line of a journal of replies",
                    hint="was it edited by hand? remove that line and its text is asked for again",
                ) from error
            n_bytes += len(line)
    return replies, n_bytes, 0
