"""Tests of the linear heads against their description, layer by layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads.base import Head
from src.models.heads.linear import LinearBottleneckHead, LinearFlatHead, LinearHead

SIDE, CHANNELS = 8, 12


def build(head: type[Head]) -> tuple[Head, Tensor]:
    return head(tap="fused", channels=CHANNELS, side=SIDE, n_classes=7).train(), torch.randn(4, CHANNELS, SIDE, SIDE)


def conv_bn_relu(maps: Tensor, conv: nn.Conv2d) -> Tensor:
    """1x1 convolution, fresh batch-norm in training mode, ReLU."""
    mapped = torch.einsum("bchw,oc->bohw", maps, conv.weight[:, :, 0, 0]) + conv.bias[:, None, None]
    mean, variance = mapped.mean((0, 2, 3), keepdim=True), mapped.var((0, 2, 3), keepdim=True, correction=0)
    return ((mapped - mean) / torch.sqrt(variance + 1e-5)).clamp_min(0)


def convolutions(head: Head) -> list[nn.Conv2d]:
    return [module for module in head.modules() if isinstance(module, nn.Conv2d)]


def check(head: Head, maps: Tensor, vector: Tensor, widths: list[int]) -> None:
    assert [conv.out_channels for conv in convolutions(head)] == widths
    expected = F.linear(vector, head.classify.weight, head.classify.bias)
    torch.testing.assert_close(head(maps), expected, rtol=0, atol=1e-5)


def test_linear() -> None:
    head, maps = build(LinearHead)
    (conv,) = convolutions(head)
    check(head, maps, conv_bn_relu(maps, conv).mean(dim=(2, 3)), [128])


def test_linear_flat() -> None:
    head, maps = build(LinearFlatHead)
    (conv,) = convolutions(head)
    check(head, maps, conv_bn_relu(maps, conv).flatten(1), [1])


def test_linear_bottleneck() -> None:
    head, maps = build(LinearBottleneckHead)
    first, second = convolutions(head)
    one = conv_bn_relu(conv_bn_relu(maps, first), second)
    pooled = one.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    check(head, maps, pooled.flatten(1), [128, 1])
