"""The weights and the image behind `tests/fixtures/emonet_golden.npz`.

The fixture holds what the authors' own EmoNet gives in float64 for these weights and this image. Only `*_5` and
`*_8` depend on the number of classes; `fused_corner` is `[:4, :4, :4]` of the fused map, the means run over positions.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def reference_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return float64 weights that depend on nothing but their names and shapes."""
    return {key: torch.from_numpy(np.asarray(_values(key, tuple(shape)))) for key, shape in shapes.items()}


def reference_images(batch: int) -> Tensor:
    """Return the first images of the reference batch, float64, uniform in [0, 1]."""
    return torch.from_numpy(np.random.RandomState(0).random_sample((batch, 3, 256, 256)))


def _values(key: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if leaf == "running_var":
        return 1 + 0.1 * np.abs(noise)
    if leaf in ("running_mean", "bias"):
        return 0.05 * noise
    if len(shape) == 1:  # the scale of a batch-norm
        return 1 + 0.05 * noise
    gain = 0.02 if key in ("l0.weight", "l1.weight") else 0.5  # keeps every activation of order one
    return noise * np.sqrt(2 / np.prod(shape[1:])) * gain
