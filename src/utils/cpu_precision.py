"""Half precision on processors without the instructions: their numbers, at the speed of float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from torch.overrides import TorchFunctionMode

from src.utils.precision import native_bf16

DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class RoundedConvolutions(TorchFunctionMode):
    """Computes convolutions in float32 on inputs rounded to half precision, and rounds what comes out.

    That is what a processor or GPU with half-precision multipliers does, which add up in float32. PyTorch has no fast
    gradients of fp16 convolutions on any CPU (a step of `emonet_fer_small` on 16 images took 16 s instead of 0.1 s),
    and emulates bf16 at half the speed of float32 where it is not native.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """Remember the type to round to."""
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one function of PyTorch."""
        if func is not torch.conv2d:
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            result: Tensor = func(*(self._round(value) for value in args), **(kwargs or {}))
        return result.to(self.dtype)

    def _round(self, value: Any) -> Any:
        return value.to(self.dtype).float() if isinstance(value, Tensor) else value


@contextmanager
def autocast(device: str, precision: str) -> Iterator[None]:
    """Compute in half precision, if `precision` is a mixed one, on any device.

    Args:
        device: Kind of device: `cpu`, `cuda` or `mps`.
        precision: Lightning's name.
    """
    dtype = DTYPES.get(precision)
    if dtype is None:
        yield
        return
    slow = device == "cpu" and not (precision == "bf16-mixed" and native_bf16())
    # Lightning's setting of the cache: one that changed would have compiled code compiled once more.
    with torch.autocast(device, dtype, cache_enabled=False), RoundedConvolutions(dtype) if slow else nullcontext():
        yield


class CpuMixedPrecision(MixedPrecision):
    """Lightning's mixed precision on a CPU, fast on all of them, and with fp16, for which Lightning would take bf16."""

    # Under which a checkpoint keeps the scale of fp16's gradients: that of a GPU is read here, and the other way round.
    __qualname__ = MixedPrecision.__qualname__

    def __init__(self, precision: str) -> None:
        """Choose between fp16 with scaled gradients and bf16."""
        super().__init__(precision, "cpu")  # type: ignore[arg-type]  # which it checks

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Compute a step in half precision."""
        with autocast("cpu", self.precision):
            yield
