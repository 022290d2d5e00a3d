"""numpy's files, which may be anyone's: no larger in memory than on the disk, and never pickles."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# Kinds of numbers and text; all others are objects, or made of several.
KINDS = "biufSU"


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of a `.npy`.

    Raises:
        OSError: If the file cannot be read, or is none.
        ValueError: If it is damaged, or holds anything but numbers or text.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    return _parsed(path.read_bytes())


def read_arrays(path: Path, max_ratio: int = 1) -> dict[str, NDArray[Any]]:
    """Return the arrays of a `.npz` by name.

    Args:
        path: The file.
        max_ratio: How many times its own size it may unpack to; 1 for what `numpy.savez` writes, without compression.

    Raises:
        OSError: If the file cannot be read, or is none.
        ValueError: If it is damaged, packed further than that, or holds anything but numbers or text.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            infos = bundle.infolist()
            if sum(info.file_size for info in infos) > max_ratio * len(content):
                raise ValueError(f"it unpacks to more than {max_ratio} times what it has")
            return {info.filename.removesuffix(".npy"): _parsed(bundle.read(info)) for info in infos}
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, LookupError) as error:
        raise ValueError(str(error) or "it breaks off") from error


def _parsed(content: bytes) -> NDArray[Any]:
    file = io.BytesIO(content)
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = header(file)
    # numpy reads the header as Python, and raises what comes along.
    except Exception as error:
        raise ValueError(f"not a numpy array ({error})") from error
    values = memoryview(content)[file.tell() :]
    if dtype.kind not in KINDS or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{len(values)} bytes of {dtype} cannot be an array of shape {shape}")
    if not len(values):
        return np.zeros(shape, dtype)
    return np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C").copy()
