import numpy as np
import pytest

from src.data.faces.generator import draw_scene
from src.inference.largest_face import LargestFace


@pytest.fixture(scope="module")
def cutter():
    return LargestFace()


def test_the_largest_face_is_cut_in_its_own_resolution(cutter):
    image, (face,) = draw_scene(5, 3, 200)
    small, _ = draw_scene(5, 4, 80)
    scene = np.full((240, 420, 3), 120, np.uint8)
    scene[20:220, 210:410], scene[60:140, 40:120] = image, small
    crop = cutter(scene, "fer2013")
    assert crop.shape[0] == crop.shape[1]
    assert crop.shape[0] == pytest.approx(max(face.box[2:]), rel=0.25)
    assert cutter(scene, "landmarks").shape[0] > 1.2 * crop.shape[0]


def test_no_face_is_none(cutter):
    assert cutter(np.full((80, 80, 3), 90, np.uint8), "fer2013") is None
