"""A detector that looks at a part of images alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.inference.detection import Detection, Detector
from src.inference.results import Image
from src.utils.errors import ConfigError


class RegionDetector:
    """Finds the faces within a rectangle of an image.

    Attributes:
        crops: Those of the detector that is asked, if it has any.
    """

    def __init__(self, detector: Detector, region: Sequence[float]) -> None:
        """Choose the rectangle.

        Args:
            detector: What finds the faces there.
            region: Its left, upper, right and lower edge, in fractions of the image's width and height.

        Raises:
            ConfigError: If it is none.
        """
        left, top, right, bottom = region
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ConfigError(
                f"region={list(region)}; expected the left, upper, right and lower edge as fractions of the image, "
                "such as [0.5, 0, 1, 1] for its right half."
            )
        self.detector, self.region = detector, (left, top, right, bottom)
        crops = getattr(detector, "crops", None)
        if crops is not None:
            self.crops = crops

    def __call__(self, image: Image) -> list[Detection]:
        """Return the faces of the rectangle, at their places in the RGB image (H, W, 3), from left to right."""
        height, width = image.shape[:2]
        left, top, right, bottom = (
            round(edge * side) for edge, side in zip(self.region, (width, height, width, height), strict=True)
        )
        part = np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])
        return [
            found._replace(
                box=found.box._replace(x=found.box.x + left, y=found.box.y + top),
                points=None if found.points is None else found.points + np.array([left, top], np.float32),
            )
            for found in self.detector(part)
        ]


def within(detector: Detector, region: Sequence[float] | None) -> Detector:
    """Return a detector for a part of images, or for all of them (None); see `RegionDetector`."""
    return detector if region is None else RegionDetector(detector, region)
