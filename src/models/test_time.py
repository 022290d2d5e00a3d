"""Test-time augmentation: the views of an image over which class probabilities are averaged."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

TestTimeAugmentation = Literal["none", "flip", "crops"]
# A crop leaves out this fraction of the side: less than training's scale and shift, so that no view is foreign.
CROP_MARGIN = 1 / 8


def views(image: Tensor, mode: TestTimeAugmentation) -> list[Tensor]:
    """Return the views of images.

    Args:
        image: (B, 3, S, S).
        mode: `none`; `flip`, the image and its mirror image; or `crops`, these two and ten crops of 7/8 of the side,
            the corners and the center and their mirror images (TenCrop of Krizhevsky et al., NeurIPS 2012), resized.

    Returns:
        Images of the same shape, the unchanged ones first.
    """
    if mode == "none":
        return [image]
    straight = [image, *(_crops(image) if mode == "crops" else [])]
    return [view for image in straight for view in (image, image.flip(-1))]


def n_views(mode: TestTimeAugmentation) -> int:
    """Return the number of views of an image."""
    return {"none": 1, "flip": 2, "crops": 12}[mode]


def _crops(image: Tensor) -> list[Tensor]:
    side = image.shape[-1]
    margin = round(side * CROP_MARGIN)
    corners = [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
    kept = side - margin
    parts = [image[..., y : y + kept, x : x + kept] for y, x in corners]
    return [F.interpolate(part, size=(side, side), mode="bilinear", align_corners=False) for part in parts]
