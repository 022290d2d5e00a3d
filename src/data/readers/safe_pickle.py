"""Pickles of builtins and numpy arrays; anything else in one is refused before it can run."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.utils.errors import ConfigError

# What the stand-ins below and the unpickler raise on broken or hostile files.
_BROKEN = (
    *(pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError),
    *(MemoryError, OverflowError, RecursionError, OSError),
)


def load_plain(path: Path) -> Any:
    """Read a pickle of numbers, strings, containers and numpy arrays.

    Args:
        path: The file, also one that Python 2 wrote.

    Raises:
        ConfigError: If it is broken or names anything else; that is not imported, let alone called.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except _BROKEN as error:
        raise ConfigError(
            f"{path} is no pickle of plain data ({error}); expected numbers, strings, containers and numpy arrays. Get "
            "the file from its authors again."
        ) from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed name; everything a pickle can call goes through here."""
        # Names of Python 2 and of numpy 2.
        known = module.replace("__builtin__", "builtins").replace("numpy._core", "numpy.core")
        try:
            return _ALLOWED[known, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}, which is neither a builtin nor a numpy array") from None


# numpy's own constructors are no choice: with `ndarray(1, object, buffer)`, or a dtype of forged state, a pickle makes
# objects of arbitrary addresses. These stand-ins take what numpy writes, and numbers and strings only.
class _Dtype:
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not re.fullmatch(r"[biufcSU]\d+", code):
            raise pickle.UnpicklingError(f"an array of dtype {code!r}")
        self.value: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Set the byte order, the only part of the state that numbers and strings need."""
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """A numpy array that checks what it is filled with."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array of objects")
        super().__setstate__((version, shape, dtype.value, is_fortran, data))


def _reconstruct(kind: str, shape: Any, code: Any) -> _Array:
    """Stand in for numpy's function of that name: an empty array, to be filled by `__setstate__`."""
    return np.empty(0, dtype=np.uint8).view(_Array)


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype.value, count=1)[0]


def _frombuffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
    return np.frombuffer(data, dtype.value).reshape(shape, order=order)


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which older pickles write an array's bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _latin1,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, complex, bytes, bytearray)},
}
