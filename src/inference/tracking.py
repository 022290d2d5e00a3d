"""Who is who from one frame of a video to the next, and predictions that do not flicker."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from src.inference.results import Box, FacePrediction, Prediction

# Boxes that overlap by less are not taken for the same person, unless they are near, see below.
MIN_IOU = 0.3
# How far a face may be from where it is expected, in sides of faces: so much a second, and not more than so much.
REACH_PER_SECOND, MAX_REACH = 3.0, 1.2
# Sides of near boxes differ by this factor at most.
MAX_GROWTH = 1.7
# Motion goes on for so long without being seen, in seconds; of it, each sight tells this fraction.
MAX_COASTING, NEW_MOTION = 0.5, 0.5
# A person who has not been seen for longer comes back as somebody else.
MAX_GAP_SECONDS = 1.0
# Of the last five frames, the present one last: the smoothing of EmoNet's authors for videos (Toisoul et al., 2021).
WEIGHTS = (0.1, 0.1, 0.15, 0.25, 0.4)


@dataclass
class Track:
    """A person in a video.

    Attributes:
        number: From 1 up.
        box: Where the person was last.
        time: When, in seconds.
        velocity: How the center of the box moves, in pixels a second.
        recent: Frame numbers and predictions of at most the last `len(WEIGHTS)` frames.
    """

    number: int
    box: Box
    time: float
    velocity: tuple[float, float] = (0.0, 0.0)
    recent: deque[tuple[int, FacePrediction]] = field(default_factory=lambda: deque(maxlen=len(WEIGHTS)))

    def expected(self, time: float) -> Box:
        """Return where the person should be, if nothing changes."""
        seconds = min(time - self.time, MAX_COASTING)
        return self.box._replace(x=self.box.x + seconds * self.velocity[0], y=self.box.y + seconds * self.velocity[1])

    def see(self, box: Box, time: float) -> None:
        """Follow the person to where it is found."""
        seconds = time - self.time
        if seconds > 0:
            moved = [now - before for now, before in zip(_center(box), _center(self.box), strict=True)]
            x, y = (old + NEW_MOTION * (way / seconds - old) for old, way in zip(self.velocity, moved, strict=True))
            self.velocity = (x, y)
        self.box, self.time = box, time


class Tracker:
    """Gives the faces of a video their tracks, by where people should be: those of the best total assignment."""

    def __init__(self, *, smooth: bool = True, every_n: int = 1) -> None:
        """Start without tracks.

        Args:
            smooth: Whether predictions are weighted means over the last five frames of their track.
            every_n: How far the numbers of two frames are apart.
        """
        self.smooth, self.every_n = smooth, every_n
        self._tracks: list[Track] = []
        self._next = 1

    def follow(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the frames of a video with tracks, and smoothed; frames come in the order of their times."""
        for prediction in predictions:
            yield self.update(prediction)

    def update(self, prediction: Prediction) -> Prediction:
        """Return the next frame with tracks, its faces in their order."""
        index, time = prediction.frame.index or 0, prediction.frame.time or 0.0
        self._tracks = [track for track in self._tracks if self._may_return(track, index, time)]
        reach = [min(MAX_REACH, REACH_PER_SECOND * (time - track.time)) for track in self._tracks]
        expected = [track.expected(time) for track in self._tracks]
        matches = assign(expected, [face.box for face in prediction.faces], reach)
        faces = []
        for i, face in enumerate(prediction.faces):
            track = self._tracks[matches[i]] if i in matches else self._start(face.box, time)
            track.see(face.box, time)
            track.recent.append((index, face))
            shown = smoothed(track.recent) if self.smooth else face
            faces.append(replace(shown, track=track.number))
        return prediction.with_faces(sorted(faces, key=lambda face: face.track or 0))

    def _may_return(self, track: Track, index: int, time: float) -> bool:
        """Return whether a person was seen lately, or in the frame before, however long ago that was."""
        return time - track.time <= MAX_GAP_SECONDS or index - track.recent[-1][0] <= self.every_n

    def _start(self, box: Box, time: float) -> Track:
        track = Track(self._next, box, time)
        self._next += 1
        self._tracks.append(track)
        return track


def assign(known: list[Box], found: list[Box], reach: Sequence[float] = ()) -> dict[int, int]:
    """Return which known box each found one continues, where one does: index in `found` -> index in `known`.

    Args:
        known: Boxes where people are expected.
        found: Boxes of faces.
        reach: How far from each known box, in sides of faces, a face without overlap may be; none for nothing.
    """
    if not known or not found:
        return {}
    overlap = box_iou(_corners(found), _corners(known)).numpy()
    # Too small an overlap counts as none, lest it decides between pairs that are. Any of the others counts more than
    # mere nearness.
    score = np.where(overlap >= MIN_IOU, 1 + overlap, 0.0)
    for i, face in enumerate(found):
        for j, (box, room) in enumerate(zip(known, reach, strict=False)):
            if score[i, j] == 0:
                score[i, j] = _nearness(face, box, room) / len(found)
    rows, columns = linear_sum_assignment(score, maximize=True)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if score[i, j] > 0.0}


def _nearness(face: Box, box: Box, room: float) -> float:
    """Return how near a face is, 1 where it is expected, 0 out of reach or of another size."""
    small, large = sorted((face.width, box.width))
    if large >= MAX_GROWTH * small:  # a box of no width, too
        return 0.0
    away = 2 * math.dist(_center(face), _center(box)) / (small + large)
    return 1 - away / room if away < room else 0.0


def _center(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def smoothed(recent: Iterable[tuple[int, FacePrediction]]) -> FacePrediction:
    """Return the last prediction of a track with the weighted mean of its recent probabilities, valence and arousal.

    The weights are those of the frames' ages, renormalized over the frames in which the face was found.

    Args:
        recent: Frame numbers and predictions in their order.
    """
    seen = list(recent)
    now, last = seen[-1]
    aged = [(WEIGHTS[-1 - (now - index)], face) for index, face in seen if now - index < len(WEIGHTS)]
    total = sum(weight for weight, _ in aged)

    def mean(values: list[float]) -> float:
        return sum(weight * value for (weight, _), value in zip(aged, values, strict=True)) / total

    def mean_affect(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return mean(known) if len(known) == len(aged) else None

    return replace(
        last,
        probabilities={name: mean([face.probabilities[name] for _, face in aged]) for name in last.probabilities},
        valence=mean_affect([face.valence for _, face in aged]),
        arousal=mean_affect([face.arousal for _, face in aged]),
    )


def _corners(boxes: list[Box]) -> torch.Tensor:
    return torch.tensor([[b.x, b.y, b.x + b.width, b.y + b.height] for b in boxes])
