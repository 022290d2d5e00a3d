"""Numeric precision of a run."""

from __future__ import annotations

from typing import Literal

import torch

from src.utils.errors import ConfigError
from src.utils.validation import PRECISIONS


def resolve_precision(precision: str | int, accelerator: str) -> str:
    """Return the precision to use.

    Args:
        precision: One of `PRECISIONS`; also Lightning's short forms 32, 64, bf16 and 16.
        accelerator: Lightning's accelerator: `cpu`, `gpu`, `cuda`, `mps` or `auto`.

    Returns:
        For `auto`, what the machine does natively and fast: bf16-mixed where the hardware has it (CUDA capability 8.0
        and up; AMX or AVX512-bf16), else 16-mixed on CUDA, else 32-true.

    Raises:
        ConfigError: If the precision is unknown.
    """
    short = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}
    name = short.get(str(precision), str(precision))
    if name not in PRECISIONS:
        raise ConfigError(f"trainer.precision={precision}; expected one of {', '.join(PRECISIONS)}.")
    if name != "auto":
        return name
    device = device_kind(accelerator)
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    # Half precision on Apple's GPUs has never been run here.
    return "bf16-mixed" if device == "cpu" and native_bf16() else "32-true"


def device_kind(accelerator: str) -> Literal["cuda", "mps", "cpu"]:
    """Return the kind of device that Lightning's accelerator means on this machine."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def native_bf16() -> list[str]:
    """Return the processor's instructions for bf16, of `amx_bf16` and `avx512_bf16`."""
    capabilities = torch.cpu.get_capabilities()
    return [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]
