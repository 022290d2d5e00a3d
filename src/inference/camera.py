"""A camera's images, as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2
import numpy as np

from src.data.readers.frames import Frame
from src.data.readers.video import UnreadableVideo
from src.utils.signals import stop_requests

# A camera that warms up gives no image at first, and one may be lost later.
MAX_MISSED = 40
WAIT_SECONDS = 0.05


def read_camera(number: int, max_seconds: float | None = None) -> Iterator[Frame]:
    """Yield what a camera sees until Ctrl-C; to be used within `stop_requests.deferred()`.

    Args:
        number: Number of the camera, from 0 up.
        max_seconds: Seconds after which to stop; None for never.

    Raises:
        UnreadableVideo: If there is no such camera, or it stops giving images.
    """
    # OpenCV would print warnings of its own of a camera that is not there.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        camera = cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not camera.isOpened():
            raise UnreadableVideo("there is no such camera, it is in use, or you may not use it")
        yield from _frames(camera, f"camera {number}", max_seconds)
    finally:
        camera.release()


def _frames(camera: cv2.VideoCapture, source: str, max_seconds: float | None) -> Iterator[Frame]:
    start, index, missed = None, 0, 0
    while not stop_requests.take():
        there, image = camera.read()
        now = time.monotonic()
        if not there:
            missed += 1
            if missed > MAX_MISSED:
                raise UnreadableVideo(f"it stopped giving images after {index} frames")
            time.sleep(WAIT_SECONDS)
            continue
        start = now if start is None else start
        if max_seconds is not None and now - start >= max_seconds:
            return
        missed = 0
        yield Frame(source, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), index, now - start)
        index += 1
