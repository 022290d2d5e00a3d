"""RetinaFace (Deng et al., CVPR 2020), the detector that is shipped, run by ONNX Runtime."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from src.data.readers.images import shrink
from src.inference.crop import WIDER_FACE_CROPS
from src.inference.detection import Detection, by_position, search_size
from src.inference.results import Box, Image
from src.utils.paths import ROOT

WEIGHTS = ROOT / "pretrained" / "retinaface.onnx"
# Mean of blue, green and red in training, of which the network wants the difference.
MEAN = (104.0, 117.0, 123.0)
# Stride of each feature map in pixels, and the sides of the two anchors in each of its cells.
ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
# By how much an offset or the logarithm of a size counts ("variances" of the training).
OFFSET, SIZE = 0.1, 0.2
# On the 13 photographs of docs/detection.md, all 28 faces score more than 0.75, and no other box more than 0.3.
SCORE = 0.6
# Of boxes that overlap by more, the one with the highest score counts.
OVERLAP = 0.4
# The largest anchor has 512 px. A face that fills a larger image is not seen, or its parts are taken for faces: such an
# image is also looked at in this size, whose faces of a third of its longest side or more count.
LARGEST_SURE = 640
COARSE_SIDE = 320
LARGE = 1 / 3
# A box is part of a large face if more of the smaller one of the two lies within the other.
PART = 0.6

Floats = NDArray[np.float32]


class _Faces(NamedTuple):
    """N faces in pixels of the image, from edge to edge.

    Attributes:
        corners: Left, upper, right and lower edges, (N, 4).
        scores: Confidences in [0, 1], (N,).
        points: x and y of the right eye, the left eye, the nose and the right and left corner of the mouth, of the
            person, (N, 5, 2).
    """

    corners: Floats
    scores: Floats
    points: Floats

    def where(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> _Faces:
        return _Faces(*(values[kept] for values in self))

    def sides(self) -> Floats:
        return np.asarray((self.corners[:, 2:] - self.corners[:, :2]).max(axis=1), np.float32)


class RetinaFaceDetector:
    """RetinaFace with a MobileNet of a quarter of the width, trained on WIDER FACE; see `pretrained/retinaface.md`."""

    crops = WIDER_FACE_CROPS

    def __init__(self) -> None:
        """Load the network."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        # As many as PyTorch has: whoever limits these means these, too.
        options.intra_op_num_threads = torch.get_num_threads()
        # Between two images its threads would keep the cores busy that the model needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # it would complain of weights that the file has twice
        self._session = ort.InferenceSession(WEIGHTS, options, providers=["CPUExecutionProvider"])

    def __reduce__(self) -> tuple[type[RetinaFaceDetector], tuple[()]]:
        """Load it anew in another process: sessions of onnxruntime cannot be sent."""
        return type(self), ()

    def __call__(self, image: Image) -> list[Detection]:
        """Return the faces of an RGB image (H, W, 3), from left to right."""
        found = self._search(*search_size(image))
        longest = max(image.shape[:2])
        if longest > LARGEST_SURE:
            coarse = self._search(shrink(image, COARSE_SIDE), COARSE_SIDE / longest)
            large = coarse.where(coarse.sides() >= LARGE * longest)
            others = found.where(~_parts(found.corners, large.corners))
            found = _Faces(*(np.concatenate(pair) for pair in zip(large, others, strict=True)))
        return by_position([_detection(*face) for face in zip(*found, strict=True)])

    def _search(self, image: Image, scale: float) -> _Faces:
        """Return the faces of an image of which `scale` pixels are one of the original."""
        pixels = cv2.dnn.blobFromImage(image, mean=MEAN, swapRB=True)
        offsets, confidences, points = (part[0] for part in self._session.run(None, {"input": pixels}))
        sure = confidences[:, 1] > SCORE
        centers, sides = (part[sure] for part in _anchors(*image.shape[:2]))
        scores = confidences[sure, 1]
        middles = centers + OFFSET * sides * offsets[sure, :2]
        halves = sides * np.exp(SIZE * offsets[sure, 2:]) / 2
        corners = np.concatenate([middles - halves, middles + halves], axis=1, dtype=np.float32)
        places = centers[:, None] + OFFSET * sides[:, None] * points[sure].reshape(-1, 5, 2)
        best = nms(torch.from_numpy(corners), torch.from_numpy(scores), OVERLAP).numpy()
        return _Faces(corners / np.float32(scale), scores, places / np.float32(scale)).where(best)


@lru_cache(maxsize=4)
def _anchors(height: int, width: int) -> tuple[Floats, Floats]:
    """Return the centers (N, 2) and the sides (N, 1) of all anchors of an image, in the order of the outputs."""
    centers, sides = [], []
    for stride, own in ANCHORS:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        cells = (np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * stride
        centers.append(cells.repeat(len(own), axis=0))
        sides.append(np.tile(own, len(cells)))
    return np.concatenate(centers).astype(np.float32), np.concatenate(sides).astype(np.float32)[:, None]


def _parts(corners: Floats, large: Floats) -> NDArray[np.bool_]:
    """Return which of the boxes (N, 4) are parts of large ones (M, 4), or one of these themselves."""
    low = np.maximum(corners[:, None, :2], large[None, :, :2])
    high = np.minimum(corners[:, None, 2:], large[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    smaller = np.minimum(_areas(corners)[:, None], _areas(large)[None])
    return np.asarray((shared > PART * smaller).any(axis=1))


def _areas(corners: Floats) -> Floats:
    return np.asarray((corners[:, 2:] - corners[:, :2]).prod(axis=1), np.float32)


def _detection(corners: Floats, score: np.float32, points: Floats) -> Detection:
    left, top, right, bottom = corners.tolist()
    # The center of the first pixel is 0 for points, its edge for boxes.
    return Detection(Box(left, top, right - left, bottom - top), float(score), points - np.float32(0.5))
