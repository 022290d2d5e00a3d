"""Tests of the attention heads: their weights are the formula's, and explain what `forward` does."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads.base import AttentionHead
from src.models.heads.multihead import MultiHead
from src.models.heads.self_attention import SelfAttentionHead
from src.utils.errors import ConfigError

SIDE, CHANNELS = 8, 24


def softmax(scores: Tensor) -> Tensor:
    exponentials = scores.exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def pointwise(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """Apply a 1x1 convolution to every position by hand: (B, C, H, W) to (B, H * W, C')."""
    positions = maps.permute(0, 2, 3, 1).reshape(len(maps), -1, maps.shape[1])
    return positions @ conv.weight[:, :, 0, 0].T + conv.bias


def self_attention() -> tuple[SelfAttentionHead, Tensor]:
    head = SelfAttentionHead(tap="fused", channels=CHANNELS, side=SIDE, n_classes=7, key_channels=5).eval()
    nn.init.constant_(head.gain, 0.7)
    return head, torch.randn(3, CHANNELS, SIDE, SIDE)


def multihead() -> tuple[MultiHead, Tensor]:
    head = MultiHead(tap="fused", channels=CHANNELS, side=SIDE, n_classes=7).eval()
    nn.init.normal_(head.attention.in_proj_bias)  # starts at zero: a missing bias would go unseen
    nn.init.normal_(head.position)
    return head, torch.randn(3, CHANNELS, SIDE, SIDE)


def tokens_by_hand(head: MultiHead, maps: Tensor) -> Tensor:
    """Cut the reduced map into 4 x 4 patches, channel by channel, and embed them: (B, 16, embed_dim)."""
    reduced = head.reduce(maps)
    size = SIDE // 4
    rows = [reduced[:, :, size * r : size * (r + 1), size * c : size * (c + 1)] for r in range(4) for c in range(4)]
    return head.embed(torch.stack([patch.flatten(1) for patch in rows], dim=1)) + head.position


def project(head: MultiHead, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values by head, (B, n_heads, 16, embed_dim / n_heads)."""
    mha = head.attention
    projected = tokens @ mha.in_proj_weight.T + mha.in_proj_bias
    query, key, value = (part.unflatten(2, (mha.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=2))
    return query, key, value


@torch.no_grad()
def test_self_attention_weights_equal_the_formula() -> None:
    head, maps = self_attention()
    query, key = pointwise(head.query, maps), pointwise(head.key, maps)
    expected = softmax(query @ key.transpose(1, 2) / math.sqrt(5))[:, None]
    torch.testing.assert_close(head.attention_weights(maps), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_self_attention_weights_reproduce_forward() -> None:
    head, maps = self_attention()
    attended = head.attention_weights(maps)[:, 0] @ pointwise(head.value, maps)
    residual = maps.flatten(2).transpose(1, 2) + head.gain * attended
    torch.testing.assert_close(head(maps), head.classify(residual.mean(dim=1)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_multihead_weights_equal_the_formula() -> None:
    head, maps = multihead()
    query, key, _ = project(head, tokens_by_hand(head, maps))
    expected = softmax(query @ key.transpose(2, 3) / math.sqrt(64 / 4))
    torch.testing.assert_close(head.attention_weights(maps), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_multihead_weights_reproduce_forward() -> None:
    head, maps = multihead()
    _, _, value = project(head, tokens_by_hand(head, maps))
    attended = (head.attention_weights(maps) @ value).transpose(1, 2).flatten(2)
    expected = head.classify(head.attention.out_proj(attended).flatten(1))
    torch.testing.assert_close(head(maps), expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("build", "shape"), [(self_attention, (3, 1, SIDE**2, SIDE**2)), (multihead, (3, 4, 16, 16))])
def test_weights_sum_to_one_over_the_keys(build, shape: tuple[int, ...]) -> None:
    head, maps = build()
    assert isinstance(head, AttentionHead)
    weights = head.attention_weights(maps)
    assert weights.shape == shape
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(shape[:-1]))


def test_self_attention_starts_as_average_pooling() -> None:
    head = SelfAttentionHead(tap="fused", channels=CHANNELS, side=SIDE, n_classes=7)
    maps = torch.randn(3, CHANNELS, SIDE, SIDE)
    outputs = head(maps)
    torch.testing.assert_close(outputs, head.classify(maps.mean(dim=(2, 3))))
    F.cross_entropy(outputs, torch.tensor([0, 1, 2])).backward()
    assert head.gain.grad.abs() > 0
    for conv in (head.query, head.key, head.value):
        assert not conv.weight.grad.any()


def test_embedding_must_split_over_the_heads() -> None:
    with pytest.raises(ConfigError, match=r"head\.embed_dim=10.*head\.n_heads=4"):
        MultiHead(tap="fused", channels=8, side=8, n_classes=7, embed_dim=10, n_heads=4)
