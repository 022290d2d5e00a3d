"""Painting of one parametric cartoon face with OpenCV.

A face is laid out in *face units*: x to the right, y down, the origin between the eyes and the tip of the
nose, the half width of an average head being 1. Shapes are built around the 68 landmarks there and projected
to pixels by a :class:`Pose`, as the landmarks are: that is what makes these exact. Colours are RGB, 0 to 255.
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

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Colour = tuple[float, float, float]

SUBPIXEL_BITS: Final = 4  # OpenCV's `shift`: coordinates are in 1/16 pixel
BLACK: Final[Colour] = (18.0, 14.0, 14.0)
OPAQUE: Final[Colour] = (255.0, 255.0, 255.0)  # of a mask
WHITE: Final[Colour] = (255.0, 252.0, 246.0)
SCLERA: Final[Colour] = (238.0, 234.0, 228.0)
TEETH: Final[Colour] = (238.0, 232.0, 220.0)
MOUTH_INSIDE: Final[Colour] = (74.0, 22.0, 28.0)
TONGUE: Final[Colour] = (184.0, 90.0, 92.0)
FOLD_WIDTH: Final = 0.035  # of a fold of the skin before it is blurred, face units

RELIEF_SIDE: Final = 48  # samples along a side of the relief
RELIEF_REACH: Final = 1.6  # the relief covers [-reach, reach] face units both ways
RELIEF_ANCHORS: Final = np.array([[-0.43, -0.12], [0.43, -0.12], [0.0, 0.4]])  # its eyes and base of the nose
FOLD_DARKNESS: Final = 0.65  # of the deepest fold

SHADING_STEP: Final = 2  # light and folds are soft: smaller by this much, they are drawn faster
SHADING_UNIT: Final = 180.0  # of 8-bit shading that leaves a colour as it is
SHADOW_TINT: Final = (0.86, 1.0, 1.08)  # red, green, blue: shadows on skin take more blue than red away
BLUSH_TINT: Final = (0.06, -0.07, -0.06)


class Shape(NamedTuple):
    """A filled polygon (width 0) or an open line, in face units."""

    points: Array
    colour: Colour
    width: float = 0.0


class Placed(NamedTuple):
    """A shape in the picture: points (n, 2) in 1 / 2**SUBPIXEL_BITS pixels, width in pixels."""

    points: NDArray[np.int32]
    colour: Colour
    width: float


class Fold(NamedTuple):
    """A fold of the skin: points (n, 2) in face units and depth in [0, 1]."""

    points: Array
    depth: float


@dataclass(frozen=True)
class Pose:
    """Where the face is in the picture and how the head is turned.

    Attributes:
        yaw: Turn towards the picture's right, radians.
        pitch: Turn downwards, radians.
        roll: Clockwise rotation in the picture plane, radians.
        scale: Pixels per face unit.
        centre: Pixel (x, y) of the origin of the face units.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    centre: tuple[float, float]

    def project(self, points: Array) -> Array:
        """Map points (n, 2) in face units to pixels; the head is an ellipsoid that bears a nose."""
        x, y = points[:, 0], points[:, 1]
        ellipsoid = np.sqrt(np.maximum(1.0 - (x / 1.15) ** 2 - ((y - 0.1) / 1.6) ** 2, 0.0))
        nose = np.exp(-((x / 0.2) ** 2) - ((y - 0.28) / 0.25) ** 2)
        z = 0.8 * ellipsoid + 0.25 * nose
        u = x * math.cos(self.yaw) + z * math.sin(self.yaw)
        v = y * math.cos(self.pitch) + z * math.sin(self.pitch)
        cos, sin = self.scale * math.cos(self.roll), self.scale * math.sin(self.roll)
        return stack_xy(cos * u - sin * v + self.centre[0], sin * u + cos * v + self.centre[1])


@dataclass(frozen=True)
class Look:
    """What a face is painted with: colours, lengths in face units.

    Attributes:
        skin: Colour of the skin in full light.
        lips: Colour of the lips.
        iris: Colour of the iris.
        hair: Colour of the hair, the brows and the beard.
        clothes: Colour of the clothes.
        frame: Colour of the frame of the glasses.
        hair_style: "bald", "short", "fringe" or "long".
        hairline: Height of the hairline over the origin.
        parting: Place of the parting, from -1 (left temple) to 1 (right temple).
        brow_thickness: Thickness of the inner end of the brows.
        iris_radius: Radius of the iris.
        beard: Density of the beard, 0 for none, up to 1.
        glasses: Whether glasses are worn.
    """

    skin: Colour
    lips: Colour
    iris: Colour
    hair: Colour
    clothes: Colour
    frame: Colour
    hair_style: str
    hairline: float
    parting: float
    brow_thickness: float
    iris_radius: float
    beard: float
    glasses: bool


@dataclass(frozen=True)
class Light:
    """Light on a face: unit vector towards the lamp (x right, y down, z to the viewer), ambient share."""

    direction: tuple[float, float, float]
    ambient: float


def stack_xy(x: Array, y: Array) -> Array:
    """Points (n, 2) from their coordinates (n,), several times as fast as `np.stack` makes them."""
    points = np.empty((len(x), 2))
    points[:, 0] = x
    points[:, 1] = y
    return points


@lru_cache(maxsize=32)
def _spline_weights(count: int, steps: int) -> Array:
    """Weights (n, count) of an open Catmull-Rom curve through `count` points, `steps` samples a span."""
    weights = np.zeros(((count - 1) * steps + 1, count))
    for row in range(len(weights)):
        span = min(row // steps, count - 2)
        t = row / steps - span
        cubic = (
            -0.5 * t + t**2 - 0.5 * t**3,
            1.0 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2.0 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        )
        for offset, weight in enumerate(cubic, start=-1):
            weights[row, np.clip(span + offset, 0, count - 1)] += weight
    return weights


def smooth(points: Array, steps: int = 5) -> Array:
    """Smooth open curve through the points (n, 2), with `steps` samples between neighbours."""
    curve: Array = _spline_weights(len(points), steps) @ points
    return curve


@lru_cache(maxsize=8)
def _unit_circle(count: int) -> Array:
    angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return stack_xy(np.cos(angles), np.sin(angles))


def _ellipse(x: float, y: float, width: float, height: float, count: int = 24) -> Array:
    return _unit_circle(count) * (width, height) + (x, y)


EYE_DISCS: Final = np.concatenate(  # rim, iris, pupil and glint of an iris of radius 1
    [_ellipse(0.0, 0.0, r, r) for r in (1.0, 0.8, 0.45)] + [_ellipse(-0.3, -0.3, 0.22, 0.22)]
)
BROW_TAPER: Final = stack_xy(np.zeros(17), np.linspace(0.2, 0.5, 17))  # to the inner end, on each side
LASHES: Final = np.array([[0.0, -0.021]])  # half the thickness of the upper lashes


def _moved(points: Array, x: float, y: float) -> Array:
    moved: Array = points + np.array([x, y])
    return moved


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    keep = 1.0 - share
    return (
        keep * first[0] + share * second[0],
        keep * first[1] + share * second[1],
        keep * first[2] + share * second[2],
    )


def _between(points: Array, upper: Array, lower: Array) -> Array:
    """Clip points between two curves of increasing x: the iris stays under the lids."""
    x = np.minimum(np.maximum(points[:, 0], upper[0, 0]), upper[-1, 0])
    y = np.maximum(points[:, 1], np.interp(x, upper[:, 0], upper[:, 1]))
    return stack_xy(x, np.minimum(y, np.interp(x, lower[:, 0], lower[:, 1])))


def _head(landmarks: Array) -> Array:
    """Closed outline of the head: the jaw, then an arc over the top."""
    arc = _unit_circle(32)[1:16] * (landmarks[16, 0] * 1.02, -1.35)
    return np.concatenate([smooth(landmarks[:17], 3), _moved(arc, 0.0, landmarks[16, 1])])


def _behind_head(landmarks: Array, look: Look) -> list[Shape]:
    """Long hair, neck, clothes and ears."""
    half, chin = landmarks[16, 0], landmarks[8, 1]
    shade = _mix(look.skin, BLACK, 0.35)
    shapes = []
    if look.hair_style == "long":
        shapes.append(Shape(_ellipse(0.0, 0.1, half * 1.27, 1.72, 32), _mix(look.hair, BLACK, 0.35)))
    neck = np.array([[-0.58, 0.4], [0.58, 0.4], [0.6, chin + 0.5], [-0.6, chin + 0.5]])
    shoulders = np.array([[-2.4, 12.0], [-2.4, 4.0], [-2.2, 2.1], [-1.5, 1.78], [-0.62, 1.5], [0.0, 1.66]])
    shoulders = smooth(np.concatenate([shoulders, shoulders[-2::-1] * (-1.0, 1.0)]))
    shapes += [Shape(neck, shade), Shape(_moved(shoulders, 0.0, chin - 1.2), look.clothes)]
    for side in (-1.0, 1.0):
        shapes.append(Shape(_ellipse(side * half * 1.02, 0.06, 0.14, 0.26, 16), _mix(look.skin, BLACK, 0.16)))
        shapes.append(Shape(_ellipse(side * half * 1.04, 0.06, 0.07, 0.16, 16), shade))
    return shapes


def _nose(landmarks: Array, look: Look) -> list[Shape]:
    nostril, line = _mix(look.skin, BLACK, 0.66), _mix(look.skin, BLACK, 0.36)
    wing = np.array([[-0.02, -0.12], [-0.06, -0.05], [-0.03, 0.02], [0.03, 0.01]])
    shapes = [
        Shape(smooth(landmarks[31] + wing), line, 0.025),
        Shape(smooth(landmarks[35] + wing * (-1.0, 1.0)), line, 0.025),
    ]
    for x, y in landmarks[[32, 34]]:
        shapes.append(Shape(_ellipse(x, y - 0.01, 0.045, 0.024, 10), nostril))
    return shapes


def _beard(landmarks: Array, look: Look) -> list[Shape]:
    """Beard and moustache, denser towards the chin."""
    mouth = landmarks[48:]
    shapes = []
    for density, inset in ((0.3, 0.0), (0.5, 0.05)):
        right = [landmarks[14] + (-0.02 - inset, 0.1), mouth[6] + (0.2, 0.0), mouth[6] + (0.05, -0.05)]
        left = [mouth[0] + (-0.05, -0.05), mouth[0] + (-0.2, 0.0), landmarks[2] + (0.02 + inset, 0.1)]
        lip = [mouth[3] + (0.1, -0.1 + inset), mouth[3] + (-0.1, -0.1 + inset)]
        outline = np.concatenate([smooth(landmarks[2:15], 3), smooth(np.array(right + lip + left), 4)])
        colour = _mix(look.skin, _mix(look.hair, BLACK, 0.2), density + 0.4 * look.beard)
        shapes.append(Shape(outline, colour))
    return shapes


def _mouth(landmarks: Array, look: Look) -> list[Shape]:
    """Mouth from its twenty landmarks: lips around teeth and tongue."""
    outer_upper, outer_lower = smooth(landmarks[:7]), smooth(landmarks[[0, 11, 10, 9, 8, 7, 6]])
    inner_upper, inner_lower = smooth(landmarks[12:17]), smooth(landmarks[[12, 19, 18, 17, 16]])
    opening = landmarks[18, 1] - landmarks[14, 1]
    teeth = _between(_moved(inner_upper, 0.0, 0.05 + 0.2 * opening), inner_upper, inner_lower)
    tongue = _ellipse(landmarks[18, 0], landmarks[18, 1], 0.2, 0.4 * opening)
    return [
        Shape(np.concatenate([outer_upper, inner_upper[::-1]]), _mix(look.lips, BLACK, 0.14)),
        Shape(np.concatenate([outer_lower, inner_lower[::-1]]), look.lips),
        Shape(np.concatenate([inner_upper, inner_lower[::-1]]), MOUTH_INSIDE),
        Shape(_between(tongue, inner_upper, inner_lower), TONGUE),
        Shape(np.concatenate([inner_upper, teeth[::-1]]), TEETH),
        Shape(inner_upper, _mix(look.lips, BLACK, 0.6), 0.025),
    ]


def _eye(landmarks: Array, look: Look, gaze: tuple[float, float]) -> list[Shape]:
    """One eye from its six landmarks."""
    upper, lower = smooth(landmarks[[0, 1, 2, 3]]), smooth(landmarks[[0, 5, 4, 3]])
    middle, width = (landmarks[0] + landmarks[3]) / 2.0, landmarks[3, 0] - landmarks[0, 0]
    middle += (0.2 * gaze[0] * width, 0.03 * gaze[1] - 0.012)
    discs = look.iris_radius * EYE_DISCS + middle
    rim, iris, pupil, glint = _between(discs, upper, lower).reshape(4, -1, 2)
    return [
        Shape(_moved(upper, 0.0, -0.055), _mix(look.skin, BLACK, 0.34), 0.02),
        Shape(np.concatenate([upper, lower[::-1]]), _mix(SCLERA, look.skin, 0.12)),
        Shape(rim, _mix(look.iris, BLACK, 0.5)),
        Shape(iris, look.iris),
        Shape(pupil, BLACK),
        Shape(glint, WHITE),
        Shape(lower, _mix(look.skin, BLACK, 0.42), 0.018),
        Shape(np.concatenate([upper + LASHES, upper[::-1] - LASHES]), _mix(look.hair, BLACK, 0.75)),
    ]


def _brows(landmarks: Array, look: Look) -> list[Shape]:
    """Bands along the brow landmarks that taper outwards."""
    colour = _mix(_mix(look.hair, BLACK, 0.35), look.skin, 0.08)
    half = BROW_TAPER * look.brow_thickness
    left, right = smooth(landmarks[17:22], 4), smooth(landmarks[22:27], 4)
    bands = ((left, half), (right, half[::-1]))
    return [Shape(np.concatenate([line - side, (line + side)[::-1]]), colour) for line, side in bands]


def _hair(landmarks: Array, look: Look) -> list[Shape]:
    """Hair over the forehead, with lighter locks."""
    half, line, part = landmarks[16, 0], -look.hairline, 0.45 * look.parting
    front = line + (0.25 if look.hair_style == "fringe" else 0.0)
    crown = _unit_circle(32)[16:] * (half * 1.09, 1.47) + (0.0, -0.1)
    edge = np.array([[1.02, -0.1], [0.88, line + 0.22], [0.5, front], [0.0, line - 0.08]])
    edge = np.concatenate([edge, edge[2::-1] * (-1.0, 1.0)]) * (half, 1.0)
    edge[3, 0] = part
    shapes = [Shape(np.concatenate([crown, smooth(edge, 4)]), look.hair)]
    for number, x in enumerate((-0.82, -0.6, -0.38, -0.16, 0.16, 0.38, 0.6, 0.82)):
        lock = np.array([[part, -1.4], [0.5 * part + 0.6 * x, -1.2], [x, line - 0.1 + 0.3 * x * x]])
        shapes.append(Shape(smooth(lock), _mix(look.hair, WHITE, 0.05 + 0.05 * (number % 3)), 0.025))
    return shapes


def _glasses(landmarks: Array, look: Look) -> list[Shape]:
    circle = _unit_circle(28)
    rounded = np.sign(circle) * np.abs(circle) ** 0.7 * (0.33, 0.25) + (0.0, 0.03)
    left, right = (landmarks[first : first + 6].mean(axis=0) + rounded for first in (36, 42))
    bridge = smooth(np.array([left[0], (left[0] + right[14]) / 2.0 - (0.0, 0.05), right[14]]))
    lines = [np.concatenate([rim, rim[:1]]) for rim in (left, right)]
    lines += [bridge, np.array([left[14], landmarks[0]]), np.array([right[0], landmarks[16]])]
    return [Shape(line, look.frame, 0.035) for line in lines]


@lru_cache(maxsize=1)
def _relief() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Normals (n, n, 3), ambient occlusion (n, n) and blush (n, n) of an average face."""
    axis = np.linspace(-RELIEF_REACH, RELIEF_REACH, RELIEF_SIDE)
    x, y = np.meshgrid(axis, axis)

    def bump(centre_x: float, centre_y: float, width: float, height: float) -> Array:
        return np.exp(-(((np.abs(x) - centre_x) / width) ** 2) - ((y - centre_y) / height) ** 2)

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
    """What the light leaves of the skin's colour (side, side, 3), in units of 1 / SHADING_UNIT.

    The relief of the average face is laid on the eyes and the base of the nose of this one.
    """
    normals, occlusion, blush = _relief()
    lit = np.maximum(normals @ np.array(light.direction, np.float32), 0.0)
    loss = occlusion * (light.ambient + (1.15 - light.ambient) * lit) - 1.0
    tints = zip(SHADOW_TINT, BLUSH_TINT, strict=True)
    colour = cv2.merge([SHADING_UNIT * (1.0 + loss * shadow + blush * red) for shadow, red in tints])
    eyes = (landmarks[[36, 42]] + landmarks[[39, 45]]) / 2.0
    anchors = np.concatenate([eyes, landmarks[33:34]])
    source = (RELIEF_ANCHORS + RELIEF_REACH) * (RELIEF_SIDE - 1) / (2.0 * RELIEF_REACH)
    target = pose.project(anchors) / SHADING_STEP
    matrix = cv2.getAffineTransform(source.astype(np.float32), target.astype(np.float32))
    whole = cv2.convertScaleAbs(colour)
    return np.asarray(cv2.warpAffine(whole, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _project(shapes: Sequence[Shape], pose: Pose) -> list[Placed]:
    """Place shapes in the picture, all in one go: far faster than one by one."""
    pixels = pose.project(np.concatenate([shape.points for shape in shapes]))
    fixed = np.rint(pixels * 2**SUBPIXEL_BITS).astype(np.int32)
    ends = list(accumulate(len(shape.points) for shape in shapes))
    return [
        Placed(fixed[start:end], shape.colour, shape.width * pose.scale)
        for shape, start, end in zip(shapes, [0, *ends[:-1]], ends, strict=True)
    ]


def _paint(canvas: Image, shapes: Iterable[Placed], step: int = 1) -> None:
    """Paint shapes in order, in place, on a canvas `step` (a power of two) times smaller."""
    shift = SUBPIXEL_BITS + step.bit_length() - 1
    for shape in shapes:
        if shape.width:
            width = max(1, round(shape.width / step))
            cv2.polylines(canvas, [shape.points], False, shape.colour, width, cv2.LINE_AA, shift)
        else:
            cv2.fillPoly(canvas, [shape.points], shape.colour, cv2.LINE_AA, shift)


def _shade(canvas: Image, head: Placed, folds: Iterable[Placed], light: Image, blur: float) -> None:
    """Light the head and darken the folds of its skin, in place; `light` is SHADING_STEP times smaller."""
    creases = np.full(light.shape[:2], 255, np.uint8)
    _paint(creases, folds, SHADING_STEP)
    soft = cv2.cvtColor(cv2.GaussianBlur(creases, (0, 0), blur), cv2.COLOR_GRAY2RGB)
    shading = cv2.multiply(light, soft, scale=1.0 / 255.0)
    shading = cv2.resize(shading, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(canvas, shading, scale=1.0 / SHADING_UNIT)
    inside = np.zeros(canvas.shape[:2], np.uint8)
    _paint(inside, [head._replace(colour=OPAQUE)])
    share = inside * np.float32(1.0 / 255.0)
    cv2.blendLinear(lit, canvas, share, 1.0 - share, canvas)


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
        canvas: Picture (n, n, 3), uint8, RGB.
        landmarks: iBUG landmarks (68, 2) in face units.
        look: Colours and individual features.
        pose: Where the face goes.
        light: Light on the face.
        gaze: Where the eyes look, right and down, each in [-1, 1].
        folds: Folds of the skin.
    """
    head = Shape(_head(landmarks), look.skin)
    body = [*_behind_head(landmarks, look), head, *_nose(landmarks, look), *_brows(landmarks, look)]
    body += _eye(landmarks[36:42], look, gaze) + _eye(landmarks[42:48], look, gaze)
    body += [*(_beard(landmarks, look) if look.beard > 0.0 else []), *_mouth(landmarks[48:], look)]
    creases = []
    for points, depth in folds:
        creases.append(Shape(smooth(points), _mix(WHITE, BLACK, FOLD_DARKNESS * depth), FOLD_WIDTH))
    worn = [] if look.hair_style == "bald" else _hair(landmarks, look)
    worn += _glasses(landmarks, look) if look.glasses else []

    placed = iter(_project([*body, *creases, head, *worn], pose))
    _paint(canvas, islice(placed, len(body)))
    skin_folds = list(islice(placed, len(creases)))
    lighting = _light_up(landmarks, pose, light, canvas.shape[0] // SHADING_STEP)
    _shade(canvas, next(placed), skin_folds, lighting, blur=max(0.02 * pose.scale / SHADING_STEP, 0.5))
    _paint(canvas, placed)
