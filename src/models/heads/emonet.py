"""EmoNet's own head."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from src.models.emonet import emotion_classifier
from src.models.heads.base import Head
from src.models.registry import register_head


@register_head("emonet")
class EmoNetHead(Head):
    """The two-layer classifier of EmoNet on the pooled features.

    `fc` has the layout of EmoNet's `emo_fc_2`, so that published weights can be copied into it.
    """

    reads_maps = False

    def __init__(self, **features: Any) -> None:
        """Create the head; see `Head` for the arguments."""
        super().__init__(**features)
        self.fc = emotion_classifier(self.channels, self.n_outputs)

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """See `Head`."""
        return (self.fc[0],)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels) to (B, n_outputs)."""
        return cast(Tensor, self.fc(features))
