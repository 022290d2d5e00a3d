"""Tests of what all heads share: sizes, refusals, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from src.models.heads.base import Head
from src.models.heads.emonet import EmoNetHead
from src.models.heads.linear import LinearBottleneckHead, LinearFlatHead, LinearHead
from src.models.heads.multihead import MultiHead
from src.models.heads.self_attention import SelfAttentionHead
from src.utils.errors import ConfigError

PARAMETERS = {
    LinearHead: 34_055,
    LinearFlatHead: 28_938,
    LinearBottleneckHead: 40_458,
    SelfAttentionHead: 84_040,
    MultiHead: 390_295,
}
# Refused: head, tap, side of its map, the part of the message that says what the head wants.
UNREADABLE = [
    (LinearHead, "pooled", 1, "head.tap=fused"),
    (LinearFlatHead, "pooled", 1, "head.tap=fused"),
    (LinearBottleneckHead, "pooled", 1, "head.tap=fused"),
    (SelfAttentionHead, "pooled", 1, "head.tap=fused"),
    (MultiHead, "pooled", 1, "head.tap=fused"),
    (EmoNetHead, "fused", 16, "head.tap=pooled"),
    (LinearBottleneckHead, "emotion", 1, "multiple of 2"),
    (LinearBottleneckHead, "emotion", 3, "multiple of 2"),
    (SelfAttentionHead, "emotion", 1, "2 or more"),
    (MultiHead, "emotion", 1, "multiple of 4"),
    (MultiHead, "emotion", 2, "multiple of 4"),
    (MultiHead, "emotion2", 6, "multiple of 4"),
]


def fused(head: type[Head], *, side: int = 16, channels: int = 16, valence_arousal: bool = False) -> Head:
    return head(tap="fused", channels=channels, side=side, n_classes=7, valence_arousal=valence_arousal)


def backward(head: Head, maps: torch.Tensor, labels: torch.Tensor) -> None:
    head.zero_grad()
    F.cross_entropy(head(maps), labels).backward()


@pytest.mark.parametrize(("head", "n_parameters"), PARAMETERS.items())
def test_parameters_at_256_pixels(head: type[Head], n_parameters: int) -> None:
    parameters = fused(head, side=64, channels=256).parameters()
    assert sum(p.numel() for p in parameters if p.requires_grad) == n_parameters


@pytest.mark.parametrize("valence_arousal", [False, True])
@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("head", PARAMETERS)
def test_outputs_per_image(head: type[Head], side: int, valence_arousal: bool) -> None:
    built = fused(head, side=side, channels=8, valence_arousal=valence_arousal)
    n_outputs = 9 if valence_arousal else 7
    assert built(torch.rand(2, 8, side, side)).shape == (2, n_outputs)
    assert built.n_outputs == n_outputs


@pytest.mark.parametrize("valence_arousal", [False, True])
def test_own_head_reads_the_pooled_vector(valence_arousal: bool) -> None:
    head = EmoNetHead(tap="pooled", channels=32, side=1, n_classes=7, valence_arousal=valence_arousal)
    assert head(torch.rand(2, 32)).shape == (2, 9 if valence_arousal else 7)


@pytest.mark.parametrize(("head", "tap", "side", "wanted"), UNREADABLE)
def test_refuses_features_it_cannot_read(head: type[Head], tap: str, side: int, wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        head(tap=tap, channels=16, side=side, n_classes=7)
    for part in (head.__name__, f"head.tap={tap}", f"16 x {side} x {side}", wanted):
        assert part in str(error.value)


@pytest.mark.parametrize("head", [*PARAMETERS, EmoNetHead])
def test_refuses_an_unknown_tap(head: type[Head]) -> None:
    with pytest.raises(ConfigError, match=r"head\.tap='stem' is unknown; expected one of fused, emotion2"):
        head(tap="stem", channels=16, side=16, n_classes=7)


@pytest.mark.parametrize("head", PARAMETERS)
def test_every_weight_learns_after_one_step(head: type[Head]) -> None:
    built = fused(head).train()
    maps, labels = torch.randn(8, 16, 16, 16), torch.randint(7, (8,))
    backward(built, maps, labels)
    torch.optim.SGD(built.parameters(), lr=0.1).step()
    backward(built, maps, labels)
    for name, parameter in built.named_parameters():
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 0, name
