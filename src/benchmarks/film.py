"""The video that suites predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from src.data.faces.generator import draw_scene
from src.inference.video_writer import VideoWriter

RATE = 25


def draw_film(path: Path, n: int, width: int, height: int) -> Path:
    """Write a video of a face that moves about.

    Args:
        path: Path without a suffix, which depends on what can be encoded here.
        n: Number of frames, of which 25 are a second.
        width: Width in pixels.
        height: Height in pixels, at most the width.

    Returns:
        The file.
    """
    image, _ = draw_scene(3, 1, width)
    image = image[(width - height) // 2 :][:height]
    with VideoWriter(path) as writer:
        for i in range(n):
            writer.write(np.roll(image, round(width / 16 * np.sin(i / RATE)), axis=1), i / RATE)
    return writer.path
