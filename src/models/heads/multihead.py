"""Multi-head attention over the patches of a feature map."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads.base import AttentionHead, conv_bn_relu
from src.models.registry import register_head
from src.utils.errors import ConfigError

CHANNELS = (128, 64, 32, 16)
PATCHES_PER_SIDE = 4


@register_head("multihead")
class MultiHead(AttentionHead):
    """Patches of the reduced map as tokens, learned positions, one multi-head attention layer, a small classifier.

    The map is reduced by four 1x1 convolutions (128, 64, 32, 16 channels, each with BN and ReLU) and cut into 4 x 4
    patches (16 x 16 positions each at 256 px).
    """

    min_side = PATCHES_PER_SIDE
    side_multiple = PATCHES_PER_SIDE
    flattens = True

    def __init__(self, *, embed_dim: int = 64, n_heads: int = 4, **features: Any) -> None:
        """Create the head; see `Head` for the other arguments.

        Args:
            embed_dim: Size of a token, a multiple of `n_heads`.
            n_heads: Number of attention heads.
            **features: Arguments of `Head`.
        """
        super().__init__(**features)
        if embed_dim % n_heads:
            raise ConfigError(f"head.embed_dim={embed_dim}; expected a multiple of head.n_heads={n_heads}.")
        widths = (self.channels, *CHANNELS)
        self.reduce = nn.Sequential(*(conv_bn_relu(i, o) for i, o in zip(widths, CHANNELS, strict=False)))
        self.patch = self.side // PATCHES_PER_SIDE
        n_patches = PATCHES_PER_SIDE**2
        self.embed = nn.Linear(CHANNELS[-1] * self.patch**2, embed_dim)
        self.position = nn.Parameter(torch.zeros(1, n_patches, embed_dim))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.attention = nn.MultiheadAttention(embed_dim, n_heads, batch_first=True)
        self.classify = nn.Sequential(
            nn.Linear(n_patches * embed_dim, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, self.n_outputs)
        )

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """See `Head`."""
        return (cast(nn.Sequential, self.reduce[0])[0],)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, side, side) to (B, n_outputs)."""
        tokens = self._tokens(features)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return cast(Tensor, self.classify(attended.flatten(1)))

    def attention_weights(self, features: Tensor) -> Tensor:
        """Return softmax(Q K^T / sqrt(d)) per head, (B, n_heads, 16, 16), patches in row-major order."""
        tokens = self._tokens(features)
        _, weights = self.attention(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
        return cast(Tensor, weights)

    def _tokens(self, features: Tensor) -> Tensor:
        """Turn the map into embedded patches with positions, (B, 16, embed_dim)."""
        patches = F.unfold(self.reduce(features), kernel_size=self.patch, stride=self.patch).transpose(1, 2)
        return cast(Tensor, self.embed(patches) + self.position)
