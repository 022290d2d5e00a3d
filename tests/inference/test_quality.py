import cv2
import numpy as np
import pytest

from src.data.faces.generator import draw_face
from src.inference.detection import Detection
from src.inference.quality import QualityLimits, frontality, outside, sharpness
from src.inference.results import REASONS, Box

IMAGE = np.zeros((100, 200, 3), np.uint8)
FRONTAL = np.array([[30, 40], [70, 40], [50, 55], [35, 75], [65, 75]], np.float32)
FACE = draw_face(3, 2, 64).image


def reasons(*, box=(10, 10, 60, 80), points=FRONTAL, crop=None, pixels=FACE, **limits):
    detection = Detection(Box(*map(float, box)), 0.9, points)
    return QualityLimits(**limits).reasons(IMAGE, detection, Box(*map(float, crop or box)), pixels)


def moved(x):
    points = FRONTAL.copy()
    points[2, 0] = x
    return points


def test_a_face_that_can_be_seen_has_no_reasons():
    assert reasons() == ()
    assert reasons(points=None) == ()


@pytest.mark.parametrize(
    ("reason", "given"),
    [
        ("small", {"box": (10, 10, 12, 15)}),
        ("cut", {"crop": (-40, 10, 80, 80)}),
        ("turned", {"points": moved(69)}),
        ("blurred", {"pixels": cv2.GaussianBlur(FACE, (0, 0), 5)}),
    ],
)
def test_each_reason_has_its_limit(reason, given):
    assert reasons(**given) == (reason,)
    none = {"min_side": 0, "max_outside": 1, "min_frontality": 0, "min_sharpness": 0}
    assert reasons(**given, **none) == ()
    assert set(REASONS) == {"small", "cut", "turned", "blurred"}


def test_what_lies_outside_counts():
    assert outside(IMAGE, Box(0, 0, 100, 100)) == 0
    assert outside(IMAGE, Box(-25, -50, 100, 100)) == pytest.approx(1 - 0.75 * 0.5)
    assert outside(IMAGE, Box(300, 0, 50, 50)) == 1


def test_frontality_follows_the_nose_wherever_the_face_is_turned():
    assert frontality(FRONTAL) == pytest.approx(1)
    assert frontality(moved(60)) == pytest.approx(0.5, abs=0.01)
    assert frontality(moved(40)) == pytest.approx(0.5, abs=0.01)
    assert frontality(moved(90)) == 0
    turn = np.array([[0, -1], [1, 0]], np.float32)
    assert frontality(moved(60) @ turn.T) == pytest.approx(frontality(moved(60)), abs=1e-5)


def test_sharpness_falls_with_blur_and_is_that_of_any_light():
    values = [sharpness(cv2.GaussianBlur(FACE, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert sharpness(FACE // 2) == pytest.approx(sharpness(FACE), rel=0.1)
    assert sharpness(np.full((64, 64, 3), 90, np.uint8)) == 0
