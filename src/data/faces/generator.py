"""Procedural expressive faces: images whose labels and landmarks are right by construction.

An expression is a distribution of facial actions (after the Facial Action Coding System, FACS); the actions
move the 68 landmarks of a random person, and :mod:`src.data.faces.drawing` paints a face around them. An
image depends on its `(seed, index)` alone, whatever the process and the order in which images are generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from src.data.faces.actions import DRAWABLE, EXPRESSIONS, Affect, sample_actions
from src.data.faces.drawing import Image, Light, Pose, paint_face
from src.data.faces.geometry import NARROWEST, WIDEST, Proportions, place_landmarks, skin_folds
from src.data.faces.parts import Array, Look, as_color
from src.data.faces.photography import draw_background, occlude, photograph

MIN_SIZE: Final = 16  # pixels: under it nothing of an expression is left
MIN_CANVAS: Final = 128  # pixels: smaller images are painted at a multiple of their size, then reduced
# The square that a frontal face detector boxes, in face units: measured with OpenCV's Haar cascade.
BOX_CENTER_Y: Final = 0.13
BOX_HALF: Final = 1.2
CROP_SCALE: Final = (0.88, 1.18)  # of the face in a crop, 1 where a detector's box fills it
CROP_SHIFT: Final = 0.04  # standard deviation of the face's place in a crop, in sides of the crop
CROP_TURN: Final = (0.22, 0.12, 0.12)  # standard deviations of yaw, pitch and roll in a crop, radians
FACE_IN_CELL: Final = (0.4, 0.65)  # side of a face's box in a scene, in sides of its cell
SCENE_TURN: Final = (0.06, 0.05, 0.04)  # as CROP_TURN, for the frontal faces of a scene
SCENE_WEAR: Final = 0.5  # defects of a scene's photograph, 1 being those of a crop
OCCLUDED: Final = 0.12  # fraction of the crops with something in front of the face
SKINS: Final = np.array(
    [
        [244, 208, 184], [234, 192, 162], [220, 170, 134], [194, 142, 106],
        [160, 110, 80], [124, 84, 62], [98, 68, 52],
    ]
)  # fmt: skip
HAIRS: Final = np.array(
    [[28, 24, 24], [44, 32, 26], [160, 158, 154], [84, 56, 38], [132, 90, 54], [146, 62, 36], [202, 166, 104]]
)
DARK_HAIRS: Final = 3  # the first hair colors, for any skin; the others go with the lighter skins
LIGHT_SKINS: Final = 3
IRISES: Final = np.array([[84, 54, 36], [110, 82, 48], [70, 110, 80], [78, 124, 168], [96, 104, 112]])
HAIR_STYLES: Final = ("bald", "short", "short", "fringe", "long", "long")


@dataclass(frozen=True)
class Face:
    """A synthetic face and what is known of it.

    Attributes:
        image: Image (size, size, 3), uint8, RGB.
        expression: Name of the expression.
        valence: From -1 (unpleasant) to 1 (pleasant).
        arousal: From -1 (calm) to 1 (excited).
        landmarks: The 68 iBUG landmarks (68, 2), float32, x and y in pixels (0 is the center of the first
            pixel); in a crop some may lie outside the image.
        box: x, y, width and height in pixels of the face as a detector would box it, within the image.
    """

    image: Image
    expression: str
    valence: float
    arousal: float
    landmarks: NDArray[np.float32]
    box: tuple[int, int, int, int]


def _sample_look(rng: Generator) -> Look:
    tone = int(rng.integers(len(SKINS)))
    skin = SKINS[tone] * rng.normal(1.0, 0.05) + rng.normal(0.0, 4.0, 3)
    hair = HAIRS[rng.integers(len(HAIRS) if tone < LIGHT_SKINS else DARK_HAIRS)] + rng.normal(0.0, 6.0, 3)
    lips = skin * (1.0, rng.uniform(0.55, 0.85), rng.uniform(0.58, 0.85)) * rng.uniform(0.75, 1.12)
    return Look(
        skin=as_color(skin),
        lips=as_color(lips),
        iris=as_color(IRISES[rng.integers(len(IRISES))] + rng.normal(0.0, 8.0, 3)),
        hair=as_color(hair),
        clothes=as_color(rng.uniform(90, 130) + rng.normal(0.0, 45.0, 3)),
        frame=as_color(rng.uniform(10.0, 110.0, 3)),
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        hairline=rng.uniform(0.74, 0.95),
        parting=rng.uniform(-1.0, 1.0),
        brow_thickness=rng.uniform(0.06, 0.125),
        iris_radius=rng.uniform(0.09, 0.115),
        beard=max(0.0, rng.uniform(-3.0, 1.0)),
        glasses=bool(rng.random() < 0.18),
    )


def _sample_light(rng: Generator) -> Light:
    x, y = rng.uniform(-0.9, 0.9), rng.uniform(-0.7, 0.2)
    norm = math.sqrt(x * x + y * y + 1.0)
    return Light((x / norm, y / norm, 1.0 / norm), ambient=rng.uniform(0.35, 0.7))


class _PaintedFace(NamedTuple):
    """A face painted on a canvas; landmarks (68, 2) and box (2, 2: low and high corner) in canvas pixels."""

    expression: str
    affect: Affect
    landmarks: Array
    box: Array

    def to_face(self, image: Image, factor: int) -> Face:
        """Go to the image, `factor` times smaller; the centers of pixels have whole coordinates."""
        low, high = np.clip(np.rint((self.box + 0.5) / factor), 0, image.shape[0]).astype(int).tolist()
        landmarks = ((self.landmarks + 0.5) / factor - 0.5).astype(np.float32)
        box = (low[0], low[1], high[0] - low[0], high[1] - low[1])
        return Face(image, self.expression, *self.affect, landmarks, box)


def _draw_person(rng: Generator, canvas: Image, pose: Pose, expression: str | None, occluded: float) -> _PaintedFace:
    """Paint a random person, who is the same whatever the expression."""
    sampled = EXPRESSIONS[rng.integers(len(EXPRESSIONS))]
    expression = expression or sampled
    person = Proportions(*rng.uniform(NARROWEST, WIDEST).tolist())
    look, light = _sample_look(rng), _sample_light(rng)
    actions, affect = sample_actions(rng, expression)
    gaze = (rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6))
    landmarks = place_landmarks(person, actions, weak_side=1.0 if rng.random() < 0.5 else -1.0)
    paint_face(canvas, landmarks, look, pose, light, gaze, skin_folds(landmarks, actions))
    if rng.random() < occluded:
        occlude(rng, canvas, look)
    pixels = pose.project(np.concatenate([landmarks, [[0.0, BOX_CENTER_Y]]]))
    half = BOX_HALF * pose.scale
    return _PaintedFace(expression, affect, pixels[:68], np.array([pixels[68] - half, pixels[68] + half]))


def _sample_pose(rng: Generator, center: Sequence[float], scale: float, spread: Sequence[float]) -> Pose:
    """Turn the head by angles of the given spreads (yaw, pitch, roll, radians), its box around the center."""
    yaw, pitch, roll = (rng.normal(0.0, 1.0, 3) * spread).tolist()
    around_origin = Pose(yaw, pitch, roll, scale, (0.0, 0.0))
    x, y = around_origin.project(np.array([[0.0, BOX_CENTER_Y]]))[0].tolist()
    # A detector's box is between the outline of the head, which stays, and its features, which shift.
    x, y = 0.5 * x, 0.5 * (y + BOX_CENTER_Y * scale)
    return Pose(yaw, pitch, roll, scale, (center[0] - x, center[1] - y))


def _check(seed: int, index: int, size: int, expression: str | None) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index: got {seed} and {index}, expected integers from 0 up")
    if size < MIN_SIZE:
        raise ValueError(f"size: got {size}, expected at least {MIN_SIZE} pixels")
    if expression is not None and expression not in DRAWABLE:
        raise ValueError(f"expression: got {expression!r}, expected one of {', '.join(DRAWABLE)}")


def draw_face(seed: int, index: int, size: int = 64, *, expression: str | None = None, grayscale: bool = False) -> Face:
    """Draw a face that fills the image, as if cropped by a face detector.

    The same seed and index give the same person in the same pose and light whatever the expression and size.

    Args:
        seed: Seed of the set of images, from 0 up.
        index: Number of the image in the set, from 0 up.
        size: Side of the image in pixels, from 16 up.
        expression: One of EXPRESSIONS or "contempt"; None draws one of EXPRESSIONS, all as likely.
        grayscale: Whether the image is gray (three equal channels).

    Returns:
        The face; its landmarks and box are in pixels of the image.

    Raises:
        ValueError: If an argument is outside its range.
    """
    _check(seed, index, size, expression)
    rng = np.random.default_rng([seed, index])
    factor = math.ceil(MIN_CANVAS / size)
    side = factor * size
    scale = 0.5 * side / BOX_HALF * rng.uniform(*CROP_SCALE)
    center = side * (0.5 + rng.normal(0.0, CROP_SHIFT, 2)) - 0.5
    pose = _sample_pose(rng, center.tolist(), scale, CROP_TURN)
    canvas = draw_background(rng, side)
    face = _draw_person(rng, canvas, pose, expression, OCCLUDED)
    return face.to_face(photograph(rng, canvas, size, 1.0, grayscale), factor)


def _cells(count: int, side: int) -> list[tuple[Array, float]]:
    """Center (2,) and side of each of `count` square cells of a grid in the middle of an image, row by row."""
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
    """Draw frontal faces in a larger image, each of its own cell of a square grid.

    A face's box takes 40 to 65 % of the side of its cell; with one face the cell is the whole image.

    Args:
        seed: Seed of the set of images, from 0 up; scenes are not those faces that the same seed gives.
        index: Number of the image in the set, from 0 up.
        size: Side of the image in pixels, from 16 up.
        faces: Number of faces, from 1 up.
        expression: Expression of every face; None draws one of EXPRESSIONS for each.
        grayscale: Whether the image is gray (three equal channels).

    Returns:
        The image (size, size, 3), uint8, RGB, and its faces, row by row; each has the whole image as
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
    canvas = draw_background(rng, side)
    painted = []
    for middle, cell in _cells(faces, side):
        width = cell * rng.uniform(*FACE_IN_CELL)
        center = middle + 0.5 * (cell - width) * rng.uniform(-0.6, 0.6, 2)
        pose = _sample_pose(rng, center.tolist(), 0.5 * width / BOX_HALF, SCENE_TURN)
        painted.append(_draw_person(rng, canvas, pose, expression, occluded=0.0))
    image = photograph(rng, canvas, size, SCENE_WEAR, grayscale)
    return image, [face.to_face(image, factor) for face in painted]
