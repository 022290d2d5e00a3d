"""The parts of a face as colored polygons and lines around its 68 landmarks, in face units.

x runs to the right, y down, the origin is between the eyes and the tip of the nose, half the width of an average
head is 1. Colors are RGB, 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Color = tuple[float, float, float]
BLACK: Final[Color] = (18.0, 14.0, 14.0)
WHITE: Final[Color] = (255.0, 252.0, 246.0)
SCLERA: Final[Color] = (238.0, 234.0, 228.0)
TEETH: Final[Color] = (238.0, 232.0, 220.0)
MOUTH_INSIDE: Final[Color] = (74.0, 22.0, 28.0)
TONGUE: Final[Color] = (184.0, 90.0, 92.0)


class Shape(NamedTuple):
    """A filled polygon (width 0) or an open line, in face units."""

    points: Array
    color: Color
    width: float = 0.0


@dataclass(frozen=True)
class Look:
    """What a face is painted with: colors, lengths in face units.

    Attributes:
        skin: Color of the skin in full light.
        lips: Color of the lips.
        iris: Color of the iris.
        hair: Color of the hair, the brows and the beard.
        clothes: Color of the clothes.
        frame: Color of the frame of the glasses.
        hair_style: "bald", "short", "fringe" or "long".
        hairline: Height of the hairline over the origin.
        parting: Place of the parting, from -1 (left temple) to 1 (right temple).
        brow_thickness: Thickness of the inner end of the brows.
        iris_radius: Radius of the iris.
        beard: Density of the beard, 0 for none, up to 1.
        glasses: Whether glasses are worn.
    """

    skin: Color
    lips: Color
    iris: Color
    hair: Color
    clothes: Color
    frame: Color
    hair_style: str
    hairline: float
    parting: float
    brow_thickness: float
    iris_radius: float
    beard: float
    glasses: bool


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
    """Smooth open curve through the points (n, 2), with `steps` samples between neighbors."""
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


def mix(first: Color, second: Color, fraction: float) -> Color:
    """Blend two colors; 0 gives the first one, 1 the second."""
    keep = 1.0 - fraction
    return (
        keep * first[0] + fraction * second[0],
        keep * first[1] + fraction * second[1],
        keep * first[2] + fraction * second[2],
    )


def _between(points: Array, upper: Array, lower: Array) -> Array:
    """Clip points between two curves of increasing x: the iris stays under the lids."""
    x = np.minimum(np.maximum(points[:, 0], upper[0, 0]), upper[-1, 0])
    y = np.maximum(points[:, 1], np.interp(x, upper[:, 0], upper[:, 1]))
    return stack_xy(x, np.minimum(y, np.interp(x, lower[:, 0], lower[:, 1])))


def head_outline(landmarks: Array) -> Array:
    """Closed outline of the head: the jaw, then an arc over the top."""
    arc = _unit_circle(32)[1:16] * (landmarks[16, 0] * 1.02, -1.35)
    return np.concatenate([smooth(landmarks[:17], 3), _moved(arc, 0.0, landmarks[16, 1])])


def behind_head(landmarks: Array, look: Look) -> list[Shape]:
    """Long hair, neck, clothes and ears."""
    half, chin = landmarks[16, 0], landmarks[8, 1]
    shade = mix(look.skin, BLACK, 0.35)
    shapes = []
    if look.hair_style == "long":
        shapes.append(Shape(_ellipse(0.0, 0.1, half * 1.27, 1.72, 32), mix(look.hair, BLACK, 0.35)))
    neck = np.array([[-0.58, 0.4], [0.58, 0.4], [0.6, chin + 0.5], [-0.6, chin + 0.5]])
    shoulders = np.array([[-2.4, 12.0], [-2.4, 4.0], [-2.2, 2.1], [-1.5, 1.78], [-0.62, 1.5], [0.0, 1.66]])
    shoulders = smooth(np.concatenate([shoulders, shoulders[-2::-1] * (-1.0, 1.0)]))
    shapes += [Shape(neck, shade), Shape(_moved(shoulders, 0.0, chin - 1.2), look.clothes)]
    for side in (-1.0, 1.0):
        shapes.append(Shape(_ellipse(side * half * 1.02, 0.06, 0.14, 0.26, 16), mix(look.skin, BLACK, 0.16)))
        shapes.append(Shape(_ellipse(side * half * 1.04, 0.06, 0.07, 0.16, 16), shade))
    return shapes


def nose(landmarks: Array, look: Look) -> list[Shape]:
    """Wings and nostrils."""
    nostril, line = mix(look.skin, BLACK, 0.66), mix(look.skin, BLACK, 0.36)
    wing = np.array([[-0.02, -0.12], [-0.06, -0.05], [-0.03, 0.02], [0.03, 0.01]])
    shapes = [
        Shape(smooth(landmarks[31] + wing), line, 0.025),
        Shape(smooth(landmarks[35] + wing * (-1.0, 1.0)), line, 0.025),
    ]
    for x, y in landmarks[[32, 34]]:
        shapes.append(Shape(_ellipse(x, y - 0.01, 0.045, 0.024, 10), nostril))
    return shapes


def beard(landmarks: Array, look: Look) -> list[Shape]:
    """Beard and moustache, denser towards the chin."""
    mouth = landmarks[48:]
    shapes = []
    for density, inset in ((0.3, 0.0), (0.5, 0.05)):
        right = [landmarks[14] + (-0.02 - inset, 0.1), mouth[6] + (0.2, 0.0), mouth[6] + (0.05, -0.05)]
        left = [mouth[0] + (-0.05, -0.05), mouth[0] + (-0.2, 0.0), landmarks[2] + (0.02 + inset, 0.1)]
        lip = [mouth[3] + (0.1, -0.1 + inset), mouth[3] + (-0.1, -0.1 + inset)]
        outline = np.concatenate([smooth(landmarks[2:15], 3), smooth(np.array(right + lip + left), 4)])
        color = mix(look.skin, mix(look.hair, BLACK, 0.2), density + 0.4 * look.beard)
        shapes.append(Shape(outline, color))
    return shapes


def mouth(landmarks: Array, look: Look) -> list[Shape]:
    """Mouth from its twenty landmarks: lips around teeth and tongue."""
    outer_upper, outer_lower = smooth(landmarks[:7]), smooth(landmarks[[0, 11, 10, 9, 8, 7, 6]])
    inner_upper, inner_lower = smooth(landmarks[12:17]), smooth(landmarks[[12, 19, 18, 17, 16]])
    opening = landmarks[18, 1] - landmarks[14, 1]
    teeth = _between(_moved(inner_upper, 0.0, 0.05 + 0.2 * opening), inner_upper, inner_lower)
    tongue = _ellipse(landmarks[18, 0], landmarks[18, 1], 0.2, 0.4 * opening)
    return [
        Shape(np.concatenate([outer_upper, inner_upper[::-1]]), mix(look.lips, BLACK, 0.14)),
        Shape(np.concatenate([outer_lower, inner_lower[::-1]]), look.lips),
        Shape(np.concatenate([inner_upper, inner_lower[::-1]]), MOUTH_INSIDE),
        Shape(_between(tongue, inner_upper, inner_lower), TONGUE),
        Shape(np.concatenate([inner_upper, teeth[::-1]]), TEETH),
        Shape(inner_upper, mix(look.lips, BLACK, 0.6), 0.025),
    ]


def eye(landmarks: Array, look: Look, gaze: tuple[float, float]) -> list[Shape]:
    """One eye from its six landmarks."""
    upper, lower = smooth(landmarks[[0, 1, 2, 3]]), smooth(landmarks[[0, 5, 4, 3]])
    middle, width = (landmarks[0] + landmarks[3]) / 2.0, landmarks[3, 0] - landmarks[0, 0]
    middle += (0.2 * gaze[0] * width, 0.03 * gaze[1] - 0.012)
    discs = look.iris_radius * EYE_DISCS + middle
    rim, iris, pupil, glint = _between(discs, upper, lower).reshape(4, -1, 2)
    return [
        Shape(_moved(upper, 0.0, -0.055), mix(look.skin, BLACK, 0.34), 0.02),
        Shape(np.concatenate([upper, lower[::-1]]), mix(SCLERA, look.skin, 0.12)),
        Shape(rim, mix(look.iris, BLACK, 0.5)),
        Shape(iris, look.iris),
        Shape(pupil, BLACK),
        Shape(glint, WHITE),
        Shape(lower, mix(look.skin, BLACK, 0.42), 0.018),
        Shape(np.concatenate([upper + LASHES, upper[::-1] - LASHES]), mix(look.hair, BLACK, 0.75)),
    ]


def brows(landmarks: Array, look: Look) -> list[Shape]:
    """Bands along the brow landmarks that taper outwards."""
    color = mix(mix(look.hair, BLACK, 0.35), look.skin, 0.08)
    half = BROW_TAPER * look.brow_thickness
    left, right = smooth(landmarks[17:22], 4), smooth(landmarks[22:27], 4)
    bands = ((left, half), (right, half[::-1]))
    return [Shape(np.concatenate([line - side, (line + side)[::-1]]), color) for line, side in bands]


def hair(landmarks: Array, look: Look) -> list[Shape]:
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
        shapes.append(Shape(smooth(lock), mix(look.hair, WHITE, 0.05 + 0.05 * (number % 3)), 0.025))
    return shapes


def glasses(landmarks: Array, look: Look) -> list[Shape]:
    """Rims, bridge and temples."""
    circle = _unit_circle(28)
    rounded = np.sign(circle) * np.abs(circle) ** 0.7 * (0.33, 0.25) + (0.0, 0.03)
    left, right = (landmarks[first : first + 6].mean(axis=0) + rounded for first in (36, 42))
    bridge = smooth(np.array([left[0], (left[0] + right[14]) / 2.0 - (0.0, 0.05), right[14]]))
    lines = [np.concatenate([rim, rim[:1]]) for rim in (left, right)]
    lines += [bridge, np.array([left[14], landmarks[0]]), np.array([right[0], landmarks[16]])]
    return [Shape(line, look.frame, 0.035) for line in lines]


def as_color(values: Array) -> Color:
    """Keep red, green and blue (3,) away from both ends of their range, where shading would be lost."""
    red, green, blue = (max(5.0, min(value, 250.0)) for value in values.tolist())
    return red, green, blue
