"""Reading a few elements of an NPZ equals numpy's reading of all of it, and bad files are refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import actlab
from actlab.formats.npz import NpzReader, write_npz

DTYPES = ["<f2", "<f4", "<f8", ">f4", "<i8", "|u1", "|b1", "<U3"]


def made_array(dtype: str, shape: tuple[int, ...], order: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 100, shape)
    return np.asarray(values.astype(str) if dtype.startswith("<U") else values, order=order).astype(dtype, order="K")


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    order=st.sampled_from("CF"),
    compressed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_picked_elements_are_numpys(tmp_path_factory, dtype, shape, order, compressed, seed):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    array = made_array(dtype, shape, order, seed)
    save = np.savez_compressed if compressed else np.savez
    save(path, before=np.arange(7), array=array, after=np.array("text"))
    rng = np.random.default_rng(seed)
    index = tuple(rng.integers(0, size, 11) for size in shape)
    with NpzReader(path) as reader:
        assert (reader.pick("array", index) == np.load(path)["array"][index]).all()
        assert (reader.array("array") == array).all()
        assert str(reader.array("after")) == "text"
        assert reader.header("array").shape == shape


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_many_pieces_are_read_across_their_borders(tmp_path, compressed, order):
    array = np.asarray(np.random.default_rng(0).standard_normal((30, 41, 211)), order=order)
    with (tmp_path / "a.npz").open("wb") as file:
        write_npz(file, {"array": array}, compressed=compressed)
    index = (np.arange(0, 30, 3)[:, None, None], np.array([0, 40])[:, None], np.arange(211))
    with NpzReader(tmp_path / "a.npz") as reader:
        assert (reader.pick("array", index) == array[index]).all()


def test_numpy_reads_what_is_written_and_the_bytes_depend_on_the_arrays_alone(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array("text"), "c": np.zeros(0)}
    for compressed in (False, True):
        contents = set()
        for name in ("one.npz", "two.npz"):
            with (tmp_path / name).open("wb") as file:
                write_npz(file, arrays, compressed=compressed)
            contents.add((tmp_path / name).read_bytes())
            with np.load(tmp_path / name, allow_pickle=False) as there:
                assert all((there[key] == value).all() for key, value in arrays.items())
        assert len(contents) == 1


def test_a_file_of_more_than_4_gib_is_read_by_its_zip64_offsets(tmp_path):
    """A sparse file: the member lies behind five GiB of nothing."""
    path = tmp_path / "far.npz"
    with path.open("wb") as file:
        file.seek(5 << 30)
        with zipfile.ZipFile(file, "w") as archive, archive.open("x.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.arange(10))
    with NpzReader(path) as reader:
        assert reader.pick("x", (np.array([3, 9]),)).tolist() == [3, 9]


def test_rows_asked_for_in_the_files_order_are_inflated_once(tmp_path, monkeypatch):
    import os

    array = np.random.default_rng(0).standard_normal((40, 20_000))
    np.savez_compressed(tmp_path / "a.npz", array=array)
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, offset: read.append(n) or pread(fd, n, offset))
    with NpzReader(tmp_path / "a.npz") as reader:
        for row in (0, 3, 17, 39):
            assert (reader.pick("array", (np.int64(row), np.arange(20_000))) == array[row]).all()
        assert sum(read) < 1.1 * (tmp_path / "a.npz").stat().st_size
        assert (reader.pick("array", (np.int64(5), np.arange(9))) == array[5, :9]).all(), "and back again"


def test_a_reader_may_be_entered_twice(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(5))
    reader = NpzReader(tmp_path / "a.npz")
    with reader:
        with reader:
            assert reader.array("x")[1] == 1
        assert reader.pick("x", (np.array([2]),)).tolist() == [2]


def test_only_the_bytes_asked_for_are_read(tmp_path, monkeypatch):
    import os

    path = tmp_path / "a.npz"
    np.savez(path, big=np.zeros((1000, 5000), np.float32), small=np.arange(3))
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, offset: read.append(n) or pread(fd, n, offset))
    with NpzReader(path) as reader:
        reader.pick("big", (np.array([7, 900]), np.array([4999, 0])))
    assert sum(read) < 4096


class Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def damaged(kind: str, folder: Path) -> Path:
    path = folder / "bad.npz"
    good = {"x": np.arange(1000.0), "n": np.arange(4)}
    np.savez(path, **good)
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "no zip":
        path.write_bytes(b"hello, this is no zip" * 20)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "objects":
        np.savez(path, x=np.array([Payload()], dtype=object))
    elif kind == "bare npy":
        with path.open("wb") as file:
            np.save(file, good["x"])
    elif kind == "not an array":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"no array at all, but quite some bytes" * 10)
    elif kind == "lying header":
        with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as member:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10**9,)}
            np.lib.format.write_array_header_1_0(member, header)
            member.write(bytes(80))
    elif kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10_000_000,)}
            np.lib.format.write_array_header_1_0(member, header)
            member.write(bytes(80_000_000))
    return path


@pytest.mark.parametrize(
    "kind", ["truncated", "no zip", "empty", "objects", "bare npy", "not an array", "lying header", "bomb"]
)
def test_a_bad_file_is_refused_by_name_and_nothing_in_it_runs(kind, tmp_path):
    path = damaged(kind, tmp_path)
    with pytest.raises(actlab.ActlabError, match=r"bad\.npz"), NpzReader(path) as reader:
        reader.array("x")
    assert not Payload.ran


def test_a_file_that_changes_between_two_looks_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    reader = NpzReader(path)
    with reader:
        reader.array("x")
    np.savez(path, x=np.arange(4000))
    with pytest.raises(actlab.ActlabError, match="changed during the run"), reader:
        pass
