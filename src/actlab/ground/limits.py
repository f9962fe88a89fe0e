"""How much is read at once: what a foreign file or server sends costs no more memory than this.

A tokenizer takes some 200 bytes of memory a byte of text, up to 300 for one without a space, and JSON's reader up to
25 a byte: a line of 300 MB took 23 GB.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, AnyStr, TypeVar

from actlab.ground.errors import ActlabError, DataError, StorageError

if TYPE_CHECKING:
    import zipfile

    import yaml

    YamlRules = type[yaml.SafeLoader] | type[yaml.CSafeLoader] | type[yaml.BaseLoader]

Item = TypeVar("Item")

LINE_BYTES = 16 << 20
"""The longest line of a JSONL or CSV file, its end included; in CSV files, characters count."""
TEXT_BYTES = 4 << 20
"""The longest text that is tokenised, in UTF-8: the Bible is about as long. A line may hold several, and escapes."""
JSON_BYTES = 256 << 20
"""The largest JSON file: the manifest of a million files."""
YAML_BYTES = 1 << 20
YAML_NODES = 200_000
"""With every alias written out."""
YAML_DEPTH = 100

_MOST_INFLATED = 1032
"""Bytes that a deflated one can stand for, by zlib's own account (https://zlib.net/zlib_tech.html)."""

LONG_LINE = "line longer than 16 MiB"
LONG_TEXT = "text longer than 4 MiB"
SHORTER_HINT = "cut it into several: a line has at most 16 MiB, a text 4 MiB"
_PIECE = 1 << 20


def lines_of(file: IO[AnyStr]) -> Iterator[AnyStr | None]:
    """Yield a file's lines with their ends, and None in the place of one that is too long, which is never held whole.

    >>> import io
    >>> [line and len(line) for line in lines_of(io.BytesIO(b"a\\n" + b"b" * (17 << 20) + b"\\nc"))]
    [2, None, 1]
    """
    while line := file.readline(LINE_BYTES + 1):
        if len(line) <= LINE_BYTES:
            yield line
            continue
        while line and not is_ended(line):
            line = file.readline(_PIECE)
        yield None


def is_ended(line: str | bytes) -> bool:
    """Whether a piece of a file is the last of its line."""
    return line.endswith(("\n", "\r")) if isinstance(line, str) else line.endswith(b"\n")


def is_too_long(text: str) -> bool:
    """Whether a text is longer than one that is tokenised.

    >>> is_too_long("é" * (2 << 20)), is_too_long("é" * (2 << 20) + "é")
    (False, True)
    """
    if len(text) <= TEXT_BYTES // 4:
        return False
    return len(text) > TEXT_BYTES or len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES


def bounded_batches(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield texts in lists of at most `most`, each of no more than one long text's characters, or of one text.

    >>> [len(some) for some in bounded_batches(["a", "b", "c" * TEXT_BYTES, "d"], most=8)]
    [2, 1, 1]
    """
    return batches_within(texts, most, len, TEXT_BYTES)


def batches_within(
    items: Iterable[Item], most: int, size: Callable[[Item], int], most_size: int
) -> Iterator[list[Item]]:
    """Yield items in lists of at most `most`, each no larger together than `most_size`, or of one item."""
    some: list[Item] = []
    total = 0
    for item in items:
        if some and (len(some) == most or total + size(item) > most_size):
            yield some
            some, total = [], 0
        some.append(item)
        total += size(item)
    if some:
        yield some


def read_at_most(path: Path, most: int = JSON_BYTES) -> bytes:
    """Read a file that is not larger than `most` bytes.

    Raises:
        OSError: It cannot be read.
        StorageError: It is larger, goes on without end, or is a named pipe, which may never begin.
    """
    refuse_pipe(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise _too_large(path, most)
        return _whole(file, most, path)


def read_text_at_most(path: Path, most: int, encoding: str = "utf-8") -> str:
    """Read a text file with its line ends made line feeds; `most` counts characters.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not in that encoding.
        StorageError: As for `read_at_most`.
    """
    refuse_pipe(path)
    with path.open(encoding=encoding) as file:
        return _whole(file, most, path)


def _whole(file: IO[AnyStr], most: int, path: Path) -> AnyStr:
    pieces, left = [], most + 1  # a file object sets aside as much memory as it is asked for
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise _too_large(path, most)
    return file.read(0).join(pieces)


def _too_large(path: Path, most: int) -> StorageError:
    return StorageError(f"{path} has more than {most >> 20} MiB", hint="is it the right file?")


def refuse_pipe(path: Path) -> None:
    """Refuse a named pipe, which may never begin, and is no file to those who look for one.

    Raises:
        StorageError: It is one.
    """
    if path.resolve().is_fifo():  # the one of a shell's <(command) has no name
        raise StorageError(f"{path} is a named pipe", hint="write what comes out of it to a file")


def needed_file(path: str | Path, missing: str, *, hint: str, kind: type[ActlabError] = DataError) -> Path:
    """Return a file's path with "~" spelt out, or say that the file is missing.

    Raises:
        ActlabError: Of the `kind`, as "there is no split splits.json", where `missing` is "there is no split".
        StorageError: It is a named pipe.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        refuse_pipe(path)
        raise kind(f"{missing} {path}", hint=hint)
    return path


def refuse_false_size(info: "zipfile.ZipInfo") -> None:
    """Refuse a member of an archive that says that it is larger than what is stored of it can be.

    Raises:
        ValueError: It does.
    """
    import zipfile

    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _MOST_INFLATED}.get(info.compress_type)
    if most is not None and info.file_size > most * info.compress_size:
        raise ValueError(f"{info.filename} says {info.file_size} bytes, and {info.compress_size} are stored")


def refuse_large_yaml(text: str, loader: "YamlRules", where: str, kind: type[ActlabError]) -> None:
    """Refuse a YAML text before it is built that would be huge with its aliases written out, or nests too deep.

    Raises:
        ActlabError: Of the kind given: it is too large, too deep, or has an anchor that contains itself.
        yaml.YAMLError: It is not YAML.
    """
    import yaml

    if len(text) > YAML_BYTES:
        raise kind(f"{where} has more than {YAML_BYTES >> 20} MiB", hint="is it the right file?")
    counts: dict[str, int | None] = {}
    """Nodes below an anchor; None while it is open."""
    open_nodes: list[tuple[str | None, int]] = []
    n_nodes = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent):
            count = counts.get(str(event.anchor), 1)  # without an anchor it is no YAML, as the loader says
            if count is None:
                raise kind(f"{where} has an anchor that contains itself", hint="write its settings out")
            n_nodes += count
        elif isinstance(event, yaml.NodeEvent):
            n_nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, n_nodes))
                counts |= {event.anchor: None} if event.anchor else {}
            elif event.anchor:
                counts[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                counts[anchor] = n_nodes - before + 1
        if n_nodes > YAML_NODES:
            raise kind(f"{where} has more than {YAML_NODES} entries, its aliases written out", hint="make it smaller")
        if len(open_nodes) > YAML_DEPTH:
            raise kind(f"{where} nests more than {YAML_DEPTH} levels deep", hint="make it flatter")
