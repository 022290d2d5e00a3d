"""Faces for data sets whose images show more than that."""

from __future__ import annotations

from functools import cached_property

from src.data.readers.images import MAX_SIDE
from src.inference.crop import crop_box, crop_rule, cut, roll_of
from src.inference.detection import Detector, build_detector
from src.inference.results import Image


class LargestFace:
    """Cuts the largest face out of an image as `predict` does; a `src.data.readers.frames.FaceCutter`."""

    @cached_property
    def _detector(self) -> Detector:
        return build_detector("retinaface")

    def __call__(self, image: Image, crop: str) -> Image | None:
        """Return the square about the largest face, or None if there is no face.

        Args:
            image: RGB, (H, W, 3).
            crop: Name of the square, see `src.models.crops`.

        Returns:
            RGB in the resolution of the image, reduced to the longest side of stores, (S, S, 3).
        """
        found = max(self._detector(image), key=lambda face: max(face.box[2:]), default=None)
        if found is None:
            return None
        roll = roll_of(found.points)
        square = crop_box(found.box, crop_rule(self._detector, crop), roll)
        return cut(image, square, min(MAX_SIDE, max(1, round(square.width))), grayscale=False, roll=roll)
