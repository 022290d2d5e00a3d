"""Painting of one parametric cartoon face with OpenCV.

A face is laid out in *face units*: x to the right, y down, the origin between the eyes and the tip of the
nose, the half width of an average head being 1. Shapes are built around the 68 landmarks there and projected
to pixels by a :class:`Pose`, as the landmarks are: that is what makes these exact. Colors are RGB, 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from src.data.faces.parts import (
    BLACK,
    WHITE,
    Array,
    Color,
    Look,
    Shape,
    beard,
    behind_head,
    brows,
    eye,
    glasses,
    hair,
    head_outline,
    mix,
    mouth,
    nose,
    smooth,
    stack_xy,
)

Image = NDArray[np.uint8]
SUBPIXEL_BITS: Final = 4  # OpenCV's `shift`: coordinates are in 1/16 pixel
OPAQUE: Final[Color] = (255.0, 255.0, 255.0)  # of a mask
FOLD_WIDTH: Final = 0.035  # of a fold of the skin before it is blurred, face units
RELIEF_SIDE: Final = 48  # samples along a side of the relief
RELIEF_REACH: Final = 1.6  # the relief covers [-reach, reach] face units both ways
RELIEF_ANCHORS: Final = np.array([[-0.43, -0.12], [0.43, -0.12], [0.0, 0.4]])  # its eyes and base of the nose
FOLD_DARKNESS: Final = 0.65  # of the deepest fold
SHADING_STEP: Final = 2  # light and folds are soft: smaller by this much, they are drawn faster
SHADING_UNIT: Final = 180.0  # of 8-bit shading that leaves a color as it is
SHADOW_TINT: Final = (0.86, 1.0, 1.08)  # red, green, blue: shadows on skin take more blue than red away
BLUSH_TINT: Final = (0.06, -0.07, -0.06)


class Placed(NamedTuple):
    """A shape in the image: points (n, 2) in 1 / 2**SUBPIXEL_BITS pixels, width in pixels."""

    points: NDArray[np.int32]
    color: Color
    width: float


class Fold(NamedTuple):
    """A fold of the skin: points (n, 2) in face units and depth in [0, 1]."""

    points: Array
    depth: float


@dataclass(frozen=True)
class Pose:
    """Where the face is in the image and how the head is turned.

    Attributes:
        yaw: Turn towards the image's right, radians.
        pitch: Turn downwards, radians.
        roll: Clockwise rotation in the image plane, radians.
        scale: Pixels per face unit.
        center: Pixel (x, y) of the origin of the face units.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    center: tuple[float, float]

    def project(self, points: Array) -> Array:
        """Map points (n, 2) in face units to pixels; the head is an ellipsoid that bears a nose."""
        x, y = points[:, 0], points[:, 1]
        ellipsoid = np.sqrt(np.maximum(1.0 - (x / 1.15) ** 2 - ((y - 0.1) / 1.6) ** 2, 0.0))
        nose = np.exp(-((x / 0.2) ** 2) - ((y - 0.28) / 0.25) ** 2)
        z = 0.8 * ellipsoid + 0.25 * nose
        u = x * math.cos(self.yaw) + z * math.sin(self.yaw)
        v = y * math.cos(self.pitch) + z * math.sin(self.pitch)
        cos, sin = self.scale * math.cos(self.roll), self.scale * math.sin(self.roll)
        return stack_xy(cos * u - sin * v + self.center[0], sin * u + cos * v + self.center[1])


@dataclass(frozen=True)
class Light:
    """Light on a face: unit vector towards the lamp (x right, y down, z to the viewer), ambient fraction."""

    direction: tuple[float, float, float]
    ambient: float


@lru_cache(maxsize=1)
def _relief() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Normals (n, n, 3), ambient occlusion (n, n) and blush (n, n) of an average face."""
    axis = np.linspace(-RELIEF_REACH, RELIEF_REACH, RELIEF_SIDE)
    x, y = np.meshgrid(axis, axis)

    def bump(center_x: float, center_y: float, width: float, height: float) -> Array:
        return np.exp(-(((np.abs(x) - center_x) / width) ** 2) - ((y - center_y) / height) ** 2)

    sockets, cheeks = bump(0.4, -0.14, 0.26, 0.16), bump(0.52, 0.3, 0.25, 0.22)
    height = 0.9 * np.sqrt(np.maximum(1.0 - (x / 1.3) ** 2 - ((y - 0.05) / 1.7) ** 2, 0.02))
    height += 0.22 * bump(0.0, 0.28, 0.13, 0.16) + 0.12 * bump(0.0, 0.02, 0.1, 0.3)  # nose
    height += 0.05 * bump(0.4, -0.4, 0.3, 0.1) + 0.07 * cheeks - 0.1 * sockets
    height += 0.06 * bump(0.0, 0.72, 0.3, 0.14) + 0.06 * bump(0.0, 1.12, 0.2, 0.13)  # lips and chin
    slope_y, slope_x = np.gradient(height, axis[1] - axis[0])
    normals = np.stack([-slope_x, -slope_y, np.ones_like(x)], axis=2)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    occlusion = 1.0 - 0.38 * sockets - 0.25 * bump(0.0, 0.47, 0.14, 0.06) - 0.12 * bump(0.0, 1.0, 0.2, 0.06)
    return normals.astype(np.float32), occlusion.astype(np.float32), cheeks.astype(np.float32)


def _light_up(landmarks: Array, pose: Pose, light: Light, side: int) -> Image:
    """What the light leaves of the skin's color (side, side, 3), in units of 1 / SHADING_UNIT.

    The relief of the average face is laid on the eyes and the base of the nose of this one.
    """
    normals, occlusion, blush = _relief()
    lit = np.maximum(normals @ np.array(light.direction, np.float32), 0.0)
    loss = occlusion * (light.ambient + (1.15 - light.ambient) * lit) - 1.0
    tints = zip(SHADOW_TINT, BLUSH_TINT, strict=True)
    color = cv2.merge([SHADING_UNIT * (1.0 + loss * shadow + blush * red) for shadow, red in tints])
    eyes = (landmarks[[36, 42]] + landmarks[[39, 45]]) / 2.0
    anchors = np.concatenate([eyes, landmarks[33:34]])
    source = (RELIEF_ANCHORS + RELIEF_REACH) * (RELIEF_SIDE - 1) / (2.0 * RELIEF_REACH)
    target = pose.project(anchors) / SHADING_STEP
    matrix = cv2.getAffineTransform(source.astype(np.float32), target.astype(np.float32))
    whole = cv2.convertScaleAbs(color)
    return np.asarray(cv2.warpAffine(whole, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _project(shapes: Sequence[Shape], pose: Pose) -> list[Placed]:
    """Place shapes in the image, all in one go: far faster than one by one."""
    pixels = pose.project(np.concatenate([shape.points for shape in shapes]))
    fixed = np.rint(pixels * 2**SUBPIXEL_BITS).astype(np.int32)
    ends = list(accumulate(len(shape.points) for shape in shapes))
    return [
        Placed(fixed[start:end], shape.color, shape.width * pose.scale)
        for shape, start, end in zip(shapes, [0, *ends[:-1]], ends, strict=True)
    ]


def _paint(canvas: Image, shapes: Iterable[Placed], step: int = 1) -> None:
    """Paint shapes in order, in place, on a canvas `step` (a power of two) times smaller."""
    shift = SUBPIXEL_BITS + step.bit_length() - 1
    for shape in shapes:
        if shape.width:
            width = max(1, round(shape.width / step))
            cv2.polylines(canvas, [shape.points], False, shape.color, width, cv2.LINE_AA, shift)
        else:
            cv2.fillPoly(canvas, [shape.points], shape.color, cv2.LINE_AA, shift)


def _shade(canvas: Image, head: Placed, folds: Iterable[Placed], light: Image, blur: float) -> None:
    """Light the head and darken the folds of its skin, in place; `light` is SHADING_STEP times smaller."""
    creases = np.full(light.shape[:2], 255, np.uint8)
    _paint(creases, folds, SHADING_STEP)
    soft = cv2.cvtColor(cv2.GaussianBlur(creases, (0, 0), blur), cv2.COLOR_GRAY2RGB)
    shading = cv2.multiply(light, soft, scale=1.0 / 255.0)
    shading = cv2.resize(shading, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(canvas, shading, scale=1.0 / SHADING_UNIT)
    inside = np.zeros(canvas.shape[:2], np.uint8)
    _paint(inside, [head._replace(color=OPAQUE)])
    fraction = inside * np.float32(1.0 / 255.0)
    cv2.blendLinear(lit, canvas, fraction, 1.0 - fraction, canvas)


def paint_face(
    canvas: Image,
    landmarks: Array,
    look: Look,
    pose: Pose,
    light: Light,
    gaze: tuple[float, float],
    folds: Sequence[Fold],
) -> None:
    """Paint one face over a square canvas, in place.

    Args:
        canvas: Image (n, n, 3), uint8, RGB.
        landmarks: iBUG landmarks (68, 2) in face units.
        look: Colors and individual features.
        pose: Where the face goes.
        light: Light on the face.
        gaze: Where the eyes look, right and down, each in [-1, 1].
        folds: Folds of the skin.
    """
    head = Shape(head_outline(landmarks), look.skin)
    body = [*behind_head(landmarks, look), head, *nose(landmarks, look), *brows(landmarks, look)]
    body += eye(landmarks[36:42], look, gaze) + eye(landmarks[42:48], look, gaze)
    body += [*(beard(landmarks, look) if look.beard > 0.0 else []), *mouth(landmarks[48:], look)]
    creases = []
    for points, depth in folds:
        creases.append(Shape(smooth(points), mix(WHITE, BLACK, FOLD_DARKNESS * depth), FOLD_WIDTH))
    worn = [] if look.hair_style == "bald" else hair(landmarks, look)
    worn += glasses(landmarks, look) if look.glasses else []

    placed = iter(_project([*body, *creases, head, *worn], pose))
    _paint(canvas, islice(placed, len(body)))
    skin_folds = list(islice(placed, len(creases)))
    lighting = _light_up(landmarks, pose, light, canvas.shape[0] // SHADING_STEP)
    _shade(canvas, next(placed), skin_folds, lighting, blur=max(0.02 * pose.scale / SHADING_STEP, 0.5))
    _paint(canvas, placed)
