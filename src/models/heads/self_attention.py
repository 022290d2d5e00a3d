"""Dot-product self-attention over the positions of a feature map."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads.base import AttentionHead, attention_map
from src.models.registry import register_head


@register_head("self_attention")
class SelfAttentionHead(AttentionHead):
    """Single-head self-attention with a learned residual gain, average pool, linear.

    The layout is that of SAGAN (Zhang et al., ICML 2019, section 3): 1x1 convolutions give queries, keys and values,
    and a gain that starts at 0 lets training begin from the plain features. Scores are scaled by 1/sqrt(d) as in
    Vaswani et al. (NeurIPS 2017, section 3.2.1).
    """

    min_side = 2
    # Its weights are side ** 4 numbers an image.
    max_side = 96

    def __init__(self, *, key_channels: int = 32, **features: Any) -> None:
        """Create the head; see `Head` for the other arguments.

        Args:
            key_channels: Channels of queries and keys.
            **features: Arguments of `Head`.
        """
        super().__init__(**features)
        self.query = nn.Conv2d(self.channels, key_channels, 1)
        self.key = nn.Conv2d(self.channels, key_channels, 1)
        self.value = nn.Conv2d(self.channels, self.channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))
        self.classify = nn.Linear(self.channels, self.n_outputs)

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """See `Head`."""
        return (self.query, self.key, self.classify)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, side, side) to (B, n_outputs)."""
        query, key = (_positions(conv(features)) for conv in (self.query, self.key))
        attended = F.scaled_dot_product_attention(query, key, _positions(features)).mean(dim=(1, 2))
        # Values and pooling are linear: both terms are averaged over positions first, and one value computed for all.
        pooled = features.mean(dim=(2, 3)) + self.gain * self.value(attended[:, :, None, None]).flatten(1)
        return cast(Tensor, self.classify(pooled))

    def attention_weights(self, features: Tensor) -> Tensor:
        """Return softmax(Q K^T / sqrt(d)), (B, 1, side * side, side * side), positions in row-major order."""
        return attention_map(_positions(self.query(features)), _positions(self.key(features)))


def _positions(features: Tensor) -> Tensor:
    """Turn (B, C, H, W) into one attention head over positions, (B, 1, H * W, C)."""
    return features.flatten(2).transpose(1, 2).unsqueeze(1)
