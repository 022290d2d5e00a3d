"""What surrounds a synthetic face: background, things in front of it, and the camera."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.random import Generator

from src.data.faces.drawing import Image
from src.data.faces.parts import Look, as_color


def draw_background(rng: Generator, side: int) -> Image:
    """Soft gradient with a few shapes."""
    coarse = rng.uniform(40.0, 220.0) + rng.normal(0.0, 22.0, 3) + rng.normal(0.0, 26.0, (4, 4, 3))
    coarse = np.clip(coarse, 0.0, 255.0).astype(np.uint8)
    gradient = cv2.resize(coarse, (24, 24), interpolation=cv2.INTER_CUBIC)  # at full size it is slow
    canvas = np.asarray(cv2.resize(gradient, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    for _ in range(rng.integers(0, 6)):
        color = as_color(rng.uniform(30.0, 230.0) + rng.normal(0.0, 35.0, 3))
        corners = side * (rng.random(2) + rng.normal(0.0, 0.25, (4, 2)))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], color, cv2.LINE_AA)
    return canvas


def occlude(rng: Generator, canvas: Image, look: Look) -> None:
    """Put a box, four fingers or a few locks of hair somewhere in the image, in place."""
    side = canvas.shape[0]
    center, angle = side * rng.random(2), rng.uniform(0.0, 2.0 * np.pi)
    kind = rng.integers(3)
    if kind == 0:
        size = side * rng.uniform(0.15, 0.35, 2)
        box = cv2.boxPoints((center.tolist(), size.tolist(), math.degrees(angle)))
        cv2.fillPoly(canvas, [box.astype(np.int32)], as_color(rng.uniform(0.0, 255.0, 3)), cv2.LINE_AA)
        return
    color, width = (np.array(look.skin), 0.085) if kind == 1 else (np.array(look.hair), 0.03)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    for number in range(4):
        start = center + across * number * width * side
        end = start + along * side * (0.45 - 0.04 * abs(number - 1.5))
        ends = np.rint([start, end]).astype(np.int32)
        shade = as_color(color * (0.84 + 0.05 * number))
        cv2.polylines(canvas, [ends], False, shade, max(1, round(width * side)), cv2.LINE_AA)


LEVELS: Final = np.linspace(0.0, 1.0, 256)  # of an 8-bit image


def photograph(rng: Generator, canvas: Image, size: int, wear: float, grayscale: bool) -> Image:
    """Reduce the canvas to the size and add what a camera does: exposure, tint, falloff, blur, noise.

    Args:
        rng: Source of the parameters.
        canvas: Image (n, n, 3), n a multiple of the size.
        size: Side of the result in pixels.
        wear: Scale of the defects, 1 for crops.
        grayscale: Whether the three channels are made equal.
    """
    # Automatic exposure goes half of the way to a gray of 118, as real cameras leave dark scenes dark.
    exposure = math.sqrt(118.0 / max(1.0, sum(cv2.mean(canvas)) / 3.0))
    exposure *= 2.0 ** (wear * rng.uniform(-0.5, 0.3))
    gamma, tint = 2.0 ** (wear * rng.uniform(-0.5, 0.5)), 1.0 + rng.normal(0.0, 0.04 * wear, 3)
    falloff = rng.normal(0.0, 0.15 * wear, 2)
    blur, noise = wear * size * rng.uniform(-0.02, 0.014), wear * rng.uniform(-6.0, 8.0)
    if canvas.shape[0] != size:
        canvas = np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    response = 255.0 * exposure * (LEVELS**gamma)[:, None] * tint
    exposed = cv2.LUT(canvas, response.astype(np.float32)[None])
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    plane = 1.0 + np.float32(falloff[0]) * axis + np.float32(falloff[1]) * axis[:, None]
    exposed = cv2.multiply(exposed, cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB))
    if blur > 0.2:
        exposed = cv2.GaussianBlur(exposed, (0, 0), blur)
    if noise > 0.0:
        grain = np.float32(noise) * rng.standard_normal((size, size), np.float32)
        exposed = cv2.add(exposed, cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB))
    image: Image = np.clip(exposed, 0.0, 255.0).astype(np.uint8)
    if grayscale:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)
    return image
