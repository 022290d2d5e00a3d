import cv2
import numpy as np
import pytest

from src.data.faces.generator import draw_face, draw_scene
from src.inference.crop import crop_box
from src.inference.detection import SEARCH_SIDE
from src.inference.results import Box
from src.inference.retinaface import LARGEST_SURE, WEIGHTS, RetinaFaceDetector
from src.utils.checksums import file_sha256
from tests.inference.test_detection import overlap

DETECTOR = RetinaFaceDetector()


def boxes(image):
    return [detection.box for detection in DETECTOR(image)]


def expected_crop(face):
    return Box(*map(float, face.box))


def crops(image):
    return [crop_box(box, DETECTOR.crops["fer2013"]) for box in boxes(image)]


def test_the_card_names_the_file():
    assert file_sha256(WEIGHTS) in WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")


def test_it_finds_the_faces_of_scenes_and_nothing_else():
    for i in range(5):
        image, faces = draw_scene(21, i, 500, faces=4)
        found = crops(image)
        assert len(found) == 4
        for face in faces:
            assert max(overlap(expected_crop(face), crop) for crop in found) > 0.6


def test_fifty_faces():
    image, faces = draw_scene(7, 0, 1600, faces=50)
    found = crops(image)
    assert len(found) == 50
    assert sum(max(overlap(expected_crop(face), crop) for crop in found) > 0.6 for face in faces) >= 48


@pytest.mark.parametrize("size", [80, LARGEST_SURE + 1, 3 * SEARCH_SIDE])
def test_small_and_large_images(size):
    image, (face,) = draw_scene(23, 1, 640)
    (crop,) = crops(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
    assert overlap(Box(*(value * size / 640 for value in face.box)), crop) > 0.6


@pytest.mark.parametrize("side", [48, 400, 2000])
def test_a_face_that_fills_the_image_is_one(side):
    """Larger than the largest anchor, its parts would be taken for faces."""
    image = cv2.resize(draw_face(4, 2, 256).image, (side, side), interpolation=cv2.INTER_CUBIC)
    (box,) = boxes(image)
    assert box.height > 0.6 * side


def test_the_points_are_where_eyes_nose_and_mouth_are():
    image, (face,) = draw_scene(23, 3, 640, expression="neutral")
    (detection,) = DETECTOR(image)
    marks = face.landmarks
    expected = [marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]]
    assert np.abs(detection.points - expected).max() < 0.12 * face.box[2]
    right, left, *_ = detection.points
    assert right[0] < left[0], "the person's right eye is on the left of the image"


def test_boxes_come_from_left_to_right_with_a_score():
    found = DETECTOR(draw_scene(21, 0, 500, faces=4)[0])
    assert [d.box.x for d in found] == sorted(d.box.x for d in found)
    assert all(0.6 < d.score <= 1 for d in found)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (300, 2, 3), (479, 641, 3), (700, 1301, 3)])
def test_no_face_in_nothing(shape):
    assert DETECTOR(np.full(shape, 128, np.uint8)) == []
