"""Generalized-mean pooling: an example of a head."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from src.models.heads.base import Head
from src.models.registry import register_head
from src.utils.errors import ConfigError

SMALLEST = 1e-6  # of a feature: powers need positive numbers


@register_head("gem")
class GemHead(Head):
    """Generalized mean over positions with a learned exponent, linear (Radenović et al., TPAMI 2019).

    An exponent of 1 gives the mean; the larger it is, the closer the result is to the maximum.
    """

    def __init__(self, *, exponent: float = 3.0, **features: Any) -> None:
        """Create the head.

        Args:
            exponent: Exponent to start from, above 0.
            **features: Arguments of `Head`.

        Raises:
            ConfigError: If the exponent is not above 0, or the head cannot read such features.
        """
        super().__init__(**features)
        if exponent <= 0:
            raise ConfigError(f"head.exponent={exponent}; expected a number above 0. Set head.exponent=3.")
        self.exponent = nn.Parameter(torch.tensor(float(exponent)))
        self.classify = nn.Linear(self.channels, self.n_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, side, side) to (B, n_outputs)."""
        powers = features.float().clamp_min(SMALLEST) ** self.exponent
        return cast(Tensor, self.classify(powers.mean(dim=(2, 3)) ** (1 / self.exponent)))
