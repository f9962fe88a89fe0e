"""NPZ files, read a few bytes at a time: an element costs its own page, not its array.

A stored member is read at its offset with `pread`, read-ahead switched off; a compressed one is inflated in
bounded pieces, from its start to the last byte wanted. Nothing in a file is executed, objects are refused.
"""

import functools
import io
import itertools
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
from jaxtyping import Int, Shaped

from actlab.ground.errors import DataError, foreign_errors
from actlab.ground.hashes import FileState
from actlab.ground.limits import refuse_false_size

_HEAD_BYTES = 1024
"""Read at a member's start: its local header, its array header and, of a small array, all of it."""
_PIECE_BYTES = 64 << 10
"""Below the size from which the C library asks the system for each piece anew, page faults and all."""
_GAP_BYTES = 4096
"""Elements nearer than a page are fetched together."""
_SMALL_BYTES = 64 << 20
"""No array that is read whole is larger."""
_HINT = "is it whole, and an NPZ? Make it again, or take it away"


class ArrayHeader(NamedTuple):
    """What an array's header says."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    is_fortran: bool
    n_header_bytes: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the elements."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True)
class _Member:
    """Where an array lies in the file."""

    name: str
    header: ArrayHeader
    offset: int
    """Of the member's data, array header included, from the file's start."""
    n_stored_bytes: int
    is_deflated: bool
    crc: int


class _Elements:
    """An array's elements on their way out of its bytes, one part after the other."""

    def __init__(self, header: ArrayHeader, pieces: Iterator[bytes]) -> None:
        self.start = 0
        """The first element that is still at hand."""
        self.here = np.empty(0, header.dtype)
        self._pieces = pieces
        self._n_header_bytes_left = header.n_header_bytes
        self._rest = b""

    def take(self, places: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        """Return the elements at ascending places, none before `start`.

        Raises:
            EOFError: The array ends before.
        """
        picked = np.empty(len(places), self.here.dtype)
        first = 0
        while first < len(places):
            last = int(np.searchsorted(places, self.start + len(self.here)))
            picked[first:last] = self.here[places[first:last] - self.start]
            first = last
            if first < len(places) and not self.go_on():
                raise EOFError("it ends before its arrays do")
        return picked

    def go_on(self) -> bool:
        """Put the next part at hand; False where there is none."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        skipped = min(self._n_header_bytes_left, len(piece))
        self._n_header_bytes_left -= skipped
        data = self._rest + piece[skipped:] if self._rest or skipped else piece
        self.start += len(self.here)
        n_here = len(data) // max(1, self.here.itemsize)
        self.here = np.frombuffer(data, self.here.dtype, count=n_here)
        self._rest = data[n_here * self.here.itemsize :]
        return True


class NpzReader:
    """One NPZ file. Arrays are looked at inside `with reader:`, which may be entered again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._depth = 0
        """How many `with` blocks it is in."""
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self._members: dict[str, _Member] = {}
        self._state: FileState | None = None
        self._inflating: dict[int, _Elements] = {}
        """Compressed arrays that are half read, by their offset."""

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1:
            try:
                self._open()
            except DataError:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            self._file.close()
            self._file = None
            self._inflating.clear()

    def _open(self) -> None:
        with self._errors():
            self._file = self.path.open("rb", buffering=0)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            state = FileState.by(os.fstat(self._file.fileno()))
            if self._state is None:
                with zipfile.ZipFile(self._file) as archive:
                    for info in archive.infolist():
                        self._infos[info.filename.removesuffix(".npy")] = info
                self._state = state
            elif self._state != state:
                raise DataError(f"{self.path} changed during the run", hint="run again when nobody writes to it")

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    @property
    def checksums(self) -> list[tuple[str, int, int]]:
        """Name, bytes and checksum of each array as the file's own directory tells, so nothing is read."""
        return [(name, info.file_size, info.CRC) for name, info in self._infos.items()]

    @property
    def names(self) -> list[str]:
        """The arrays' names, in the file's order."""
        return list(self._infos)

    def header(self, name: str) -> ArrayHeader:
        """Return an array's dtype, shape and order.

        Raises:
            DataError: There is no such array, or it is damaged, encrypted or made of objects.
        """
        return self._member(name).header

    def array(self, name: str, *, whole: bool = False) -> Shaped[np.ndarray, "..."]:
        """Read a small array, or with `whole` one of any size, and compare it with its checksum.

        Raises:
            DataError: There is none, it is damaged, or it is larger than 64 MiB.
        """
        header = self.header(name)
        if header.n_bytes > _SMALL_BYTES and not whole:
            raise DataError(f"{self.path}: {name} is too large, {header.n_bytes} bytes", hint=_HINT)
        values = np.empty(int(np.prod(header.shape)), header.dtype)
        start = 0
        for part in self.parts(name):
            values[start : start + len(part)] = part
            start += len(part)
        return values.reshape(header.shape, order="F" if header.is_fortran else "C")

    def parts(self, name: str) -> Iterator[Shaped[np.ndarray, " n"]]:
        """Yield an array's elements in the file's order, in bounded parts, and compare them with their checksum.

        Raises:
            DataError: There is no such array, or it is damaged.
        """
        member = self._member(name)
        elements = _Elements(member.header, self._pieces(member, is_summed=True))
        with self._errors():
            while elements.go_on():
                yield elements.here

    def pick(self, name: str, index: tuple[np.integer | Int[np.ndarray, "..."], ...]) -> Shaped[np.ndarray, "..."]:
        """Return `array[index]` for whole numbers or arrays of them, one for each dimension, by their bytes alone.

        Raises:
            DataError: There is no such array, it is damaged, or the index lies outside.
        """
        member = self._member(name)
        header = member.header
        arrays = np.broadcast_arrays(*index)
        if len(arrays) != len(header.shape):
            raise DataError(f"{self.path}: {name} has {len(header.shape)} dimensions", hint=_HINT)
        order = "F" if header.is_fortran else "C"
        try:
            places = np.asarray(np.ravel_multi_index(arrays, header.shape, order=order)).reshape(-1)  # type: ignore[call-overload]
        except ValueError as error:
            raise DataError(f"{self.path}: {name} is only {header.shape}", hint=_HINT) from error
        sorting = slice(None) if (places[1:] >= places[:-1]).all() else np.argsort(places, kind="stable")
        picked = np.empty(len(places), header.dtype.newbyteorder("="))
        with self._errors():
            take = self._inflate_at if member.is_deflated else self._read_at
            picked[sorting] = take(member, places[sorting])
        return picked.reshape(arrays[0].shape)

    def _read_at(self, member: _Member, places: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        """Return the elements at ascending places of a stored array: near ones by one read."""
        header = member.header
        picked = np.empty(len(places), header.dtype)
        size = header.dtype.itemsize
        steps = (np.diff(places) * size > _GAP_BYTES) | (np.diff(places * size // _PIECE_BYTES) > 0)
        bounds = [0, *(np.flatnonzero(steps) + 1).tolist(), len(places)]
        start = member.offset + header.n_header_bytes
        for first, last in itertools.pairwise(bounds):
            if first == last:
                continue
            low, high = int(places[first]), int(places[last - 1]) + 1
            data = self._pread((high - low) * size, start + low * size)
            picked[first:last] = np.frombuffer(data, header.dtype)[places[first:last] - low]
        return picked

    def _inflate_at(self, member: _Member, places: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        """Return the elements at ascending places of a compressed array, and stop after the last.

        The next call goes on from there, unless it asks for something before: rows that are asked for in the
        file's order are inflated once.
        """
        inflating = self._inflating.get(member.offset)
        if inflating is None or (len(places) and places[0] < inflating.start):
            inflating = self._inflating[member.offset] = _Elements(member.header, self._pieces(member))
        return inflating.take(places)

    def _pieces(self, member: _Member, *, is_summed: bool = False) -> Iterator[bytes]:
        """Yield a member's bytes, array header included, in bounded pieces; `is_summed`, the last is the checksum's."""
        n_bytes, crc, n_seen = member.header.n_header_bytes + member.header.n_bytes, 0, 0
        for piece in self._inflated(member) if member.is_deflated else self._stored(member):
            n_seen += len(piece)
            if member.is_deflated and n_seen > n_bytes:
                raise self._damaged("it holds more than its arrays say")
            if is_summed:
                crc = zlib.crc32(piece, crc)
            yield piece
        if is_summed and (crc != member.crc or n_seen != n_bytes):
            raise self._damaged(f"the checksum of {member.name} differs")

    def _stored(self, member: _Member) -> Iterator[bytes]:
        for done in range(0, member.n_stored_bytes, _PIECE_BYTES):
            yield self._pread(min(_PIECE_BYTES, member.n_stored_bytes - done), member.offset + done)

    def _inflated(self, member: _Member) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        for data in self._stored(member):
            while data:
                yield inflate.decompress(data, _PIECE_BYTES)
                data = inflate.unconsumed_tail
        while piece := inflate.decompress(b"", _PIECE_BYTES) if not inflate.eof else b"":
            yield piece

    def _pread(self, n_bytes: int, offset: int) -> bytes:
        assert self._file is not None, "use inside `with reader:`"
        data = b""
        while len(data) < n_bytes and (more := os.pread(self._file.fileno(), n_bytes - len(data), offset + len(data))):
            data += more
        if len(data) < n_bytes:
            raise self._damaged("it ends before its arrays do")
        return data

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            if name not in self._infos:
                raise DataError(f"{self.path} has no array {name!r}", hint="it has " + ", ".join(self._infos))
            with self._errors():
                self._members[name] = self._find(name, self._infos[name])
        return self._members[name]

    def _find(self, name: str, info: zipfile.ZipInfo) -> _Member:
        """Read the local header, whose lengths may differ from the directory's, and the array header behind it."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise self._damaged(f"{name} is encrypted or compressed in an unknown way")
        assert self._state is not None
        n_bytes = min(_HEAD_BYTES, max(0, self._state.size - info.header_offset))
        head = self._pread(n_bytes, info.header_offset)
        if head[:4] != b"PK\x03\x04":
            raise self._damaged(f"{name} is not where the file says")
        local_name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if local_name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
            raise self._damaged(f"{name} has two names in it")
        n_local = 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        offset = info.header_offset + n_local
        is_deflated = info.compress_type == zipfile.ZIP_DEFLATED
        if offset + info.compress_size > self._state.size:
            raise self._damaged("it ends before its arrays do")
        refuse_false_size(info)
        header = _header_of(self._beginning(offset, info, head[n_local:]))
        if header.dtype.hasobject or header.dtype.kind not in "fiubU":
            raise self._damaged(f"{name} holds {header.dtype}, neither numbers nor text")
        if header.n_header_bytes + header.n_bytes != info.file_size:
            raise self._damaged(f"{name} has not the size that its header says")
        return _Member(name, header, offset, info.compress_size, is_deflated, info.CRC)

    def _beginning(self, offset: int, info: zipfile.ZipInfo, head: bytes) -> bytes:
        """Return the bytes in which the array header lies."""
        n_wanted = min(_HEAD_BYTES, info.compress_size)
        is_deflated = info.compress_type == zipfile.ZIP_DEFLATED
        start = head if len(head) >= (n_wanted if is_deflated else 128) else self._pread(n_wanted, offset)
        if not is_deflated:
            return start
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(start[:n_wanted], _HEAD_BYTES)

    def _damaged(self, how: str) -> DataError:
        return DataError(f"{self.path} is damaged: {how}", hint=_HINT)

    def _errors(self) -> AbstractContextManager[None]:
        return foreign_errors(f"cannot read {self.path}", hint=_HINT, kind=DataError)


def _header_of(data: bytes) -> ArrayHeader:
    """Parse the array header at the beginning of an array's bytes, which have to hold all of it."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        raise ValueError("an array in it has no header")
    n_before = 10 if data[6] == 1 else 12
    n_header = n_before + int.from_bytes(data[8:n_before], "little")
    if n_header > len(data):  # very many dimensions: no array of ours
        raise ValueError(f"an array header of {n_header} bytes")
    return _read_header(data[:n_header])


@functools.lru_cache(maxsize=1024)
def _read_header(data: bytes) -> ArrayHeader:
    """Parse an array header; the files of a folder share most of theirs."""
    file = io.BytesIO(data)
    is_first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if any(size < 0 for size in shape):
        raise ValueError(f"an array in it has the shape {shape}")
    return ArrayHeader(dtype, shape, is_fortran, len(data))


def write_npz(file: BinaryIO, arrays: Mapping[str, Shaped[np.ndarray, "..."]], *, compressed: bool) -> None:
    """Write arrays as NPZ: stored, or deflated at the fastest level. The same arrays give the same bytes."""
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method, compresslevel=1 if compressed else None) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:  # dated 1980
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
