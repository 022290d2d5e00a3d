"""Error of predicted landmarks over a whole epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

LANDMARK_METRIC = "landmarks_nme"
# Parts of the face among the 68 iBUG points. Where a jaw begins and ends is a matter of convention, so `inner` is all
# but the jaw.
REGIONS = {
    "inner": range(17, 68),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
    "jaw": range(17),
}
# Outer corners of the eyes.
EYE_CORNERS = (36, 45)


def region_metric(region: str) -> str:
    """Return the name of a region's median error."""
    return f"landmarks_median/{region}"


class LandmarkError(Metric):
    """Normalized mean error over the images with annotated landmarks: mean, and median of each part of the face."""

    full_state_update = False
    higher_is_better = False
    errors: list[Tensor]

    def __init__(self, **options: Any) -> None:
        """Create the metric.

        Args:
            **options: Arguments of `torchmetrics.Metric`.
        """
        super().__init__(**options)
        self.add_state("errors", [], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count a batch of landmarks, (B, 68, 2) each; targets are NaN where not annotated."""
        distances = normalized_distances(predictions, targets)
        parts = [distances, *(distances[:, list(points)] for points in REGIONS.values())]
        self.errors.append(torch.stack([part.nanmean(dim=1) for part in parts], dim=1))

    def compute(self) -> dict[str, Tensor]:
        """Return `landmarks_nme` and `landmarks_median/<region>`, or nothing if no image has landmarks."""
        errors: Tensor = dim_zero_cat(self.errors) if self.errors else torch.empty(0, 1 + len(REGIONS))
        if torch.isnan(errors[:, 0]).all():
            return {}
        medians = errors.nanmedian(dim=0).values
        regions = {region_metric(name): medians[i] for i, name in enumerate(REGIONS, 1) if not medians[i].isnan()}
        return {LANDMARK_METRIC: errors[:, 0].nanmean(), **regions}


def normalized_distances(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the distance of each point, as a fraction of the distance of the image's outer eye corners.

    That is the inter-ocular normalization of the 300-W challenge (Sagonas et al., Image and Vision Computing, 2016).

    Args:
        predictions: (B, 68, 2).
        targets: (B, 68, 2), NaN where not annotated.

    Returns:
        (B, 68); NaN where a point, or a corner of the eyes, is not annotated.
    """
    distances: Tensor = torch.linalg.vector_norm(predictions.float() - targets.float(), dim=-1)
    left, right = EYE_CORNERS
    scale: Tensor = torch.linalg.vector_norm((targets[:, left] - targets[:, right]).float(), dim=-1)
    return distances / scale[:, None]
