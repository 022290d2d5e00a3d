"""Images in files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from src.utils.atomic_files import atomic_write
from src.utils.errors import ConfigError


def write_image(path: Path, image: NDArray[np.uint8], options: Sequence[int] = ()) -> None:
    """Write an image in the format that the file's suffix says.

    Not `cv2.imwrite`, which says by its return value alone that a disk is full, and writes nothing to a folder with
    accents on Windows.

    Args:
        path: File to write.
        image: Pixels in [0, 255], (H, W) gray or (H, W, 3) RGB.
        options: Keys and values of `cv2.imencode`.

    Raises:
        ConfigError: If the format cannot hold the image.
        OSError: If the file cannot be written.
    """
    pixels = image if image.ndim == 2 else image[..., ::-1]
    done, content = cv2.imencode(path.suffix, pixels, options)
    if not done:
        raise ConfigError(f"{path} cannot be written: OpenCV does not encode {image.shape} pixels as {path.suffix}.")
    with atomic_write(path) as scratch:
        scratch.write_bytes(content.tobytes())
