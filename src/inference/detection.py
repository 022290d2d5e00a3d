"""Where the faces are: RetinaFace, OpenCV's Haar cascade, YuNet, or the whole image."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from src.data.readers.images import shrink
from src.inference.crop import FER2013_CROPS, WIDER_FACE_CROPS, CropRule
from src.inference.results import Box, Image
from src.models.crops import CROPS
from src.utils.errors import ConfigError

DETECTORS = ("retinaface", "haar", "yunet", "none")
# Longest side in which faces are looked for: larger images are reduced, so that time does not grow with their size.
SEARCH_SIDE = 1280
# Of the cascades that OpenCV ships, this one found most synthetic faces (280 of 288; the `default` one 269) with the
# fewest false ones (1; 5), in the least time. Its boxes are smaller than those of the `default` one, by which FER2013
# was cut: by this factor, the median of 80 synthetic faces.
CASCADE = "haarcascade_frontalface_alt2.xml"
CASCADE_SCALE = 0.936
SCALE_STEP = 1.1
NEIGHBORS = 4
SMALLEST_FACE = 20
# Smaller images are looked at enlarged.
SMALLEST_SEARCH = 160
YUNET_SCORE = 0.6


class Detection(NamedTuple):
    """A face.

    Attributes:
        box: Its box in pixels of the image.
        score: The detector's confidence, or None.
        points: x and y of the right eye, the left eye, the nose and the right and left corner of the mouth, of the
            person, in pixels of the image, 0 being the center of the first one, (5, 2); None if the detector does not
            tell.
    """

    box: Box
    score: float | None
    points: NDArray[np.float32] | None = None


class Detector(Protocol):
    """Finds the faces of an image; those here may be called from several threads.

    A detector may have an attribute `crops`, a `src.inference.crop.Crops`: which square about its boxes shows what a
    model was trained on. Without it, its boxes are taken for those of FER2013.
    """

    def __call__(self, image: Image) -> list[Detection]:
        """Return the faces of an RGB image (H, W, 3), from left to right."""
        ...


class WholeImage:
    """Takes the whole image for a face, which is cropped already."""

    crops = dict.fromkeys(CROPS, CropRule())

    def __call__(self, image: Image) -> list[Detection]:
        """Return the image's rectangle."""
        height, width = image.shape[:2]
        return [Detection(Box(0.0, 0.0, float(width), float(height)), None)]


class HaarDetector:
    """A cascade for frontal faces (Viola and Jones, CVPR 2001) that OpenCV ships; its boxes are squares."""

    crops = FER2013_CROPS

    def __init__(self) -> None:
        """Load the cascade."""
        # OpenCV keeps the image that it searches in the cascade: another thread would find this one's faces.
        self._lock = threading.Lock()
        self._cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Return how to load it elsewhere."""
        return HaarDetector, ()

    def __call__(self, image: Image) -> list[Detection]:
        """Return the faces of an RGB image (H, W, 3), from left to right."""
        small, scale = search_size(image)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        with self._lock:
            boxes, _, scores = self._cascade.detectMultiScale3(
                gray, SCALE_STEP, NEIGHBORS, minSize=(SMALLEST_FACE, SMALLEST_FACE), outputRejectLevels=True
            )
        found = zip(np.asarray(boxes).reshape(-1, 4), np.ravel(scores), strict=True)
        return by_position([Detection(_about(_scaled(box, scale)), float(score)) for box, score in found])


class YunetDetector:
    """YuNet (Wu et al., Machine Intelligence Research 20, 2023), from an ONNX file of OpenCV's model zoo."""

    crops = WIDER_FACE_CROPS

    def __init__(self, path: str | None) -> None:
        """Load the network.

        Args:
            path: The ONNX file.

        Raises:
            ConfigError: If it is missing or no YuNet.
        """
        wanted = (
            "expected the ONNX file of YuNet, such as face_detection_yunet_2023mar.onnx of "
            "https://github.com/opencv/opencv_zoo; or use detector=retinaface, whose file is shipped."
        )
        path = None if path is None else os.path.expanduser(path)
        if path is None or not Path(path).is_file():
            reason = "is not set" if path is None else "does not exist"
            raise ConfigError(f"detector_path={path} {reason}, but detector=yunet needs it; {wanted}")
        self._path = path
        self._lock = threading.Lock()  # the network remembers the size of what it searches
        try:
            _check_network(path)
            self._network = cv2.FaceDetectorYN.create(path, "", (320, 320), YUNET_SCORE)
            self(np.zeros((320, 320, 3), np.uint8))
        except (cv2.error, ValueError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise ConfigError(f"detector_path={path} cannot be used by YuNet ({reason}); {wanted}") from None

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Return how to load it elsewhere, from the same file."""
        return YunetDetector, (self._path,)

    def __call__(self, image: Image) -> list[Detection]:
        """Return the faces of an RGB image (H, W, 3), from left to right."""
        small, scale = search_size(image)
        with self._lock:
            self._network.setInputSize(small.shape[1::-1])
            _, faces = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        rows = [] if faces is None else faces
        return by_position(
            [Detection(_scaled(row[:4], scale), float(row[-1]), _points(row[4:14], scale)) for row in rows]
        )


def _check_network(path: str) -> None:
    """Raise ValueError for a damaged ONNX file, of which OpenCV would read beyond its memory."""
    import onnxruntime as ort

    try:
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of its errors
        raise ValueError(str(error) or type(error).__name__) from error


def build_detector(name: str, path: str | None = None) -> Detector:
    """Return a detector.

    Args:
        name: One of `DETECTORS`.
        path: File of YuNet.

    Raises:
        ConfigError: If the name is unknown or the file cannot be used.
    """
    if name == "retinaface":
        from src.inference.retinaface import RetinaFaceDetector

        return RetinaFaceDetector()
    if name == "haar":
        return HaarDetector()
    if name == "yunet":
        return YunetDetector(path)
    if name == "none":
        return WholeImage()
    raise ConfigError(f"detector={name}; expected one of {', '.join(DETECTORS)}.")


def search_size(image: Image) -> tuple[Image, float]:
    """Return the image in which faces are looked for, and how many of its pixels are one of the original."""
    longest = max(image.shape[:2])
    if longest >= SMALLEST_SEARCH:
        small = shrink(image, SEARCH_SIDE)
        return small, max(small.shape[:2]) / longest
    scale = SMALLEST_SEARCH / longest
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8), scale


def _scaled(box: NDArray[Any], scale: float) -> Box:
    return Box(*(float(value) / scale for value in box))


def _points(values: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    return (values.reshape(5, 2) + np.float32(0.5)) / np.float32(scale) - np.float32(0.5)


def _about(box: Box) -> Box:
    """Return the larger box that the `default` cascade would have drawn."""
    width, height = box.width / CASCADE_SCALE, box.height / CASCADE_SCALE
    return Box(box.x - (width - box.width) / 2, box.y - (height - box.height) / 2, width, height)


def by_position(found: list[Detection]) -> list[Detection]:
    """Return faces from left to right."""
    return sorted(found, key=lambda detection: detection.box)
