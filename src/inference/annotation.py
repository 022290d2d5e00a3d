"""Images that show what was predicted: boxes on the image, and a card for each face beside it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

from src.inference.cards import CARD_WIDTH, FAINT, PAPER, Card, card_height, draw_card, face_color
from src.inference.crop import crop_to_image
from src.inference.drawing import Canvas, Color, Point, blend, text_width
from src.inference.results import Box, FacePrediction, Image, Prediction

# Height of the image in pixels: small ones are enlarged, large ones reduced.
SMALLEST_HEIGHT, LARGEST_HEIGHT, LARGEST_WIDTH = 480, 1080, 1920
SMALLEST_UNIT, IMAGE_UNIT, LARGEST_UNIT = 0.95, 1.1, 1.25
MAX_COLUMNS = 2
DARK: Color = (17, 20, 24)
TRAIL_SECONDS = 2.0
# A card stays for as long after its face was last seen, lest it blinks.
CARD_SECONDS = 0.6
HEAT_WEIGHT = 0.55


@dataclass
class _Person:
    """What is shown of a track."""

    face: FacePrediction
    time: float
    slot: int
    trail: deque[tuple[float, Point]] = field(default_factory=deque)


@dataclass(frozen=True)
class _Layout:
    """Sizes of the annotated image in pixels.

    Attributes:
        image: Width and height of the part on the left for the image, those of the first one.
        size: Its own width and height.
        unit: Pixels of a unit, see `src.inference.cards`.
        rows: Cards below each other.
        columns: Cards beside each other.
        top: Where the first row begins, in pixels.
    """

    image: tuple[int, int]
    size: tuple[int, int]
    unit: float
    rows: int
    columns: int
    top: float = 0.0

    def corner(self, slot: int) -> Point:
        """Return the upper left corner of a card."""
        column, row = divmod(slot, self.rows)
        height = (self.size[1] - 2 * self.top) / self.rows
        return self.image[0] + column * CARD_WIDTH * self.unit, self.top + row * height


@dataclass(frozen=True)
class _Place:
    """Where an image lies in the annotated one: videos may change the size of their frames.

    Attributes:
        scale: Pixels of the annotated image that one of the original has.
        left: Pixels to the left of it.
        top: Pixels above it.
        size: Its width and height there.
    """

    scale: float
    left: int
    top: int
    size: tuple[int, int]

    def box(self, box: Box) -> Box:
        """Return where a box of the image lies."""
        s = self.scale
        return Box(box.x * s + self.left, box.y * s + self.top, box.width * s, box.height * s)

    def point(self, x: float, y: float) -> Point:
        """Return where a point of the image lies, 0 being the center of the first pixel of both."""
        return (x + 0.5) * self.scale - 0.5 + self.left, (y + 0.5) * self.scale - 0.5 + self.top

    def cut(self, pixels: Image) -> Image:
        """Return the part of the annotated image that shows the original, a view."""
        return pixels[self.top : self.top + self.size[1], self.left : self.left + self.size[0]]


class Annotator:
    """Draws the predictions of one video, frame by frame, or of an image; all frames get one size.

    Attributes:
        landmarks: Whether to draw the landmarks, where they are a trained output.
        cards: Whether cards stand beside the image.
    """

    def __init__(self, *, landmarks: bool = False, cards: bool = True) -> None:
        """Start.

        Args:
            landmarks: Whether to draw the landmarks, where they are a trained output.
            cards: Whether cards stand beside the image.
        """
        self.landmarks, self.cards = landmarks, cards
        self._layout: _Layout | None = None
        self._people: dict[int, _Person] = {}

    def draw(self, prediction: Prediction) -> Image:
        """Return the next annotated frame, RGB, (H, W, 3).

        Args:
            prediction: The frame and its faces.
        """
        moves = prediction.frame.index is not None
        faces = list(enumerate(prediction.faces, start=1))
        numbered = [(face.track or number, face) for number, face in faces]
        if self._layout is None:
            n_classes = max((len(face.probabilities) for face in prediction.faces), default=8)
            self._layout = _layout(prediction.frame.image.shape[1::-1], n_classes, None if moves else len(faces))
        layout = self._layout
        self._remember(numbered, prediction.frame.time or 0.0, layout.rows * layout.columns)
        place = _fit(prediction.frame.image, layout)
        canvas = Canvas(_put(prediction.frame.image, layout, place))
        for _, face in numbered:
            if face.heat is not None:
                _lay_heat(place.cut(canvas.pixels), face, place.scale)
        for number, face in numbered:
            _draw_box(canvas, number, face, layout, place)
            if self.landmarks and face.landmarks is not None:
                _draw_landmarks(canvas, face, place)
        if self.cards:
            self._draw_cards(canvas, len(numbered), layout)
            return canvas.finished()
        top = (layout.size[1] - layout.image[1]) // 2
        return canvas.finished()[top : top + layout.image[1], : layout.image[0]]

    def _remember(self, faces: list[tuple[int, FacePrediction]], time: float, n_slots: int) -> None:
        """Give each face a slot for its card, the one that it had before if it had one."""
        people = self._people
        for number in [n for n, person in people.items() if time - person.time > CARD_SECONDS]:
            del people[number]
        for number, face in faces:
            if number not in people:
                taken = {person.slot for person in people.values()}
                slot = next(s for s in range(len(taken) + 1) if s not in taken)
                people[number] = _Person(face, time, slot)
            person = people[number]
            person.face, person.time = face, time
            if face.valence is not None and face.arousal is not None:
                person.trail.append((time, (face.valence, face.arousal)))
            while person.trail and time - person.trail[0][0] > TRAIL_SECONDS:
                person.trail.popleft()

    def _draw_cards(self, canvas: Canvas, n_faces: int, layout: _Layout) -> None:
        n_slots, shown = layout.rows * layout.columns, 0
        for number, person in self._people.items():
            if person.slot < n_slots:
                trail = [point for _, point in person.trail]
                draw_card(canvas, layout.corner(person.slot), Card(number, person.face, trail), layout.unit)
                shown += 1
        x, y = canvas.pixels.shape[1] - 14 * layout.unit, canvas.pixels.shape[0] - 8 * layout.unit
        hidden = len(self._people) - shown
        if hidden > 0:
            text = f"and {hidden} more face{'s' if hidden > 1 else ''}"
            canvas.text((x, y), text, 11 * layout.unit, FAINT, anchor="rd")
        elif not self._people:
            middle = layout.image[0] + (layout.size[0] - layout.image[0]) / 2
            canvas.text((middle, layout.size[1] / 2), "no face found", 15 * layout.unit, FAINT, anchor="mm")


def _layout(size: tuple[int, ...], n_classes: int, n_faces: int | None) -> _Layout:
    """Choose the sizes.

    Args:
        size: Width and height of the original.
        n_classes: Classes of a card.
        n_faces: Faces of an image; None for a video, in which the number changes.
    """
    width, height = size
    scale = min(max(1.0, SMALLEST_HEIGHT / height), LARGEST_HEIGHT / height, LARGEST_WIDTH / width)
    image = (max(1, round(width * scale)), max(1, round(height * scale)))
    total = max(image[1], SMALLEST_HEIGHT)
    unit = min(max(total / 720, SMALLEST_UNIT), LARGEST_UNIT)
    card = card_height(n_classes)
    rows, columns, top = max(1, math.floor(total / (card * unit + 1))), 1, 0.0
    if n_faces is not None:
        columns = min(max(1, math.ceil(n_faces / rows)), MAX_COLUMNS)
        rows = min(rows, max(1, math.ceil(n_faces / columns)))
        # Few cards are as large as there is room for, in the middle.
        unit = max(unit, min(total / rows / (card + 1), IMAGE_UNIT))
        top = max(0.0, (total - 1.15 * rows * card * unit) / 2)
    wide = image[0] + round(columns * CARD_WIDTH * unit)
    return _Layout(image, (wide + wide % 2, total + total % 2), unit, rows, columns, top)


def _fit(image: Image, layout: _Layout) -> _Place:
    """Return where an image lies, as large as its part allows, in the middle."""
    height, width = image.shape[:2]
    room = layout.image
    scale = min(room[0] / width, room[1] / height)
    size = (min(max(1, round(width * scale)), room[0]), min(max(1, round(height * scale)), room[1]))
    return _Place(scale, (room[0] - size[0]) // 2, (layout.size[1] - size[1]) // 2, size)


def _put(image: Image, layout: _Layout, place: _Place) -> Image:
    """Return the resized image on the left of an otherwise empty one."""
    method = cv2.INTER_AREA if place.scale < 1 else cv2.INTER_CUBIC
    whole = np.full((layout.size[1], layout.size[0], 3), PAPER, np.uint8)
    whole[:, : layout.image[0]] = DARK
    place.cut(whole)[:] = cv2.resize(image, place.size, interpolation=method)
    return whole


def _draw_box(canvas: Canvas, number: int, face: FacePrediction, layout: _Layout, place: _Place) -> None:
    """Draw a face's box and its label, as large as the box allows."""
    box = place.box(face.box)
    color = face_color(face)
    thickness = max(2.0, min(3.0, box.width / 60) * layout.unit)
    corner, size = (box.x, box.y), (box.width, box.height)
    canvas.rectangle(corner, size, PAPER, thickness + 1.5)
    canvas.rectangle(corner, size, color, thickness)
    font = min(max(box.width / 9, 9.0), 17 * layout.unit)
    text = f"{number}  {face.remark or f'{face.expression} {face.probability:.0%}'}"
    width = text_width(text, font, bold=True) + 0.9 * font
    if width > 1.6 * box.width:
        text = f"{number} {'?' if face.reasons else face.expression}"
        width = text_width(text, font, bold=True) + 0.9 * font
    height = 1.6 * font
    x = min(max(box.x - thickness / 2, 0.0), max(0.0, layout.image[0] - width))
    y = box.y - height if box.y - height >= place.top else box.y
    canvas.rectangle((x, y), (width, height), color)
    canvas.text((x + 0.45 * font, y + height / 2), text, font, PAPER, anchor="lm", bold=True)


def _draw_landmarks(canvas: Canvas, face: FacePrediction, place: _Place) -> None:
    if face.landmarks is None:
        return
    radius = max(1.0, place.box(face.box).width / 110)
    for x, y in face.landmarks.tolist():
        canvas.circle(place.point(x, y), radius + 1, DARK)
        canvas.circle(place.point(x, y), radius, (120, 255, 200))


def _lay_heat(pixels: Image, face: FacePrediction, scale: float) -> None:
    """Lay a face's heat map over its crop, in place."""
    if face.heat is None:
        return
    height, width = pixels.shape[:2]
    side = len(face.heat)
    place = scale * crop_to_image(face.crop, face.roll, side)
    place[:, 2] += (scale - 1) / 2
    edges = place @ np.array([[-0.5, -0.5, side - 0.5, side - 0.5], [-0.5, side - 0.5, -0.5, side - 0.5], [1, 1, 1, 1]])
    (x0, y0), (x1, y1) = np.floor(edges.min(axis=1)).astype(int), np.ceil(edges.max(axis=1)).astype(int) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if y0 >= y1 or x0 >= x1:
        return
    place[:, 2] -= (x0, y0)
    heat = cv2.warpAffine(face.heat.astype(np.float32), place, (x1 - x0, y1 - y0), flags=cv2.INTER_CUBIC).clip(0, 1)
    colors = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    pixels[y0:y1, x0:x1] = blend(pixels[y0:y1, x0:x1], colors.astype(np.float32), HEAT_WEIGHT * heat)
