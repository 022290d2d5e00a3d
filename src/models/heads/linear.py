"""The three linear heads of the student project ("final layers" 1, 2 and 3)."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from src.models.heads.base import Head, conv_bn_relu
from src.models.registry import register_head

BOTTLENECK = 128


@register_head("linear")
class LinearHead(Head):
    """1x1 convolution to 128 channels, BN, ReLU, global average pool, linear ("final layer 1")."""

    def __init__(self, *, width: int = BOTTLENECK, **features: Any) -> None:
        """Create the head; see `Head` for the other arguments.

        Args:
            width: Channels of the convolution.
            **features: Arguments of `Head`.
        """
        super().__init__(**features)
        self.reduce = conv_bn_relu(self.channels, width)
        self.classify = nn.Linear(width, self.n_outputs)

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """See `Head`."""
        return (self.reduce[0],)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, side, side) to (B, n_outputs)."""
        return cast(Tensor, self.classify(self.reduce(features).mean(dim=(2, 3))))


@register_head("linear_flat")
class LinearFlatHead(Head):
    """1x1 convolution to one channel, BN, ReLU, flatten, linear ("final layer 2")."""

    flattens = True

    def __init__(self, **features: Any) -> None:
        """Create the head; see `Head` for the arguments."""
        super().__init__(**features)
        self.reduce = conv_bn_relu(self.channels, 1)
        self.classify = nn.Linear(self.side**2, self.n_outputs)

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """See `Head`."""
        return (self.reduce[0],)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, side, side) to (B, n_outputs)."""
        return cast(Tensor, self.classify(self.reduce(features).flatten(1)))


@register_head("linear_bottleneck")
class LinearBottleneckHead(Head):
    """1x1 convolutions to 128 and 1 channels, each with BN and ReLU, 2x2 average pool, linear ("final layer 3")."""

    min_side = 2
    side_multiple = 2
    flattens = True

    def __init__(self, **features: Any) -> None:
        """Create the head; see `Head` for the arguments."""
        super().__init__(**features)
        self.reduce = nn.Sequential(
            conv_bn_relu(self.channels, BOTTLENECK), conv_bn_relu(BOTTLENECK, 1), nn.AvgPool2d(2)
        )
        self.classify = nn.Linear((self.side // 2) ** 2, self.n_outputs)

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """See `Head`."""
        return (cast(nn.Sequential, self.reduce[0])[0],)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, side, side) to (B, n_outputs)."""
        return cast(Tensor, self.classify(self.reduce(features).flatten(1)))
