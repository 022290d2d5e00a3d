"""What a prediction says, as typed values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from src.data.readers.file_tree import printable
from src.data.readers.frames import Frame

Image = NDArray[np.uint8]
# Why a prediction is not to be trusted, as tables name it, and in words.
REASONS = {"small": "too small", "cut": "cut by the edge", "turned": "turned away", "blurred": "blurred"}

# Columns of tables.
PLACES = ("source", "frame", "time", "track", "face", "x", "y", "width", "height", "score", "quality")
AFFECT = ("valence", "arousal")


class Box(NamedTuple):
    """A rectangle in pixels of an image: its edges may lie between pixels, and outside the image.

    Attributes:
        x: Left edge, 0 being the left edge of the first pixel.
        y: Top edge.
        width: Width.
        height: Height.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class FacePrediction:
    """One face.

    Attributes:
        box: The detector's box.
        crop: Square that the model saw, in pixels of the image, before it is turned.
        probabilities: Probability of each class, by name, in the model's order; they sum to 1.
        valence: Towards [-1, 1]; None if it is no trained output.
        arousal: Likewise.
        landmarks: x and y of the 68 iBUG points in pixels of the image, 0 being the center of the first one, (68, 2);
            None if they are no trained output.
        score: The detector's confidence, on a scale of its own; None if it gives none.
        points: x and y of the right eye, the left eye, the nose and the right and left corner of the mouth, of the
            person, in pixels of the image as `landmarks`, (5, 2); None if the detector does not tell.
        heat: How much each pixel of the crop speaks for the class, in [0, 1], (S, S); None unless asked for.
        track: Number of the person within a video from 1 up; None for an image.
        reasons: Why the prediction is not to be trusted, of `REASONS`; empty if it is.
        roll: How far that square is turned about its center, clockwise in degrees, as the face is.
    """

    box: Box
    crop: Box
    probabilities: dict[str, float]
    valence: float | None = None
    arousal: float | None = None
    landmarks: NDArray[np.float32] | None = field(default=None, repr=False)
    score: float | None = None
    points: NDArray[np.float32] | None = field(default=None, repr=False)
    heat: NDArray[np.float32] | None = field(default=None, repr=False)
    track: int | None = None
    roll: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def expression(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def remark(self) -> str:
        """Why the prediction is not to be trusted, in words; empty if it is."""
        return ", ".join(REASONS[reason] for reason in self.reasons)

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return max(self.probabilities.values())


@dataclass(frozen=True)
class Prediction:
    """All faces of an image or frame.

    Attributes:
        frame: The image.
        faces: Its faces, from the left to the right of images, in the order of their tracks in videos.
    """

    frame: Frame
    faces: tuple[FacePrediction, ...]

    def with_faces(self, faces: list[FacePrediction]) -> Prediction:
        """Return the same image with other faces."""
        return replace(self, faces=tuple(faces))

    def rows(self) -> list[dict[str, Any]]:
        """Return a table's row for each face, rounded: see `src.inference.tables.PredictionTable`."""
        return [self._row(number, face) for number, face in enumerate(self.faces, start=1)]

    def _row(self, number: int, face: FacePrediction) -> dict[str, Any]:
        frame = self.frame
        place = {"source": frame.source, "frame": frame.index, "time": _rounded(frame.time), "track": face.track}
        box = {name: _rounded(value, 1) for name, value in face.box._asdict().items()}
        known = {"face": number, **box, "score": _rounded(face.score), "quality": " ".join(face.reasons) or "ok"}
        probabilities = {name: _rounded(value, 6) for name, value in face.probabilities.items()}
        affect = {"valence": _rounded(face.valence, 6), "arousal": _rounded(face.arousal, 6)}
        return {**place, **known, "prediction": face.expression, **probabilities, **affect}

    def to_frame(self) -> pd.DataFrame:
        """Return the table of the faces: a row each, in the columns of `predictions.csv`."""
        return _to_frame(self.rows())

    def draw(self, *, landmarks: bool = False, cards: bool = True) -> PIL.Image.Image:
        """Return the image with what was predicted, as `python -m src.predict annotate=true` draws it.

        Args:
            landmarks: Whether to draw the landmarks, where they are a trained output.
            cards: Whether cards with all probabilities stand beside the image.
        """
        from src.inference.annotation import Annotator  # which draws what is described here

        return PIL.Image.fromarray(Annotator(landmarks=landmarks, cards=cards).draw(self))


class Predictions(tuple[Prediction, ...]):
    """The predictions of several images, in their order."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """Return the table of all faces; images without any have no row."""
        return _to_frame([row for prediction in self for row in prediction.rows()])


def _to_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = list(
        dict.fromkeys((*PLACES, "prediction", *(name for row in rows for name in row if name not in AFFECT)))
    )
    affect = [name for name in AFFECT if any(row[name] is not None for row in rows)]
    # With pyarrow, pandas keeps text in UTF-8, which not all names of files are.
    named = [{**row, "source": printable(row["source"])} for row in rows]
    return pd.DataFrame(named, columns=[*columns, *affect])


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
