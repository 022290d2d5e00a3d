"""Error of predicted landmarks over a whole epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

LANDMARK_METRIC = "landmarks_nme"
# Outer corners of the eyes among the 68 iBUG points.
EYE_CORNERS = (36, 45)


class LandmarkError(Metric):
    """Normalized mean error, see `normalized_errors`, averaged over the images with annotated landmarks."""

    full_state_update = False
    higher_is_better = False
    total: Tensor
    n: Tensor

    def __init__(self, **options: Any) -> None:
        """Create the metric.

        Args:
            **options: Arguments of `torchmetrics.Metric`.
        """
        super().__init__(**options)
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count a batch of landmarks, (B, 68, 2) each; targets are NaN where not annotated."""
        errors = normalized_errors(predictions, targets)
        known = ~torch.isnan(errors)
        self.total += errors[known].sum()
        self.n += known.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return `landmarks_nme`, or nothing if no image has landmarks."""
        return {LANDMARK_METRIC: self.total / self.n} if int(self.n) else {}


def normalized_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean distance of each image's points, as a fraction of the distance of the outer eye corners.

    That is the inter-ocular normalization of the 300-W challenge (Sagonas et al., Image and Vision Computing, 2016).

    Args:
        predictions: (B, 68, 2).
        targets: (B, 68, 2), NaN where not annotated.

    Returns:
        (B,); NaN where no point, or not both corners of the eyes, are annotated.
    """
    distances: Tensor = torch.linalg.vector_norm(predictions.float() - targets.float(), dim=-1)
    left, right = EYE_CORNERS
    scale: Tensor = torch.linalg.vector_norm((targets[:, left] - targets[:, right]).float(), dim=-1)
    mean: Tensor = torch.nanmean(distances, dim=1)
    return mean / scale
