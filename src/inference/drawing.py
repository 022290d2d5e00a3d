"""Shapes by OpenCV and text by Pillow on one image, with smooth edges."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from src.inference.results import Image

Color = tuple[int, int, int]
Point = tuple[float, float]
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
# OpenCV takes positions in this fraction of a pixel.
SHIFT = 4


class _Text(NamedTuple):
    place: Point
    text: str
    size: int
    color: Color
    anchor: str
    bold: bool


class Canvas:
    """An image to draw on; all positions are in pixels, colors are RGB.

    Attributes:
        pixels: The image without its texts, (H, W, 3).
    """

    def __init__(self, pixels: Image) -> None:
        """Start from an image (H, W, 3), which is changed."""
        self.pixels = pixels
        self._texts: list[_Text] = []

    def rectangle(self, corner: Point, size: Point, color: Color, thickness: float = 0) -> None:
        """Draw the outline of a rectangle, or fill it (thickness 0)."""
        end = (corner[0] + size[0] - 1, corner[1] + size[1] - 1)
        line = max(1, round(thickness)) if thickness else cv2.FILLED
        cv2.rectangle(self.pixels, _fixed(corner), _fixed(end), color, line, cv2.LINE_AA, SHIFT)

    def circle(self, center: Point, radius: float, color: Color, thickness: float = 0) -> None:
        """Draw a circle, or fill it (thickness 0)."""
        line = max(1, round(thickness)) if thickness else cv2.FILLED
        cv2.circle(self.pixels, _fixed(center), round(radius * 2**SHIFT), color, line, cv2.LINE_AA, SHIFT)

    def line(self, start: Point, end: Point, color: Color, thickness: float = 1) -> None:
        """Draw a line."""
        cv2.line(self.pixels, _fixed(start), _fixed(end), color, max(1, round(thickness)), cv2.LINE_AA, SHIFT)

    def text(
        self, place: Point, text: str, size: float, color: Color, *, anchor: str = "la", bold: bool = False
    ) -> None:
        """Write a text; it will lie above all shapes.

        Args:
            place: Where its anchor is.
            text: One line.
            size: Height of the font in pixels.
            color: Color.
            anchor: Pillow's, such as `lm` for the middle of the left edge.
            bold: Whether the font is bold.
        """
        self._texts.append(_Text(place, text, max(6, round(size)), color, anchor, bold))

    def finished(self) -> Image:
        """Return the image with its texts."""
        image = PillowImage.fromarray(self.pixels)
        draw = ImageDraw.Draw(image)
        for entry in self._texts:
            draw.text(
                entry.place, entry.text, fill=entry.color, font=_font(entry.size, entry.bold), anchor=entry.anchor
            )
        return np.asarray(image)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a text in pixels."""
    return float(_font(max(6, round(size)), bold).getlength(text))


def blend(pixels: Image, color: NDArray[np.float32] | Color, weight: NDArray[np.float32] | float) -> Image:
    """Return pixels (H, W, 3) mixed with a color, or with others of their shape; weight 1 leaves nothing of them."""
    fraction = np.asarray(weight, np.float32)
    fraction = fraction[..., None] if fraction.ndim else fraction
    mixed = pixels * (1 - fraction) + np.asarray(color, np.float32) * fraction
    return np.asarray(np.rint(mixed), np.uint8)


def _fixed(point: Point) -> tuple[int, int]:
    return round(point[0] * 2**SHIFT), round(point[1] * 2**SHIFT)


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)
