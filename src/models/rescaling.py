"""Exact rescaling of trained weights, so that half precision holds every activation.

EmoNet's emotion blocks and most heads begin with a batch-norm, or with a layer that one follows: what they read may be
scaled without changing what they say. Factors are powers of two and follow from the batch-norms' statistics alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.models.classifier import ExpressionClassifier
from src.models.emonet import EmoNet
from src.models.hourglass import ConvBlock

# An eighth of the range of half precision.
LIMIT = 8192.0
# How far from a channel's mean values are expected: on all of PublicTest, `fused` of the first `emonet_fer` went to 19
# standard deviations.
DEVIATIONS = 24


@torch.no_grad()
def rescale(model: ExpressionClassifier) -> dict[str, float]:
    """Bring a trained model into the range of half precision, in place; its outputs stay what they are.

    Args:
        model: The model, on the CPU.

    Returns:
        The factor of each part that was scaled: `features` for the taps, else the name of a layer. Empty if nothing had
        to be.
    """
    factors = {}
    factor = _factor([_peak(block.bn1) for block in _blocks(model.backbone)])
    if factor != 1 and model.head.input_layers:
        _scale_features(model, factor)
        factors["features"] = factor
    for name, layer, norm in _normalized_layers(model):
        factor = _factor([_peak(norm)])
        if factor != 1:
            for parameter in layer.parameters():
                parameter.mul_(factor)
            _scale_statistics(norm, factor)
            factors[name] = factor
    return factors


def _blocks(backbone: EmoNet) -> list[ConvBlock]:
    return [module for module in backbone.emo_net_2 if isinstance(module, ConvBlock)]


def _scale_features(model: ExpressionClassifier, factor: float) -> None:
    """Scale the features at every tap, and adapt what reads them."""
    backbone = model.backbone
    backbone.scale_features(factor)
    for block in _blocks(backbone):
        _scale_statistics(block.bn1, factor)
    for layer in model.head.input_layers:
        cast(Tensor, layer.weight).div_(factor)
    model.describe_backbone(feature_scale=backbone.feature_scale)


def _normalized_layers(model: ExpressionClassifier) -> Iterator[tuple[str, nn.Module, _BatchNorm]]:
    """Yield the convolutions and matrix products that nothing but a batch-norm reads."""
    backbone = model.backbone
    yield "backbone.conv1", backbone.conv1, backbone.bn1
    for i in range(backbone.n_hourglass):
        norm = cast(_BatchNorm, backbone.get_submodule(f"bn_end{i}"))
        yield f"backbone.conv_last{i}", backbone.get_submodule(f"conv_last{i}"), norm
    for name, module in model.head.named_modules(prefix="head"):
        if isinstance(module, nn.Sequential):
            for (key, layer), (_, reader) in pairwise(module.named_children()):
                if isinstance(layer, nn.Conv2d | nn.Linear) and isinstance(reader, _BatchNorm):
                    yield f"{name}.{key}", layer, reader


def _peak(norm: _BatchNorm) -> float:
    """Return how large the values are expected to get that a batch-norm reads."""
    mean, variance = _statistics(norm)
    return float((mean.abs() + DEVIATIONS * variance.sqrt()).max())


def _factor(peaks: list[float]) -> float:
    """Return the power of two that brings the largest value below the limit, 1 if it is there."""
    peak = max(peaks, default=0.0)
    return 1.0 if peak <= LIMIT else 2.0 ** math.floor(math.log2(LIMIT / peak))


def _scale_statistics(norm: _BatchNorm, factor: float) -> None:
    """Let a batch-norm make of scaled values what it made of them before."""
    mean, variance = _statistics(norm)
    # The epsilon beside the variance does not scale with it; the weight makes up for that.
    weight = ((factor**2 * variance + norm.eps) / (factor**2 * (variance + norm.eps))).sqrt()
    norm.weight.mul_(weight)
    mean.mul_(factor)
    variance.mul_(factor**2)


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("a batch-norm of ours keeps statistics")
    return norm.running_mean, norm.running_var
