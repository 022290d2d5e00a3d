"""Real photographs and clips with faces, FACES_PATH; with -s, the table of docs/detection.md."""

import csv
import os
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
import torch

from src.data.readers.images import decode_image, shrink
from src.data.readers.video import Part, read_video
from src.inference import EmotionPredictor
from src.inference.detection import HaarDetector
from src.inference.results import Box
from src.inference.retinaface import RetinaFaceDetector
from tests.inference.test_detection import overlap
from tests.inference.test_predictor import Counting

FOLDER = Path(os.environ.get("FACES_PATH", ""))
pytestmark = pytest.mark.skipif(not os.environ.get("FACES_PATH"), reason="FACES_PATH is not set")
# Clips, and how many faces are in each of their frames, where that does not change.
CLIPS = {
    "pyfeat_single_face.mp4": 1,
    "pyfeat_WolfgangLanger_Pexels.mp4": 1,
    "intel_head-pose-face-detection-male.gif": 1,
    "intel_head-pose-face-detection-female-and-male.gif": 2,
    "intel_asl_hungry.mkv": 1,
}
EVERY = 12


@pytest.fixture(scope="module")
def photographs():
    """Names, images and the boxes that were counted by eye."""
    boxes = defaultdict(list)
    with (FOLDER / "faces.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            boxes[row["file"]] += [Box(*(float(row[k]) for k in ("x", "y", "width", "height")))] if row["x"] else []
    return [(name, _rgb(decode_image(FOLDER / name)), faces) for name, faces in boxes.items()]


def _rgb(image):
    return image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)


def compared(detector, photographs):
    """Return names of images with a face that was missed, and with a box that is no face."""
    missed, false = [], []
    for name, image, faces in photographs:
        found = [detection.box for detection in detector(image)]
        missed += [name for face in faces if not any(overlap(face, box) > 0.35 for box in found)]
        false += [name for box in found if not any(overlap(face, box) > 0.35 for face in faces)]
    return missed, false


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def milliseconds(detector, photographs):
    """Return the processor's time an image of 640 px."""
    images = [shrink(image, 640) for _, image, _ in photographs]
    detector(images[0])
    start = time.process_time()
    for image in images:
        detector(image)
    return 1000 * (time.process_time() - start) / len(images)


def test_every_face_is_found_and_nothing_else(photographs, one_thread):
    rows = {}
    for name, detector in (("haar", HaarDetector()), ("retinaface", RetinaFaceDetector())):
        missed, false = compared(detector, photographs)
        right = sum(photo not in {*missed, *false} for photo, _, _ in photographs)
        rows[name] = (missed, false, milliseconds(detector, photographs))
        faces = sum(len(boxes) for *_, boxes in photographs)
        counts = f"{right} of {len(photographs)} | {faces - len(missed)} of {faces} | {len(false)}"
        print(f"| `{name}` | {counts} | {rows[name][2]:.0f} ms |")
    missed, false, time_taken = rows["retinaface"]
    assert missed == []
    assert len(false) <= 1
    assert time_taken < 100
    assert len(rows["haar"][0]) > 5, "the cascade is what it was"


def test_a_reduced_photograph_shows_the_same_faces(photographs):
    for side in (640, 1000):
        reduced = [
            (name, shrink(image, side), [Box(*(v * min(1, side / max(image.shape)) for v in face)) for face in faces])
            for name, image, faces in photographs
        ]
        missed, false = compared(RetinaFaceDetector(), reduced)
        assert missed == []
        assert len(false) <= 1


@pytest.mark.parametrize("name", CLIPS)
def test_every_face_of_a_clip_is_found(name):
    detector = RetinaFaceDetector()
    counts = [len(detector(frame.image)) for frame in read_video(FOLDER / name) if (frame.index or 0) % EVERY == 0]
    assert counts == [CLIPS[name]] * len(counts)


def test_a_drawn_rabbit_is_no_face():
    detector = RetinaFaceDetector()
    counts = [len(detector(f.image)) for f in read_video(FOLDER / "pyfeat_noface_face.mov") if (f.index or 0) % 8 == 0]
    assert set(counts) == {0, 1}
    changes = sum(a != b for a, b in pairwise(counts))
    assert changes == 2, "a person comes and goes"


@pytest.mark.parametrize("every_n", [1, 4])
def test_nobody_changes_identity(every_n):
    predictor = EmotionPredictor(backend=Counting())
    name = "intel_head-pose-face-detection-female-and-male.gif"
    frames = read_video(FOLDER / name, Part(every_n=every_n))
    for prediction in predictor.track(frames, every_n=every_n):
        assert [face.track for face in prediction.faces] == [1, 2]
        left, right = prediction.faces
        assert left.box.x < right.box.x
