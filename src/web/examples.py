"""Examples for the demo: a portrait in the public domain, and synthetic faces."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from src.data.faces.generator import draw_scene
from src.inference.results import Image
from src.inference.video_writer import VideoWriter
from src.utils.image_files import write_image

# Eileen Collins by NASA, 1999, in the public domain; scikit-image's `data.astronaut()`, as JPEG.
PORTRAIT = Path(__file__).with_name("astronaut.jpg")
SEED = 2024
IMAGE_SIZE = 480
RATE, SECONDS_EACH = 12, 1.5
MOTION = 14


class Example(NamedTuple):
    """An example.

    Attributes:
        caption: What it shows.
        file: An image or a video.
        thumbnail: An image.
    """

    caption: str
    file: Path
    thumbnail: Path


def make_examples(folder: Path) -> list[Example]:
    """Return the portrait, synthetic images of one and of four faces, and a synthetic video of three people in turn.

    Args:
        folder: Where to write them.
    """
    portrait = folder / PORTRAIT.name
    shutil.copyfile(PORTRAIT, portrait)
    examples = [Example("photo", portrait, portrait)]
    for index, faces, expression in ((1, 1, "surprise"), (2, 4, None)):
        caption = expression or f"{faces} faces"
        path = folder / f"synthetic_{caption.replace(' ', '_')}.png"
        write_image(path, draw_scene(SEED, index, IMAGE_SIZE, faces=faces, expression=expression)[0])
        examples.append(Example(caption, path, path))
    with VideoWriter(folder / "synthetic_video") as writer:
        for number, frame in enumerate(_frames()):
            if number == 0:
                write_image(folder / "synthetic_video.png", frame)
            writer.write(frame, number / RATE)
    return [*examples, Example("video", writer.path, folder / "synthetic_video.png")]


def _frames() -> Iterator[Image]:
    n = round(RATE * SECONDS_EACH)
    for index, expression in enumerate(("sad", "angry", "happy"), start=10):
        scene = draw_scene(SEED, index, IMAGE_SIZE, expression=expression)[0]
        for i in range(n):
            angle = 2 * math.pi * i / n
            shift = np.array([[1, 0, MOTION * math.sin(angle)], [0, 1, MOTION * (math.cos(angle) - 1)]])
            moved = cv2.warpAffine(scene, shift, (IMAGE_SIZE, IMAGE_SIZE), borderMode=cv2.BORDER_REPLICATE)
            yield np.asarray(moved, np.uint8)
