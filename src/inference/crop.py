"""From a face's box to what the model is shown of it: the crop part of the input contract."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from src.data.readers.images import fit
from src.inference.results import Box, Image


@dataclass(frozen=True)
class CropRule:
    """Square of a model's crop, relative to the square box of a frontal face detector.

    Attributes:
        scale: Side of the crop over that of the box.
        shift: How far the centre of the crop is below that of the box, in sides of the box.
    """

    scale: float
    shift: float


# FER2013's images are the boxes of a detector, as are those that `src.data.faces.generator` draws.
DETECTOR_BOX = CropRule(scale=1.0, shift=0.0)
# The square of side (width + height) / 1.1 of the 68 landmarks' box, which EmoNet's authors cut, where there is no more
# than a detector's box: medians of 500 neutral synthetic faces, whose box and landmarks are known.
LANDMARK_BOX = CropRule(scale=1.37, shift=0.07)


def crop_rule(contract: str) -> CropRule:
    """Return the rule that the words of an input contract (`ModelSpec.crop`) mean."""
    return LANDMARK_BOX if "landmarks' box" in contract else DETECTOR_BOX


def crop_box(box: Box, rule: CropRule) -> Box:
    """Return the square to cut about a detector's box; a box that is no square counts by its longer side."""
    side = max(box.width, box.height)
    center_x, center_y = box.x + box.width / 2, box.y + box.height / 2 + rule.shift * side
    side *= rule.scale
    return Box(center_x - side / 2, center_y - side / 2, side, side)


def cut(image: Image, box: Box, size: int, grayscale: bool) -> Image:
    """Cut a box out of an image and resize it as the training's images are.

    Args:
        image: RGB, (H, W, 3).
        box: Box; what lies outside the image repeats its edge.
        size: Side of the result in pixels.
        grayscale: Whether to remove the colors.

    Returns:
        RGB crop, (size, size, 3).
    """
    height, width = image.shape[:2]
    left, top = round(box.x), round(box.y)
    right, bottom = max(left + 1, round(box.x + box.width)), max(top + 1, round(box.y + box.height))
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        inside = image[top:bottom, left:right]
    else:
        rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
        inside = image[rows[:, None], columns]
    if grayscale:
        inside = np.asarray(cv2.cvtColor(inside, cv2.COLOR_RGB2GRAY), np.uint8)
    crop = fit(inside, size)
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_GRAY2RGB), np.uint8) if grayscale else crop


def to_tensor(crops: list[Image]) -> Tensor:
    """Stack RGB crops (S, S, 3) of uint8 to float images in [0, 1], (B, 3, S, S)."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
