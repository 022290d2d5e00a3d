"""Facial actions of each expression (after the Facial Action Coding System, FACS), and the affect they show."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

EXPRESSIONS: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
DRAWABLE: Final = (*EXPRESSIONS, "contempt")
INTENSITY: Final = (0.35, 1.0)  # of an expression; at the low end it is easily taken for a neighbor
SPREAD: Final = 0.28  # standard deviation of a person's own fraction of an action of the expression
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


def sample_actions(rng: Generator, expression: str) -> tuple[Actions, Affect]:
    """Draw the actions of one display of the expression, and its affect."""
    full, direction = PROTOTYPES[expression]
    intensity = rng.uniform(*INTENSITY)
    own = np.clip(rng.normal(1.0, SPREAD, len(full)), 0.3, 1.5)
    stray = np.abs(rng.normal(0.0, STRAY, len(full)))
    strength = np.clip(intensity * own * np.array(full) + stray, 0.0, 1.0)
    valence = intensity * direction.valence + float(strength @ np.array(VALENCE_OF_ACTION))
    arousal = intensity * direction.arousal + float(strength @ np.array(AROUSAL_OF_ACTION))
    return Actions(*strength.tolist()), Affect(max(-1.0, min(valence, 1.0)), max(-1.0, min(arousal, 1.0)))
