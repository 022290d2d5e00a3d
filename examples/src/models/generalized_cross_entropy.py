"""Generalized cross-entropy: an example of a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.errors import ConfigError


class GeneralizedCrossEntropy(nn.Module):
    """(1 - p ** q) / q of the labeled class's probability p (Zhang and Sabuncu, NeurIPS 2018), for noisy labels.

    It lies between cross-entropy (q towards 0) and the mean absolute error (q = 1).
    """

    def __init__(self, *, class_counts: Sequence[int], q: float) -> None:
        """Create the loss.

        Args:
            class_counts: Training images per class, (n_classes,), which every loss is given; not needed here.
            q: In (0, 1].

        Raises:
            ConfigError: If q is outside its range.
        """
        super().__init__()
        if not 0 < q <= 1:
            raise ConfigError(f"loss.q={q}; expected a number in (0, 1]. Set loss.q=0.7.")
        self.q = q

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (B, n_classes) for indices (B,) or probabilities (B, n_classes)."""
        if target.ndim == 1:
            target = F.one_hot(target, logits.shape[1])
        p = torch.softmax(logits.float(), dim=1)
        return (target * (1 - p**self.q) / self.q).sum(dim=1).mean()
