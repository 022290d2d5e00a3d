"""How well a face can be seen, and whether that is enough."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from src.inference.crop import roll_of
from src.inference.detection import Detection
from src.inference.results import Box, Image


@dataclass(frozen=True)
class QualityLimits:
    """What a face must have to be predicted with confidence; docs/detection.md has the accuracy beyond.

    Attributes:
        min_side: Least longer side of the box, in pixels of the image.
        max_outside: Largest fraction of the crop that lies outside the image.
        min_frontality: Least `frontality`.
        min_sharpness: Least `sharpness`.
    """

    min_side: float = 28.0
    max_outside: float = 0.4
    min_frontality: float = 0.4
    min_sharpness: float = 0.015

    def reasons(self, image: Image, detection: Detection, crop: Box, pixels: Image) -> tuple[str, ...]:
        """Return why the prediction of a face is not to be trusted.

        Args:
            image: The image.
            detection: The face.
            crop: Square that the model is shown of it.
            pixels: That square as the model is shown it.

        Returns:
            Some of `src.inference.results.REASONS`.
        """
        failed = {
            "small": max(detection.box.width, detection.box.height) < self.min_side,
            "cut": outside(image, crop) > self.max_outside,
            "turned": frontality(detection.points) < self.min_frontality,
            "blurred": sharpness(pixels) < self.min_sharpness,
        }
        return tuple(reason for reason, is_so in failed.items() if is_so)


def outside(image: Image, crop: Box) -> float:
    """Return the fraction of a crop that lies outside its image."""
    height, width = image.shape[:2]
    shown_x = min(crop.x + crop.width, width) - max(crop.x, 0.0)
    shown_y = min(crop.y + crop.height, height) - max(crop.y, 0.0)
    return float(1 - max(shown_x, 0.0) * max(shown_y, 0.0) / (crop.width * crop.height))


def sharpness(crop: Image) -> float:
    """Return the part of a crop's contrast that is in its finest details.

    Args:
        crop: RGB, (S, S, 3); values depend on S.

    Returns:
        Variance of the Laplacian over the variance of the gray values, 0 for a crop without contrast.
    """
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var() / max(float(gray.var()), 1.0))


def frontality(points: NDArray[np.float32] | None) -> float:
    """Return how frontal a face is.

    Args:
        points: Eyes, nose and corners of the mouth as in `src.inference.detection.Detection`, (5, 2).

    Returns:
        1 if the nose is in the middle between the features on either side, 0 if it is above the outermost one or beyond
        it; 1 if it is not known.
    """
    if points is None:
        return 1.0
    angle = np.radians(roll_of(points))
    across = points @ np.array([np.cos(angle), np.sin(angle)])
    sides = np.delete(across, 2)
    half = (sides.max() - sides.min()) / 2
    return float(max(0.0, 1 - abs(across[2] - (sides.max() + sides.min()) / 2) / max(half, 1e-6)))
