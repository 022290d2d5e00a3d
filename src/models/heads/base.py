"""What every head has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from src.models.arguments import Tap
from src.models.emonet import blocks_before
from src.utils.errors import ConfigError


class Head(nn.Module, ABC):
    """Base of all heads: reads the features of one backbone tap, returns class logits and maybe valence/arousal.

    A subclass builds its layers in `__init__` from `self.channels`, `self.side` and `self.n_outputs`, and implements
    `forward`. It states what it can read with `reads_maps`, `min_side`, `max_side` and `side_multiple`, and with
    `flattens` whether it weighs every position of a map on its own, or pools the positions first.

    Attributes:
        tap: Name of the backbone tap.
        channels: Channels of the features.
        side: Side of the feature map, 1 for a vector.
        n_classes: Number of expression classes.
        n_outputs: `n_classes`, plus two when the head also gives valence and arousal.
    """

    reads_maps: ClassVar[bool] = True
    min_side: ClassVar[int] = 1
    max_side: ClassVar[int | None] = None
    side_multiple: ClassVar[int] = 1
    flattens: ClassVar[bool] = False

    def __init__(self, *, tap: Tap, channels: int, side: int, n_classes: int, valence_arousal: bool = False) -> None:
        """Store the sizes and refuse features that the head cannot read.

        Args:
            tap: Backbone tap that the head reads.
            channels: Channels at the tap.
            side: Side of the map at the tap.
            n_classes: Number of expression classes.
            valence_arousal: Whether to add two outputs, valence and arousal.

        Raises:
            ConfigError: If the head cannot read such features.
        """
        super().__init__()
        self.tap, self.channels, self.side, self.n_classes = tap, channels, side, n_classes
        self.valence_arousal = valence_arousal
        self.n_outputs = n_classes + 2 * valence_arousal
        self._check_features()

    def _check_features(self) -> None:
        name, tap, side = type(self).__name__, self.tap, self.side
        blocks_before(tap, 4)
        if self.reads_maps == (tap == "pooled"):
            wanted = "a map: set head.tap=fused" if self.reads_maps else "the pooled vector: set head.tap=pooled"
            raise ConfigError(f"{name} cannot read head.tap={tap} ({self._shape()}); it wants {wanted}.")
        if self.max_side is not None and side > self.max_side:
            raise ConfigError(
                f"{name} cannot read head.tap={tap}, a map of {self._shape()}; it wants a side of {self.max_side} or "
                "less: choose a deeper tap (head.tap=emotion2) or smaller images (data.image_size)."
            )
        if side < self.min_side or side % self.side_multiple:
            wanted = f"a side of {self.min_side} or more"
            if self.side_multiple > 1:
                wanted = f"a side that is a multiple of {self.side_multiple}"
            raise ConfigError(
                f"{name} cannot read head.tap={tap}, a map of {self._shape()}; it wants {wanted}: choose a shallower "
                "tap (head.tap=fused) or larger images (data.image_size)."
            )

    def _shape(self) -> str:
        return f"{self.channels} x {self.side} x {self.side}"

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """Layers whose weights, halved, make up for doubled features; none if the head does not say."""
        return ()

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels, side, side), or (B, channels) for the pooled tap, to (B, n_outputs).

        The first `n_classes` outputs are logits; the last two, if any, are valence and arousal.
        """


class AttentionHead(Head):
    """Base of the heads that attend over positions, and can show where."""

    @abstractmethod
    def attention_weights(self, features: Tensor) -> Tensor:
        """Return softmax(Q K^T / sqrt(d)), (B, n_heads, n_queries, n_keys), for features of the head's tap."""


def attention_map(queries: Tensor, keys: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)).

    Args:
        queries: (..., n_queries, d).
        keys: (..., n_keys, d).

    Returns:
        Weights that sum to one over the keys, (..., n_queries, n_keys).
    """
    return torch.softmax(queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1]), dim=-1)


def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 1x1 convolution, batch-norm and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.ReLU())
