"""Numeric precision of a run."""

from __future__ import annotations

import torch

from src.utils.errors import ConfigError

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true")


def resolve_precision(precision: str | int, accelerator: str) -> str:
    """Return the precision to use.

    Args:
        precision: One of `PRECISIONS`; also Lightning's short forms 32, 64, bf16 and 16.
        accelerator: Lightning's accelerator: `cpu`, `gpu`, `cuda` or `auto`.

    Returns:
        For `auto`, bf16-mixed where the hardware has it (CUDA capability 8.0 and up; AMX or AVX512-bf16), else
        16-mixed on CUDA, else 32-true.

    Raises:
        ConfigError: If the precision is unknown.
    """
    short = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}
    name = short.get(str(precision), str(precision))
    if name not in PRECISIONS:
        raise ConfigError(f"trainer.precision={precision}; expected one of {', '.join(PRECISIONS)}.")
    if name != "auto":
        return name
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return "bf16-mixed" if native else "32-true"
