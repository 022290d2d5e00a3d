"""An image and where it comes from, and what cuts a face out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Cuts the largest face out of RGB pixels (H, W, 3), as a square of a kind of `src.models.crops`; None if there is none.
FaceCutter = Callable[[NDArray[np.uint8], str], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Frame:
    """An image, or one of a video.

    Attributes:
        source: Where it comes from: a file's name, or `camera 0`.
        image: Upright RGB pixels in [0, 255], (H, W, 3).
        index: Number within a video from 0 up; None for an image.
        time: Seconds since the first frame of the video; None for an image.
    """

    source: str
    image: NDArray[np.uint8] = field(repr=False)
    index: int | None = None
    time: float | None = None
