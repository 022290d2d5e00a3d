import numpy as np
import pytest

from src.data.faces.generator import draw_scene
from src.inference.detection import HaarDetector, build_detector
from src.inference.region import RegionDetector, within
from src.utils.errors import ConfigError


def test_faces_of_a_part_are_where_they_are_in_the_whole():
    image, _ = draw_scene(3, 4, 640, faces=4)
    detector = build_detector("retinaface")
    all_faces = detector(image)
    right = within(detector, [0.5, 0, 1, 1])(image)
    expected = [face for face in all_faces if face.box.x > 320]
    assert 0 < len(expected) < len(all_faces)
    assert len(right) == len(expected)
    for found, face in zip(right, expected, strict=True):
        assert found.box == pytest.approx(face.box, abs=12)
        assert np.allclose(found.points, face.points, atol=12)


def test_it_keeps_the_detectors_crops_and_may_be_left_out():
    detector = HaarDetector()
    assert within(detector, None) is detector
    assert within(detector, [0, 0, 1, 1]).crops is detector.crops
    assert not hasattr(RegionDetector(lambda image: [], [0, 0, 1, 1]), "crops")


@pytest.mark.parametrize("region", [[0.5, 0, 0.5, 1], [0.6, 0, 0.5, 1], [0, -0.1, 1, 1], [0, 0, 1, 1.5]])
def test_what_is_no_part_is_refused(region):
    with pytest.raises(ConfigError, match="expected the left, upper, right and lower edge"):
        within(HaarDetector(), region)
