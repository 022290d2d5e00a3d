"""Files of `torch.save` that may be anyone's: tensors and plain values, in no more memory than the file has bytes."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from src.utils.errors import ConfigError

# What torch and pickle raise on damaged or foreign files.
UNREADABLE = (
    *(RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, MemoryError, OverflowError),
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError),
)
# Values within tuples within tuples: one that holds the last one twice, forty times, takes weeks to be made a key.
MAX_VALUES = 10_000
ZIP_START = b"PK\x03\x04"
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def read_checkpoint(path: Path, argument: str | None = None, *, mmap: bool = False) -> dict[str, Any]:
    """Read a torch file of tensors and plain values.

    Args:
        path: The file.
        argument: Option that named it, for the message.
        mmap: Whether to leave the tensors on the disk until they are used.

    Raises:
        ConfigError: If it is broken, holds code, or would take more memory than its size.
    """
    try:
        _check_bounds(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        for tensor in _tensors(content):
            _check_tensor(tensor)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        named = f"{argument}={path}" if argument else str(path)
        raise ConfigError(
            f"{named} cannot be read as a checkpoint ({reason}); it may be truncated, or hold more than tensors and "
            "plain values. Use another checkpoint, such as best.ckpt or last.ckpt of the same run."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected a checkpoint.")
    return content


def _check_bounds(path: Path) -> None:
    """Raise ValueError for what torch would unpack, allocate or compute without end."""
    if not path.is_file():
        raise OSError("not a file")
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP_START  # as torch tells
    if is_zip:
        with zipfile.ZipFile(path) as bundle:
            infos = bundle.infolist()
            if sum(info.file_size for info in infos) > path.stat().st_size:
                raise ValueError("it unpacks to more than it has")
            for info in infos:
                if info.filename.endswith("data.pkl"):
                    _check_pickle(io.BytesIO(bundle.read(info)))
        return
    with path.open("rb") as file:  # of torch before 1.6: five pickles, then the values
        for _ in range(5):
            _check_pickle(file)


def _check_pickle(file: IO[bytes]) -> None:
    """Follow a pickle without making anything of it; the stack holds how many values each tuple has within it."""
    stack: list[int | None] = []  # None is a mark
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise pickle.UnpicklingError("a bytearray, which may be of any size")
        if name == "DUP" or "GET" in name:
            stack.append(stack[-1] if name == "DUP" else memo[argument])
        elif name == "MEMOIZE" or "PUT" in name:
            memo[len(memo) if argument is None else argument] = stack[-1] or 0
        else:
            before = [kind is pickletools.markobject for kind in opcode.stack_before]
            taken = _to_mark(stack) if any(before) else []
            taken += [stack.pop() for _ in before[: before.index(True) if any(before) else None]]
            size = 1 + (sum(value or 0 for value in taken) if name.startswith("TUPLE") or name == "REDUCE" else 0)
            if size > MAX_VALUES:
                raise pickle.UnpicklingError(f"a tuple of more than {MAX_VALUES:,} values")
            stack += [None if kind is pickletools.markobject else size for kind in opcode.stack_after]


def _to_mark(stack: list[int | None]) -> list[int | None]:
    taken: list[int | None] = []
    while (value := stack.pop()) is not None:
        taken.append(value)
    return taken


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | list | tuple):
        for value in content.values() if isinstance(content, Mapping) else content:
            yield from _tensors(value)


def _check_tensor(tensor: Tensor) -> None:
    """Raise ValueError for a tensor that is not as large as what is stored of it, or no plain one."""
    if tensor.layout != torch.strided or tensor.dtype not in DTYPES or tensor.device.type != "cpu":
        raise ValueError(f"a tensor of {tensor.dtype} and {tensor.layout}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of {tensor.numel():,} numbers, fewer of which are stored")


def require_finite(values: Any, path: Path, name: str = "") -> None:
    """Refuse weights with which nothing can be computed.

    Args:
        values: A tensor, or dictionaries and lists of them; anything else is passed over.
        path: Where they come from, for the message.
        name: What they are called there.

    Raises:
        ConfigError: If a tensor holds NaN or infinite values.
    """
    if isinstance(values, Mapping | list | tuple):
        for key, value in values.items() if isinstance(values, Mapping) else enumerate(values):
            require_finite(value, path, f"{name}.{key}" if name else str(key))
    elif isinstance(values, Tensor) and not bool(torch.isfinite(values).all()):
        raise ConfigError(
            f"{path} has NaN or infinite values in {name}: the file is damaged, or its training diverged. Use other "
            "weights, such as best.ckpt of an earlier run, or train anew with a smaller optimizer.lr."
        )
