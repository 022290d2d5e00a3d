"""Blocks of the Face Alignment Network (Bulat and Tzimiropoulos, ICCV 2017), named as in the published weights."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOURGLASS_DEPTH = 4


class ConvBlock(nn.Module):
    """Hierarchical, parallel, multi-scale residual block (Bulat and Tzimiropoulos, ICCV 2017), pre-activation."""

    def __init__(self, in_channels: int, out_channels: int, residual_scale: float = 1.0) -> None:
        """Create the block.

        Args:
            in_channels: Channels of the input map.
            out_channels: Channels of the output map, a multiple of 4.
            residual_scale: Factor of what is added to the shortcut.
        """
        super().__init__()
        self.residual_scale = residual_scale
        half, quarter = out_channels // 2, out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        wide = self.conv1(F.relu(self.bn1(x)))
        middle = self.conv2(F.relu(self.bn2(wide)))
        narrow = self.conv3(F.relu(self.bn3(middle)))
        shortcut = x if self.downsample is None else self.downsample(x)
        residual = torch.cat((wide, middle, narrow), dim=1)
        return (residual if self.residual_scale == 1 else residual * self.residual_scale) + shortcut


class HourGlass(nn.Module):
    """Stacked-hourglass module of ConvBlocks: max-pools `depth` times, comes back with nearest-neighbor upsampling."""

    def __init__(self, channels: int, depth: int = HOURGLASS_DEPTH) -> None:
        """Create the module.

        Args:
            channels: Channels of the map, kept throughout.
            depth: Number of halvings.
        """
        super().__init__()
        self.depth = depth
        for level in range(depth, 0, -1):
            self.add_module(f"b1_{level}", ConvBlock(channels, channels))
            self.add_module(f"b2_{level}", ConvBlock(channels, channels))
            if level == 1:
                self.add_module("b2_plus_1", ConvBlock(channels, channels))
            self.add_module(f"b3_{level}", ConvBlock(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape; H and W are multiples of 2 ** depth."""
        return self._level(self.depth, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        skip = self.get_submodule(f"b1_{level}")(x)
        low = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        low = self.get_submodule("b2_plus_1")(low) if level == 1 else self._level(level - 1, low)
        low = self.get_submodule(f"b3_{level}")(low)
        return cast(Tensor, skip + F.interpolate(low, scale_factor=2, mode="nearest"))
