"""numpy's files of strangers: no larger in memory than on the disk."""

import io
import os
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from src.utils.arrays import read_array, read_arrays

ARRAYS = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "text": np.array(["a", "ü"]),
    "bytes": np.array([b"a", b"bc"]),
    "none": np.zeros((0, 3), bool),
    "one": np.array(3.5),
}


def test_what_numpy_writes_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    for name, expected in ARRAYS.items():
        np.save(tmp_path / "a.npy", expected)
        for array in (found[name], read_array(tmp_path / "a.npy")):
            np.testing.assert_array_equal(array, expected)
            assert (array.dtype, array.flags.writeable) == (expected.dtype, True)


def header(shape, descr="<f4"):
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue()


BROKEN = {
    "nothing": b"",
    "no array": b"PK\x03\x04",
    "a huge shape": header((10**12,)),
    "a negative shape": header((-1,)),
    "a huge type": header((1,), "<U1000000000"),
    "records": header((1,), [("a", "<f4")]) + bytes(4),
    "objects": header((1,), "|O") + bytes(8),
    "half of it": header((4,)) + bytes(8),
    "a header of brackets": b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000,
    "a header of code": b"\x93NUMPY\x01\x00" + (16).to_bytes(2, "little") + b"print('a')      ",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_and_hostile_arrays_are_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError):
        read_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as bundle:
        bundle.writestr("a.npy", content)
    with pytest.raises(ValueError):
        read_arrays(tmp_path / "a.npz")


def test_an_archive_whose_end_is_damaged_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    end = content.rindex(b"PK\x05\x06")
    for place in range(end + 4, len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x80
        (tmp_path / "b.npz").write_bytes(changed)
        try:
            assert read_arrays(tmp_path / "b.npz").keys() <= {"a"}
        except ValueError as error:
            assert str(error)


def test_packed_arrays_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6))
    with pytest.raises(ValueError, match="unpacks to more than 1 times what it has"):
        read_arrays(tmp_path / "a.npz")


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    for read in (read_array, read_arrays):
        with pytest.raises(ValueError, match="not a file"):
            read(tmp_path / "a.npy")
