"""From a face's box to what the model is shown of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.data.readers.images import fit
from src.inference.results import Box, Image
from src.models.crops import crop_name


@dataclass(frozen=True)
class CropRule:
    """Square of a model's crop, relative to a detector's box.

    Attributes:
        scale: Side of the crop over the longer side of the box.
        shift: How far the center of the crop is below that of the box, in longer sides of the box.
    """

    scale: float = 1.0
    shift: float = 0.0


# By the names of `src.models.crops`.
Crops = Mapping[str, CropRule]

# Boxes such as FER2013's, and those that `src.data.faces.generator` draws. For `landmarks`, medians of 500 neutral
# synthetic faces, whose box and landmarks are known.
FER2013_CROPS: Crops = {
    "fer2013": CropRule(),
    "expw": CropRule(1.08, -0.06),
    "landmarks": CropRule(1.37, 0.07),
}
# Boxes as WIDER FACE's annotators drew them, from the hairline to the chin. `fer2013` is the best of docs/detection.md;
# the others are medians of RetinaFace's boxes on 785 images of ExpW, and on 288 of FER2013 with known landmarks.
WIDER_FACE_CROPS: Crops = {
    "fer2013": CropRule(0.95, 0.0),
    "expw": CropRule(1.05, -0.06),
    "landmarks": CropRule(1.38, 0.11),
}


def crop_rule(detector: object, crop: str) -> CropRule:
    """Return how the squares that a model sees follow from a detector's boxes.

    Args:
        detector: A `src.inference.detection.Detector`.
        crop: Name of the model's crop.

    Raises:
        ConfigError: If there is no such crop.
    """
    rules: Crops = {**FER2013_CROPS, **getattr(detector, "crops", {})}
    return rules[crop_name(crop)]


def crop_box(box: Box, rule: CropRule, roll: float = 0.0) -> Box:
    """Return the square to cut about a detector's box; a box that is no square counts by its longer side.

    Args:
        box: The detector's box.
        rule: How the square follows from it.
        roll: How far the face, and the square about its own center, is turned clockwise, in degrees.
    """
    side = max(box.width, box.height)
    down = rule.shift * side
    center_x = box.x + box.width / 2 - down * math.sin(math.radians(roll))
    center_y = box.y + box.height / 2 + down * math.cos(math.radians(roll))
    side *= rule.scale
    return Box(center_x - side / 2, center_y - side / 2, side, side)


def roll_of(points: NDArray[np.float32] | None) -> float:
    """Return by how many degrees a face is turned clockwise in its image: 0 is upright, or not known.

    Args:
        points: Eyes, nose and corners of the mouth as in `src.inference.detection.Detection`, (5, 2).
    """
    if points is None:
        return 0.0
    right_eye, left_eye, _, right_corner, left_corner = points.astype(np.float64)
    across = left_eye - right_eye
    down = (right_corner + left_corner - right_eye - left_eye) / 2
    # The sum of both directions: in a profile, the eyes are too close to each other to tell.
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))


def crop_to_image(box: Box, roll: float, size: int) -> NDArray[np.float64]:
    """Return where the pixels of a crop are in its image, 0 being the center of the first pixel of either.

    Args:
        box: Square of the crop, before it is turned about its center.
        roll: How far it is turned clockwise, in degrees.
        size: Side of the crop in pixels.

    Returns:
        Matrix of (x, y, 1), (2, 3).
    """
    scale, angle = box.width / size, math.radians(roll)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    # As in OpenCV, the edges of the crop stay the edges: the center of its first pixel moves.
    center = np.array([box.x + box.width / 2, box.y + box.height / 2]) - 0.5
    return np.column_stack([linear, center - linear @ np.full(2, (size - 1) / 2)])


def cut(image: Image, box: Box, size: int, grayscale: bool, roll: float = 0.0) -> Image:
    """Cut a box out of an image and resize it as the training's images are.

    Args:
        image: RGB, (H, W, 3).
        box: Box; what lies outside the image repeats its edge.
        size: Side of the result in pixels.
        grayscale: Whether to remove the colors.
        roll: How far the box is turned clockwise about its center, in degrees.

    Returns:
        RGB crop, (size, size, 3).
    """
    inside = _turned(image, box, roll) if roll else _straight(image, box)
    if grayscale:
        inside = np.asarray(cv2.cvtColor(inside, cv2.COLOR_RGB2GRAY), np.uint8)
    crop = fit(inside, size)
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_GRAY2RGB), np.uint8) if grayscale else crop


def _turned(image: Image, box: Box, roll: float) -> Image:
    """Cut a turned square out of an image, in the image's own resolution."""
    side = max(1, round(box.width))
    around = _straight(image, Box(box.x - box.width / 4, box.y - box.height / 4, 1.5 * box.width, 1.5 * box.height))
    origin = round(box.x - box.width / 4), round(box.y - box.height / 4)
    place = crop_to_image(Box(box.x - origin[0], box.y - origin[1], box.width, box.height), roll, side)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(around, place, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _straight(image: Image, box: Box) -> Image:
    """Cut a box out of an image; what lies outside repeats its edge."""
    height, width = image.shape[:2]
    left, top = round(box.x), round(box.y)
    right, bottom = max(left + 1, round(box.x + box.width)), max(top + 1, round(box.y + box.height))
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[top:bottom, left:right]
    rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
    return np.asarray(image[rows[:, None], columns], np.uint8)


def to_tensor(crops: list[Image]) -> Tensor:
    """Stack RGB crops (S, S, 3) of uint8 to float images in [0, 1], (B, 3, S, S)."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
