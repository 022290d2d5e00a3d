import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.data.faces.generator import draw_scene
from src.inference.backend import TorchBackend
from src.inference.crop import (
    FER2013_CROPS,
    WIDER_FACE_CROPS,
    CropRule,
    crop_box,
    crop_rule,
    crop_to_image,
    cut,
    roll_of,
    to_tensor,
)
from src.inference.detection import WholeImage
from src.inference.predictor import DEFAULT_WEIGHTS
from src.inference.results import Box
from src.models.crops import CROPS, crop_name
from src.models.spec import ModelSpec
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.inference.conftest import tiny_model


def test_every_contract_of_ours_names_its_crop():
    for name, crop in {"emonet_8": "landmarks", "emonet_5": "landmarks", "default": "fer2013"}.items():
        assert OmegaConf.load(ROOT / "conf" / "backbone" / f"{name}.yaml").crop == crop
    assert TorchBackend.from_weights(DEFAULT_WEIGHTS).crop == "fer2013"


def test_the_words_of_older_weights_are_understood():
    for words, crop in {
        "as the data set gives it": "fer2013",
        "square about the face, as FER2013's detector cut it": "fer2013",
        "square of side (width + height) / 1.1 of the 68 landmarks' box, about its centre": "landmarks",
        "words of one's own": "fer2013",
    }.items():
        assert crop_name(words) == crop
    assert ModelSpec.from_dict({**tiny_model().spec.to_dict(), "crop": "the 68 landmarks' box"}).crop == "landmarks"


def test_an_unknown_crop_is_refused():
    with pytest.raises(ConfigError, match=r"backbone\.crop=ferr; expected one of fer2013, expw, landmarks"):
        crop_name("ferr")


def test_every_detector_knows_every_crop():
    for crops in (FER2013_CROPS, WIDER_FACE_CROPS, WholeImage.crops):
        assert set(crops) == set(CROPS)


def test_the_detector_tells_the_crop():
    class Own:
        crops = {"fer2013": CropRule(2.0, 0.25)}

        def __call__(self, image):
            return []

    assert crop_rule(Own(), "fer2013") == CropRule(2.0, 0.25)
    for detector in (Own(), lambda image: []):
        assert crop_rule(detector, "landmarks") == FER2013_CROPS["landmarks"]
    assert crop_rule(WholeImage(), "landmarks") == CropRule(), "it is cropped already"


def test_the_landmark_rule_is_that_of_the_authors_for_synthetic_faces():
    errors = []
    for i in range(40):
        face = draw_scene(8, i, 400, expression="neutral")[1][0]
        low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
        side, center = (high - low).sum() / 1.1, (low + high) / 2
        box = crop_box(Box(*map(float, face.box)), FER2013_CROPS["landmarks"])
        errors.append([box.width / side, (box.y + box.height / 2 - center[1]) / side])
    assert np.median(errors, axis=0) == pytest.approx([1, 0], abs=0.03)


def test_the_longer_side_counts():
    assert crop_box(Box(10, 20, 30, 30), CropRule()) == Box(10, 20, 30, 30)
    assert crop_box(Box(10, 20, 20, 40), CropRule()) == Box(0, 20, 40, 40)
    assert crop_box(Box(10, 20, 20, 40), CropRule(0.5, 0.25)) == Box(10, 40, 20, 20)


def test_inside_the_image_it_is_a_slice():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    assert np.array_equal(cut(image, Box(5, 7, 20, 20), 20, grayscale=False), image[7:27, 5:25])


@pytest.mark.parametrize("box", [(-10, -5, 30, 30), (45, 40, 30, 30), (-20, -20, 100, 100), (58, 48, 9, 9)])
def test_outside_the_image_its_edge_is_repeated(box):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    x, y, side, _ = box
    rows, columns = np.arange(y, y + side).clip(0, 49), np.arange(x, x + side).clip(0, 59)
    assert np.array_equal(cut(image, Box(*map(float, box)), side, grayscale=False), image[rows][:, columns])


def test_a_box_outside_the_image_gives_its_corner():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    for x, y, corner in ((-90, -90, image[0, 0]), (200, 300, image[-1, -1])):
        assert (cut(image, Box(x, y, 30, 30), 64, grayscale=False) == corner).all()


def test_gray_models_get_gray_crops():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    crop = cut(image, Box(0, 0, 64, 64), 64, grayscale=True)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert all(np.array_equal(crop[..., i], gray) for i in range(3))


def test_a_box_of_less_than_a_pixel_is_one():
    assert cut(np.full((9, 9, 3), 7, np.uint8), Box(3.4, 3.4, 0.01, 0.01), 64, grayscale=False).shape == (64, 64, 3)


def test_tensors_are_rgb_in_unit_range():
    crop = np.zeros((64, 64, 3), np.uint8)
    crop[..., 0] = 255
    images = to_tensor([crop, crop])
    assert images.shape == (2, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images[0].mean(dim=(1, 2)).tolist() == [1, 0, 0]


def turned_points(degrees):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = np.array([[-10, -10], [10, -10], [0, 0], [-8, 12], [8, 12]])
    return (upright @ turn.T + 50).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 10, -30, 90, 170, -90])
def test_the_roll_is_read_from_the_five_points(degrees):
    assert roll_of(turned_points(degrees)) == pytest.approx(degrees, abs=1e-3)
    assert roll_of(None) == 0


def test_a_profile_is_not_turned_by_eyes_that_are_one():
    points = turned_points(0)
    points[0], points[1] = (50, 40), (51, 41.5)
    assert abs(roll_of(points)) < 6, "the eyes alone say 56"


def test_turned_faces_are_cut_upright():
    image, (face,) = draw_scene(23, 1, 400)
    box = Box(*map(float, face.box))
    straight = cut(image, box, 64, grayscale=False).astype(int)
    center = box.x + box.width / 2 - 0.5, box.y + box.height / 2 - 0.5
    for degrees in (30, -75, 180):
        # OpenCV turns counter-clockwise.
        place = cv2.getRotationMatrix2D(center, -degrees, 1)
        turned = cv2.warpAffine(image, place, (400, 400), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        upright = cut(turned, box, 64, grayscale=False, roll=degrees).astype(int)
        assert np.abs(upright - straight)[6:-6, 6:-6].mean() < 4
        assert np.abs(cut(turned, box, 64, grayscale=False) - straight).mean() > 12


def test_a_turned_box_at_the_edge_repeats_it():
    image = np.full((60, 80, 3), 9, np.uint8)
    assert (cut(image, Box(60, -30, 70, 70), 64, grayscale=False, roll=40) == 9).all()


def test_the_place_of_a_crop_is_its_box():
    place = crop_to_image(Box(10, 20, 128, 128), 0, 64)
    np.testing.assert_allclose(place, [[2, 0, 10.5], [0, 2, 20.5]])
    center = np.array([31.5, 31.5, 1])
    for roll in (0, 33):
        np.testing.assert_allclose(crop_to_image(Box(10, 20, 128, 128), roll, 64) @ center, [73.5, 83.5])


def test_the_shift_follows_the_turned_face():
    assert crop_box(Box(0, 0, 40, 40), CropRule(1.0, 0.25), roll=90) == pytest.approx((-10, 0, 40, 40))
