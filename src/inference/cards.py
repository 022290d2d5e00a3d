"""The card of a face: a bar for each class, and the circumplex of valence and arousal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from src.inference.drawing import Canvas, Color, Point
from src.inference.results import FacePrediction

INK, FAINT, RULE, PAPER, BAR = (28, 32, 38), (128, 134, 142), (222, 225, 229), (255, 255, 255), (176, 182, 190)
COLORS: dict[str, Color] = {
    "neutral": (92, 100, 112),
    "happy": (228, 156, 24),
    "sad": (62, 114, 176),
    "surprise": (221, 98, 60),
    "fear": (126, 84, 168),
    "disgust": (84, 146, 72),
    "angry": (198, 52, 52),
    "contempt": (30, 148, 150),
}
OTHERS: tuple[Color, ...] = ((160, 82, 45), (199, 21, 133), (85, 107, 47), (0, 110, 190), (184, 134, 11))
# In units, of which an image of 720 px has one a pixel.
CARD_WIDTH, TITLE_HEIGHT, BAR_HEIGHT, PADDING = 400, 40, 17, 14
NAME_WIDTH, VALUE_WIDTH, CIRCLE = 70, 40, 132


@dataclass(frozen=True)
class Card:
    """What a card shows.

    Attributes:
        number: The face's number in the image, or the track's.
        face: The face.
        trail: Valence and arousal of the last seconds, the oldest first; the present ones are the last.
    """

    number: int
    face: FacePrediction
    trail: Sequence[Point] = ()


def class_color(name: str, classes: Sequence[str]) -> Color:
    """Return the color of a class, among all classes of the model."""
    return COLORS.get(name) or OTHERS[list(classes).index(name) % len(OTHERS)]


def card_height(n_classes: int) -> float:
    """Return the height of a card in units."""
    return TITLE_HEIGHT + max(n_classes * BAR_HEIGHT, CIRCLE + 20) + 2 * PADDING


def draw_card(canvas: Canvas, corner: Point, card: Card, unit: float) -> None:
    """Draw a card.

    Args:
        canvas: What to draw on.
        corner: Its upper left corner.
        card: What it shows.
        unit: Pixels of a unit.
    """
    face = card.face
    classes = list(face.probabilities)
    color = class_color(face.expression, classes)
    x, y = corner[0] + PADDING * unit, corner[1] + PADDING * unit
    canvas.circle((x + 12 * unit, y + 13 * unit), 12 * unit, color)
    canvas.text((x + 12 * unit, y + 13 * unit), str(card.number), 13 * unit, PAPER, anchor="mm", bold=True)
    canvas.text((x + 34 * unit, y + 13 * unit), face.expression, 18 * unit, INK, anchor="lm", bold=True)
    edge = corner[0] + (CARD_WIDTH - PADDING) * unit
    canvas.text((edge, y + 13 * unit), f"{face.probability:.0%}", 18 * unit, color, anchor="rm", bold=True)
    top = y + TITLE_HEIGHT * unit
    has_affect = face.valence is not None and face.arousal is not None
    right = edge - (CIRCLE + 24) * unit if has_affect else edge
    _draw_bars(canvas, (x, top), right - x, face, unit)
    if face.valence is not None and face.arousal is not None:
        trail = card.trail or ((face.valence, face.arousal),)
        center = (edge - CIRCLE / 2 * unit, top + (CIRCLE / 2 + 4) * unit)
        _draw_circumplex(canvas, center, CIRCLE / 2 * unit, trail, color, unit)
    bottom = corner[1] + card_height(len(classes)) * unit
    canvas.line((x, bottom), (edge, bottom), RULE)


def _draw_bars(canvas: Canvas, corner: Point, width: float, face: FacePrediction, unit: float) -> None:
    x, y = corner
    classes = list(face.probabilities)
    start, length = x + NAME_WIDTH * unit, width - (NAME_WIDTH + VALUE_WIDTH) * unit
    for name, value in face.probabilities.items():
        top = name == face.expression
        middle = y + BAR_HEIGHT / 2 * unit
        canvas.text((x, middle), name, 11.5 * unit, INK if top else FAINT, anchor="lm", bold=top)
        height = (BAR_HEIGHT - 7) * unit
        canvas.rectangle((start, middle - height / 2), (length, height), RULE)
        if value * length >= 1:
            color = class_color(name, classes) if top else BAR
            canvas.rectangle((start, middle - height / 2), (value * length, height), color)
        canvas.text((x + width, middle), f"{value:.0%}", 11.5 * unit, INK if top else FAINT, anchor="rm", bold=top)
        y += BAR_HEIGHT * unit


def _draw_circumplex(
    canvas: Canvas, center: Point, radius: float, trail: Sequence[Point], color: Color, unit: float
) -> None:
    """Draw valence to the right and arousal upwards, each from -1 to 1, with the way of the last seconds."""
    x, y = center
    canvas.circle(center, radius, (248, 249, 250))
    canvas.circle(center, radius, BAR, unit)
    canvas.line((x - radius, y), (x + radius, y), RULE, unit)
    canvas.line((x, y - radius), (x, y + radius), RULE, unit)
    canvas.text((x + radius - 3 * unit, y - 2 * unit), "valence", 9.5 * unit, FAINT, anchor="rd")
    canvas.text((x + 4 * unit, y - radius + 4 * unit), "arousal", 9.5 * unit, FAINT, anchor="la")
    points = [_inside(x, y, radius, point) for point in trail]
    for i in range(1, len(points)):
        age = i / len(points)
        faded: Color = tuple(round(248 + (c - 248) * age) for c in color)  # type: ignore[assignment]  # three
        canvas.line(points[i - 1], points[i], faded, max(1.0, 2.2 * unit * age))
    canvas.circle(points[-1], 5.5 * unit, PAPER)
    canvas.circle(points[-1], 4.5 * unit, color)
    valence, arousal = trail[-1]
    text = f"valence {_signed(valence)}  arousal {_signed(arousal)}"
    canvas.text((x + radius, y + radius + 7 * unit), text, 9.5 * unit, INK, anchor="ra")


def _inside(x: float, y: float, radius: float, point: Point) -> Point:
    """Return where a point of the circumplex is; one outside the circle lies on its edge."""
    shrunk = min(1.0, 1.0 / max(math.hypot(*point), 1e-9))
    return x + radius * shrunk * point[0], y - radius * shrunk * point[1]


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
