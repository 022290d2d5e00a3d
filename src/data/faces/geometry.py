"""Where the 68 landmarks and the folds of the skin are, given a person's proportions and facial actions."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from src.data.faces.actions import Actions
from src.data.faces.drawing import Fold
from src.data.faces.parts import Array, stack_xy


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
    """Five points from the inner to the outer end; side -1 is the left of the image."""
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


def place_landmarks(person: Proportions, a: Actions, weak_side: float) -> Array:
    """The 68 landmarks in iBUG order, in face units; weak_side 1 is the right of the image, -1 the left."""
    brows = [_brow(person, a, -1.0)[::-1], _brow(person, a, 1.0)]
    eyes = [_eye(person, a, -1.0), _eye(person, a, 1.0)]
    return np.concatenate([_jaw(person, a), *brows, _nose(person, a), *eyes, _mouth(person, a, weak_side)])


# Folds of the skin, in face units, around the landmark that they are placed by.
BESIDE_NOSE: Final = np.array([[0.05, -0.05], [0.09, 0.03], [0.1, 0.1]])
ACROSS_NOSE: Final = np.array([[-0.1, 0.0], [0.0, 0.04], [0.1, 0.0]])
BETWEEN_BROWS: Final = np.array([[0.05, 0.1], [0.04, -0.06]])
FOREHEAD: Final = np.array([[-0.42, -0.12], [-0.21, -0.17], [0.0, -0.14], [0.21, -0.17], [0.42, -0.12]])
LEFT: Final = np.array([-1.0, 1.0])  # mirrors points


def skin_folds(landmarks: Array, a: Actions) -> list[Fold]:
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
