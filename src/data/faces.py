"""Procedural expressive faces: pictures whose labels and landmarks are right by construction.

An expression is a distribution of facial actions (after the Facial Action Coding System, FACS); the actions
move the 68 landmarks of a random person, and :mod:`src.data.face_drawing` paints a face around them. A
picture depends on its `(seed, index)` alone, whatever the process and the order in which pictures are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from src.data.face_drawing import Array, Colour, Fold, Image, Light, Look, Pose, paint_face, stack_xy

EXPRESSIONS: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
DRAWABLE: Final = (*EXPRESSIONS, "contempt")
MIN_SIZE: Final = 16  # pixels: under it nothing of an expression is left
MIN_CANVAS: Final = 128  # pixels: smaller pictures are drawn at a multiple of their size, then reduced

# The square that a frontal face detector boxes, in face units: measured with OpenCV's Haar cascade.
BOX_CENTRE_Y: Final = 0.13
BOX_HALF: Final = 1.2

CROP_SCALE: Final = (0.88, 1.18)  # of the face in a crop, 1 where a detector's box fills it
CROP_SHIFT: Final = 0.04  # standard deviation of the face's place in a crop, in sides of the crop
CROP_TURN: Final = (0.22, 0.12, 0.12)  # standard deviations of yaw, pitch and roll in a crop, radians
FACE_IN_CELL: Final = (0.4, 0.65)  # side of a face's box in a scene, in sides of its cell
SCENE_TURN: Final = (0.06, 0.05, 0.04)  # as CROP_TURN, for the frontal faces of a scene
SCENE_WEAR: Final = 0.5  # defects of a scene's photograph, 1 being those of a crop
OCCLUDED: Final = 0.12  # share of the crops with something in front of the face
INTENSITY: Final = (0.35, 1.0)  # of an expression; at the low end it is easily taken for a neighbour
SPREAD: Final = 0.28  # standard deviation of a person's own share of an action of the expression
STRAY: Final = 0.11  # standard deviation of actions that belong to no expression


class Actions(NamedTuple):
    """Strength of each facial action, in [0, 1]; the comments give the FACS numbers."""

    inner_brow_raise: float = 0.0  # 1
    outer_brow_raise: float = 0.0  # 2
    brow_lower: float = 0.0  # 4
    lid_raise: float = 0.0  # 5
    cheek_raise: float = 0.0  # 6
    lid_tighten: float = 0.0  # 7
    nose_wrinkle: float = 0.0  # 9
    upper_lip_raise: float = 0.0  # 10
    corner_pull: float = 0.0  # 12
    corner_depress: float = 0.0  # 15
    chin_raise: float = 0.0  # 17
    lip_stretch: float = 0.0  # 20
    lip_press: float = 0.0  # 24
    lips_part: float = 0.0  # 25
    jaw_drop: float = 0.0  # 26
    one_sided: float = 0.0  # not in FACS: how much of the corner's movement one side lacks


class Affect(NamedTuple):
    """A point of the circumplex of affect, each coordinate in [-1, 1]."""

    valence: float
    arousal: float


class Proportions(NamedTuple):
    """Where the features of a person at rest are, in face units."""

    half_width: float
    chin: float
    squareness: float  # of the jaw: 1 for an ellipse, less for a squarer one
    eye_distance: float  # of each eye from the middle
    eye_height: float
    eye_half_width: float
    eye_half_opening: float
    eye_slant: float
    brow_gap: float  # from eye to brow
    brow_arch: float
    brow_slant: float
    nose_length: float
    nose_half_width: float
    mouth_height: float
    mouth_half_width: float
    mouth_bend: float
    upper_lip: float
    lower_lip: float


# Each expression at full intensity: its actions and its place on the circumplex.
PROTOTYPES: Final = {
    "neutral": (Actions(), Affect(0.0, 0.0)),
    "happy": (
        Actions(cheek_raise=0.8, lid_tighten=0.15, corner_pull=1.0, lips_part=0.6),
        Affect(0.72, 0.34),
    ),
    "sad": (
        Actions(inner_brow_raise=0.9, brow_lower=0.25, lid_tighten=0.35, corner_depress=1.0, chin_raise=0.5),
        Affect(-0.6, -0.4),
    ),
    "surprise": (
        Actions(inner_brow_raise=0.9, outer_brow_raise=1.0, lid_raise=0.8, lips_part=0.4, jaw_drop=0.9),
        Affect(0.17, 0.68),
    ),
    "fear": (
        Actions(
            inner_brow_raise=1.0, outer_brow_raise=0.35, brow_lower=0.25,
            lid_raise=1.0, lip_stretch=1.0, lips_part=0.6, jaw_drop=0.2,
        ),
        Affect(-0.5, 0.62),
    ),
    "disgust": (
        Actions(
            brow_lower=0.55, cheek_raise=0.4, lid_tighten=0.5, nose_wrinkle=1.0,
            upper_lip_raise=1.0, corner_depress=0.35, lips_part=0.25,
        ),
        Affect(-0.62, 0.26),
    ),
    "angry": (
        Actions(brow_lower=1.0, lid_raise=0.25, lid_tighten=0.4, chin_raise=0.3, lip_press=1.0),
        Affect(-0.5, 0.6),
    ),
    "contempt": (
        Actions(lid_tighten=0.25, corner_pull=0.75, lip_press=0.25, one_sided=1.0),
        Affect(-0.5, 0.15),
    ),
}  # fmt: skip
# What a fully displayed action adds by itself, whatever the expression.
VALENCE_OF_ACTION: Final = Actions(
    corner_pull=0.15, cheek_raise=0.05, corner_depress=-0.12, brow_lower=-0.08, nose_wrinkle=-0.08
)
AROUSAL_OF_ACTION: Final = Actions(lid_raise=0.12, jaw_drop=0.1, corner_pull=0.05, corner_depress=-0.08)

# Uniform ranges of the proportions.
NARROWEST: Final = Proportions(
    half_width=0.9, chin=1.12, squareness=0.75, eye_distance=0.38, eye_height=-0.18, eye_half_width=0.17,
    eye_half_opening=0.07, eye_slant=-0.03, brow_gap=0.25, brow_arch=0.02, brow_slant=-0.04, nose_length=0.42,
    nose_half_width=0.14, mouth_height=0.68, mouth_half_width=0.3, mouth_bend=-0.03, upper_lip=0.045,
    lower_lip=0.06,
)  # fmt: skip
WIDEST: Final = Proportions(
    half_width=1.08, chin=1.32, squareness=1.0, eye_distance=0.48, eye_height=-0.06, eye_half_width=0.22,
    eye_half_opening=0.1, eye_slant=0.03, brow_gap=0.33, brow_arch=0.09, brow_slant=0.04, nose_length=0.56,
    nose_half_width=0.21, mouth_height=0.78, mouth_half_width=0.4, mouth_bend=0.03, upper_lip=0.085,
    lower_lip=0.11,
)  # fmt: skip

SKINS: Final = np.array(
    [
        [244, 208, 184], [234, 192, 162], [220, 170, 134], [194, 142, 106],
        [160, 110, 80], [124, 84, 62], [98, 68, 52],
    ]
)  # fmt: skip
HAIRS: Final = np.array(
    [[28, 24, 24], [44, 32, 26], [160, 158, 154], [84, 56, 38], [132, 90, 54], [146, 62, 36], [202, 166, 104]]
)
DARK_HAIRS: Final = 3  # the first hair colours, for any skin; the others go with the lighter skins
LIGHT_SKINS: Final = 3
IRISES: Final = np.array([[84, 54, 36], [110, 82, 48], [70, 110, 80], [78, 124, 168], [96, 104, 112]])
HAIR_STYLES: Final = ("bald", "short", "short", "fringe", "long", "long")


@dataclass(frozen=True)
class Face:
    """A drawn face and what is known of it.

    Attributes:
        image: Picture (size, size, 3), uint8, RGB.
        expression: Name of the expression.
        valence: From -1 (unpleasant) to 1 (pleasant).
        arousal: From -1 (calm) to 1 (excited).
        landmarks: The 68 iBUG landmarks (68, 2), float32, x and y in pixels (0 is the centre of the first
            pixel); in a crop some may lie outside the picture.
        box: x, y, width and height in pixels of the face as a detector would box it, within the picture.
    """

    image: Image
    expression: str
    valence: float
    arousal: float
    landmarks: NDArray[np.float32]
    box: tuple[int, int, int, int]


def _uniform(rng: Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _tuple(colour: Array) -> Colour:
    red, green, blue = (max(5.0, min(value, 250.0)) for value in colour.tolist())
    return red, green, blue


def _sample_look(rng: Generator) -> Look:
    tone = int(rng.integers(len(SKINS)))
    skin = SKINS[tone] * rng.normal(1.0, 0.05) + rng.normal(0.0, 4.0, 3)
    hair = HAIRS[rng.integers(len(HAIRS) if tone < LIGHT_SKINS else DARK_HAIRS)] + rng.normal(0.0, 6.0, 3)
    lips = skin * (1.0, _uniform(rng, 0.55, 0.85), _uniform(rng, 0.58, 0.85)) * _uniform(rng, 0.75, 1.12)
    return Look(
        skin=_tuple(skin),
        lips=_tuple(lips),
        iris=_tuple(IRISES[rng.integers(len(IRISES))] + rng.normal(0.0, 8.0, 3)),
        hair=_tuple(hair),
        clothes=_tuple(rng.uniform(90, 130) + rng.normal(0.0, 45.0, 3)),
        frame=_tuple(rng.uniform(10.0, 110.0, 3)),
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        hairline=_uniform(rng, 0.74, 0.95),
        parting=_uniform(rng, -1.0, 1.0),
        brow_thickness=_uniform(rng, 0.06, 0.125),
        iris_radius=_uniform(rng, 0.09, 0.115),
        beard=max(0.0, _uniform(rng, -3.0, 1.0)),
        glasses=bool(rng.random() < 0.18),
    )


def _sample_actions(rng: Generator, expression: str) -> tuple[Actions, Affect]:
    """Draw the actions of one display of the expression, and its affect."""
    full, direction = PROTOTYPES[expression]
    intensity = _uniform(rng, *INTENSITY)
    own = np.clip(rng.normal(1.0, SPREAD, len(full)), 0.3, 1.5)
    stray = np.abs(rng.normal(0.0, STRAY, len(full)))
    strength = np.clip(intensity * own * np.array(full) + stray, 0.0, 1.0)
    valence = intensity * direction.valence + float(strength @ np.array(VALENCE_OF_ACTION))
    arousal = intensity * direction.arousal + float(strength @ np.array(AROUSAL_OF_ACTION))
    return Actions(*strength.tolist()), Affect(max(-1.0, min(valence, 1.0)), max(-1.0, min(arousal, 1.0)))


def _sample_light(rng: Generator) -> Light:
    x, y = _uniform(rng, -0.9, 0.9), _uniform(rng, -0.7, 0.2)
    norm = math.sqrt(x * x + y * y + 1.0)
    return Light((x / norm, y / norm, 1.0 / norm), ambient=_uniform(rng, 0.35, 0.7))


# Outlines of the features, and how far an action moves each of their landmarks.
JAW_ANGLES: Final = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 17)
JAW_SIGNS, JAW_SINES, JAW_COSINES = np.sign(JAW_ANGLES), np.abs(np.sin(JAW_ANGLES)), np.cos(JAW_ANGLES)
BROW: Final = np.linspace(0.0, 1.0, 5)  # from the inner to the outer end
ARCH, INNER_RAISE = np.sin(np.pi * (0.25 + 0.6 * BROW)), (1.0 - BROW) ** 1.3
OUTER_RAISE = np.sin(0.5 * np.pi * (0.3 + BROW))
EYE_X: Final = np.array([-1.0, -0.36, 0.36, 1.0, 0.36, -0.36])
BRIDGE: Final = stack_xy(np.zeros(4), np.linspace(0.0, 1.0, 4))
NOSE_EDGE: Final = np.array([1.0, 0.4, 0.0, 0.4, 1.0])  # 1 at the wings, 0 in the middle
LIP: Final = np.array([-1.0, -0.62, -0.24, 0.0, 0.24, 0.62, 1.0])  # x of the outer lip landmarks
INNER_LIP: Final = np.array([-0.88, -0.42, 0.0, 0.42, 0.88])


def _jaw(person: Proportions, a: Actions) -> Array:
    top, chin = -0.12, person.chin + 0.2 * a.jaw_drop - 0.02 * a.chin_raise
    x = person.half_width * JAW_SIGNS * JAW_SINES**person.squareness
    return stack_xy(x, top + (chin - top) * JAW_COSINES)


def _brow(person: Proportions, a: Actions, side: float) -> Array:
    """Five points from the inner to the outer end; side -1 is the left of the picture."""
    inner = person.eye_distance - 1.1 * person.eye_half_width - 0.07 * a.brow_lower
    outer = person.eye_distance + 1.5 * person.eye_half_width
    y = person.eye_height - person.brow_gap + person.brow_slant * (BROW - 0.5)
    y -= person.brow_arch * ARCH
    y -= 0.21 * a.inner_brow_raise * INNER_RAISE + 0.15 * a.outer_brow_raise * OUTER_RAISE
    y += a.brow_lower * (0.17 - 0.2 * BROW) + 0.06 * a.nose_wrinkle * (1.0 - BROW)
    return stack_xy(side * (inner + BROW * (outer - inner)), y)


def _nose(person: Proportions, a: Actions) -> Array:
    tip = person.eye_height + person.nose_length - 0.05 * a.nose_wrinkle
    half = person.nose_half_width * (1.0 + 0.15 * a.nose_wrinkle + 0.08 * a.corner_pull)
    lift = 0.05 * a.nose_wrinkle + 0.025 * a.upper_lip_raise
    bridge = BRIDGE * (0.0, tip - 0.04 - person.eye_height) + np.array([0.0, person.eye_height])
    base = stack_xy(half * (2.0 * BROW - 1.0), tip + 0.07 - (0.05 + lift) * NOSE_EDGE)
    return np.concatenate([bridge, base])


def _eye(person: Proportions, a: Actions, side: float) -> Array:
    squint = 0.2 * a.nose_wrinkle
    upper = 1.0 + 0.75 * a.lid_raise - 0.45 * a.lid_tighten - 0.25 * a.cheek_raise - squint
    lower = 0.8 + 0.3 * a.lid_raise - 0.5 * a.lid_tighten - 0.75 * a.cheek_raise - squint
    high, low = max(upper * person.eye_half_opening, 0.03), max(lower * person.eye_half_opening, -0.015)
    y = np.array([0.0, -high, -high, 0.0, low, low]) - side * person.eye_slant * EYE_X
    return stack_xy(side * person.eye_distance + person.eye_half_width * EYE_X, person.eye_height + y)


def _mouth(person: Proportions, a: Actions, weak_side: float) -> Array:
    widening = 0.32 * a.corner_pull + 0.32 * a.lip_stretch - 0.4 * a.jaw_drop
    half = person.mouth_half_width * (1.0 + widening - 0.06 * a.lip_press - 0.05 * a.corner_depress)
    bend = person.mouth_bend - 0.2 * a.corner_pull + 0.15 * a.corner_depress + 0.06 * a.lip_stretch
    middle = person.mouth_height + 0.06 * a.jaw_drop - 0.04 * a.chin_raise - 0.03 * a.upper_lip_raise
    middle += 0.04 * (a.corner_pull - a.corner_depress)
    up = 0.02 * a.lips_part + 0.07 * a.upper_lip_raise + 0.02 * a.jaw_drop
    down = 0.02 * a.upper_lip_raise + 0.13 * a.lips_part + 0.34 * a.jaw_drop
    sealed = max(0.0, 1.0 - 0.04 / (up + down + 1e-6))  # lips that hardly part stay closed
    upper_lip = person.upper_lip * (1.0 - 0.65 * a.lip_press - 0.3 * a.corner_pull)
    lower_lip = person.lower_lip * (1.0 - 0.65 * a.lip_press - 0.2 * a.lip_stretch)

    def line(x: Array) -> Array:
        strength = 1.0 - a.one_sided * np.maximum(weak_side * np.sign(x), 0.0)
        return middle + bend * strength * np.abs(x) ** 1.7

    full, bow = 1.0 - LIP**2 * np.abs(LIP), np.array([0.0, 0.75, 1.1, 0.92, 1.1, 0.75, 0.0])
    open_ = sealed * np.array([0.0, 0.85, 1.0, 0.85, 0.0])
    upper = stack_xy(half * LIP, line(LIP) - sealed * up * full - upper_lip * bow)
    lower = stack_xy(half * LIP, line(LIP) + sealed * down * full + lower_lip * full)
    inner_upper = stack_xy(half * INNER_LIP, line(INNER_LIP) - up * open_)
    inner_lower = stack_xy(half * INNER_LIP, line(INNER_LIP) + down * open_)
    return np.concatenate([upper, lower[5:0:-1], inner_upper, inner_lower[3:0:-1]])


def _place_landmarks(person: Proportions, a: Actions, weak_side: float) -> Array:
    """The 68 landmarks in iBUG order, in face units; weak_side 1 is the right of the picture, -1 the left."""
    brows = [_brow(person, a, -1.0)[::-1], _brow(person, a, 1.0)]
    eyes = [_eye(person, a, -1.0), _eye(person, a, 1.0)]
    return np.concatenate([_jaw(person, a), *brows, _nose(person, a), *eyes, _mouth(person, a, weak_side)])


# Folds of the skin, in face units, around the landmark that they are placed by.
BESIDE_NOSE: Final = np.array([[0.05, -0.05], [0.09, 0.03], [0.1, 0.1]])
ACROSS_NOSE: Final = np.array([[-0.1, 0.0], [0.0, 0.04], [0.1, 0.0]])
BETWEEN_BROWS: Final = np.array([[0.05, 0.1], [0.04, -0.06]])
FOREHEAD: Final = np.array([[-0.42, -0.12], [-0.21, -0.17], [0.0, -0.14], [0.21, -0.17], [0.42, -0.12]])
LEFT: Final = np.array([-1.0, 1.0])  # mirrors points


def _folds(landmarks: Array, a: Actions) -> list[Fold]:
    """Folds that the actions press into the skin, around the nose, the mouth and the brows."""
    beside_mouth = min(1.0, 0.2 + 0.6 * a.corner_pull + 0.7 * a.nose_wrinkle + 0.4 * a.upper_lip_raise)
    brow, bridge = (landmarks[21] + landmarks[22]) / 2.0, landmarks[28]
    folds = [
        Fold(brow + BETWEEN_BROWS, a.brow_lower),
        Fold(brow + BETWEEN_BROWS * LEFT, a.brow_lower),
        Fold(bridge + BESIDE_NOSE, a.nose_wrinkle),
        Fold(bridge + BESIDE_NOSE * LEFT, a.nose_wrinkle),
        Fold(landmarks[27] + ACROSS_NOSE, a.nose_wrinkle),
    ]
    for wing, corner, side in ((31, 48, -1.0), (35, 54, 1.0)):
        start, end = landmarks[wing] + (0.05 * side, -0.05), landmarks[corner] + (0.1 * side, 0.02)
        folds.append(Fold(np.array([start, (start + end) / 2.0 + (0.05 * side, -0.02), end]), beside_mouth))
    raised = 0.55 * max(a.inner_brow_raise, a.outer_brow_raise)
    return [*folds, Fold(brow + FOREHEAD, raised), Fold(brow + FOREHEAD * (0.8, 1.0) - (0.0, 0.1), raised)]


def _background(rng: Generator, side: int) -> Image:
    """Soft gradient with a few shapes."""
    coarse = rng.uniform(40.0, 220.0) + rng.normal(0.0, 22.0, 3) + rng.normal(0.0, 26.0, (4, 4, 3))
    coarse = np.clip(coarse, 0.0, 255.0).astype(np.uint8)
    gradient = cv2.resize(coarse, (24, 24), interpolation=cv2.INTER_CUBIC)  # at full size it is slow
    canvas = np.asarray(cv2.resize(gradient, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    for _ in range(rng.integers(0, 6)):
        colour = _tuple(rng.uniform(30.0, 230.0) + rng.normal(0.0, 35.0, 3))
        corners = side * (rng.random(2) + rng.normal(0.0, 0.25, (4, 2)))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return canvas


def _occlude(rng: Generator, canvas: Image, look: Look) -> None:
    """Put a box, four fingers or a few locks of hair somewhere in the picture, in place."""
    side = canvas.shape[0]
    centre, angle = side * rng.random(2), _uniform(rng, 0.0, 2.0 * np.pi)
    kind = rng.integers(3)
    if kind == 0:
        size = side * rng.uniform(0.15, 0.35, 2)
        box = cv2.boxPoints((centre.tolist(), size.tolist(), math.degrees(angle)))
        cv2.fillPoly(canvas, [box.astype(np.int32)], _tuple(rng.uniform(0.0, 255.0, 3)), cv2.LINE_AA)
        return
    colour, width = (np.array(look.skin), 0.085) if kind == 1 else (np.array(look.hair), 0.03)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    for number in range(4):
        start = centre + across * number * width * side
        end = start + along * side * (0.45 - 0.04 * abs(number - 1.5))
        ends = np.rint([start, end]).astype(np.int32)
        shade = _tuple(colour * (0.84 + 0.05 * number))
        cv2.polylines(canvas, [ends], False, shade, max(1, round(width * side)), cv2.LINE_AA)


LEVELS: Final = np.linspace(0.0, 1.0, 256)  # of an 8-bit picture


def _photograph(rng: Generator, canvas: Image, size: int, wear: float, grayscale: bool) -> Image:
    """Reduce the canvas to the size and add what a camera does: exposure, tint, falloff, blur, noise.

    Args:
        rng: Source of the parameters.
        canvas: Picture (n, n, 3), n a multiple of the size.
        size: Side of the result in pixels.
        wear: Scale of the defects, 1 for crops.
        grayscale: Whether the three channels are made equal.
    """
    # Automatic exposure goes half of the way to a grey of 118, as real cameras leave dark scenes dark.
    exposure = math.sqrt(118.0 / max(1.0, sum(cv2.mean(canvas)) / 3.0))
    exposure *= 2.0 ** (wear * _uniform(rng, -0.5, 0.3))
    gamma, tint = 2.0 ** (wear * _uniform(rng, -0.5, 0.5)), 1.0 + rng.normal(0.0, 0.04 * wear, 3)
    falloff = rng.normal(0.0, 0.15 * wear, 2)
    blur, noise = wear * size * _uniform(rng, -0.02, 0.014), wear * _uniform(rng, -6.0, 8.0)
    if canvas.shape[0] != size:
        canvas = np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    response = 255.0 * exposure * (LEVELS**gamma)[:, None] * tint
    picture = cv2.LUT(canvas, response.astype(np.float32)[None])
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    plane = 1.0 + np.float32(falloff[0]) * axis + np.float32(falloff[1]) * axis[:, None]
    picture = cv2.multiply(picture, cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB))
    if blur > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if noise > 0.0:
        grain = np.float32(noise) * rng.standard_normal((size, size), np.float32)
        picture = cv2.add(picture, cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB))
    image: Image = np.clip(picture, 0.0, 255.0).astype(np.uint8)
    if grayscale:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    return image


class _Drawn(NamedTuple):
    """A face painted on a canvas; landmarks (68, 2) and box (2, 2: low and high corner) in canvas pixels."""

    expression: str
    affect: Affect
    landmarks: Array
    box: Array

    def to_face(self, image: Image, factor: int) -> Face:
        """Go to the picture, `factor` times smaller; the centres of pixels have whole coordinates."""
        low, high = np.clip(np.rint((self.box + 0.5) / factor), 0, image.shape[0]).astype(int).tolist()
        landmarks = ((self.landmarks + 0.5) / factor - 0.5).astype(np.float32)
        box = (low[0], low[1], high[0] - low[0], high[1] - low[1])
        return Face(image, self.expression, *self.affect, landmarks, box)


def _draw_person(rng: Generator, canvas: Image, pose: Pose, expression: str | None, occluded: float) -> _Drawn:
    """Paint a random person, who is the same whatever the expression."""
    drawn = EXPRESSIONS[rng.integers(len(EXPRESSIONS))]
    expression = expression or drawn
    person = Proportions(*rng.uniform(NARROWEST, WIDEST).tolist())
    look, light = _sample_look(rng), _sample_light(rng)
    actions, affect = _sample_actions(rng, expression)
    gaze = (_uniform(rng, -0.6, 0.6), _uniform(rng, -0.6, 0.6))
    landmarks = _place_landmarks(person, actions, weak_side=1.0 if rng.random() < 0.5 else -1.0)
    paint_face(canvas, landmarks, look, pose, light, gaze, _folds(landmarks, actions))
    if rng.random() < occluded:
        _occlude(rng, canvas, look)
    pixels = pose.project(np.concatenate([landmarks, [[0.0, BOX_CENTRE_Y]]]))
    half = BOX_HALF * pose.scale
    return _Drawn(expression, affect, pixels[:68], np.array([pixels[68] - half, pixels[68] + half]))


def _sample_pose(rng: Generator, centre: Sequence[float], scale: float, spread: Sequence[float]) -> Pose:
    """Turn the head by angles of the given spreads (yaw, pitch, roll, radians), its box around the centre."""
    yaw, pitch, roll = (rng.normal(0.0, 1.0, 3) * spread).tolist()
    around_origin = Pose(yaw, pitch, roll, scale, (0.0, 0.0))
    x, y = around_origin.project(np.array([[0.0, BOX_CENTRE_Y]]))[0].tolist()
    # A detector's box is between the outline of the head, which stays, and its features, which shift.
    x, y = 0.5 * x, 0.5 * (y + BOX_CENTRE_Y * scale)
    return Pose(yaw, pitch, roll, scale, (centre[0] - x, centre[1] - y))


def _check(seed: int, index: int, size: int, expression: str | None) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index: got {seed} and {index}, expected integers from 0 up")
    if size < MIN_SIZE:
        raise ValueError(f"size: got {size}, expected at least {MIN_SIZE} pixels")
    if expression is not None and expression not in DRAWABLE:
        raise ValueError(f"expression: got {expression!r}, expected one of {', '.join(DRAWABLE)}")


def draw_face(seed: int, index: int, size: int = 64, *, expression: str | None = None, grayscale: bool = False) -> Face:
    """Draw a face that fills the picture, as if cropped by a face detector.

    The same seed and index give the same person in the same pose and light whatever the expression and size.

    Args:
        seed: Seed of the set of pictures, from 0 up.
        index: Number of the picture in the set, from 0 up.
        size: Side of the picture in pixels, from 16 up.
        expression: One of EXPRESSIONS or "contempt"; None draws one of EXPRESSIONS, all as likely.
        grayscale: Whether the picture is grey (three equal channels).

    Returns:
        The face; its landmarks and box are in pixels of the picture.

    Raises:
        ValueError: If an argument is outside its range.
    """
    _check(seed, index, size, expression)
    rng = np.random.default_rng([seed, index])
    factor = math.ceil(MIN_CANVAS / size)
    side = factor * size
    scale = 0.5 * side / BOX_HALF * _uniform(rng, *CROP_SCALE)
    centre = side * (0.5 + rng.normal(0.0, CROP_SHIFT, 2)) - 0.5
    pose = _sample_pose(rng, centre.tolist(), scale, CROP_TURN)
    canvas = _background(rng, side)
    drawn = _draw_person(rng, canvas, pose, expression, OCCLUDED)
    return drawn.to_face(_photograph(rng, canvas, size, 1.0, grayscale), factor)


def _cells(count: int, side: int) -> list[tuple[Array, float]]:
    """Centre (2,) and side of each of `count` square cells of a grid in the middle of a picture, row by row."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell = side / columns
    top = 0.5 * (side - rows * cell)
    places = (divmod(number, columns) for number in range(count))
    return [(np.array([(x + 0.5) * cell, top + (y + 0.5) * cell]) - 0.5, cell) for y, x in places]


def draw_scene(
    seed: int,
    index: int,
    size: int = 256,
    *,
    faces: int = 1,
    expression: str | None = None,
    grayscale: bool = False,
) -> tuple[Image, list[Face]]:
    """Draw frontal faces in a larger picture, each of its own cell of a square grid.

    A face's box takes 40 to 65 % of the side of its cell; with one face the cell is the whole picture.

    Args:
        seed: Seed of the set of pictures, from 0 up; scenes are not those faces that the same seed gives.
        index: Number of the picture in the set, from 0 up.
        size: Side of the picture in pixels, from 16 up.
        faces: Number of faces, from 1 up.
        expression: Expression of every face; None draws one of EXPRESSIONS for each.
        grayscale: Whether the picture is grey (three equal channels).

    Returns:
        The picture (size, size, 3), uint8, RGB, and its faces, row by row; each has the whole picture as
        its `image`.

    Raises:
        ValueError: If an argument is outside its range.
    """
    _check(seed, index, size, expression)
    if faces < 1:
        raise ValueError(f"faces: got {faces}, expected at least 1")
    rng = np.random.default_rng([seed, index, 1])
    factor = math.ceil(MIN_CANVAS / size)
    side = factor * size
    canvas = _background(rng, side)
    drawn = []
    for middle, cell in _cells(faces, side):
        width = cell * _uniform(rng, *FACE_IN_CELL)
        centre = middle + 0.5 * (cell - width) * rng.uniform(-0.6, 0.6, 2)
        pose = _sample_pose(rng, centre.tolist(), 0.5 * width / BOX_HALF, SCENE_TURN)
        drawn.append(_draw_person(rng, canvas, pose, expression, occluded=0.0))
    image = _photograph(rng, canvas, size, SCENE_WEAR, grayscale)
    return image, [face.to_face(image, factor) for face in drawn]
