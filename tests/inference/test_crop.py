import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.data.faces.generator import draw_scene
from src.inference.backend import TorchBackend
from src.inference.crop import DETECTOR_BOX, LANDMARK_BOX, crop_box, crop_rule, cut, to_tensor
from src.inference.predictor import DEFAULT_WEIGHTS
from src.inference.results import Box
from src.utils.paths import ROOT


def test_every_contract_of_ours_has_its_rule():
    for name, rule in {"emonet_8": LANDMARK_BOX, "emonet_5": LANDMARK_BOX, "default": DETECTOR_BOX}.items():
        assert crop_rule(OmegaConf.load(ROOT / "conf" / "backbone" / f"{name}.yaml").crop) == rule
    assert crop_rule(TorchBackend.from_weights(DEFAULT_WEIGHTS).crop) == DETECTOR_BOX


def test_the_landmark_rule_is_that_of_the_authors_for_drawn_faces():
    errors = []
    for i in range(40):
        face = draw_scene(8, i, 400, expression="neutral")[1][0]
        low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
        side, centre = (high - low).sum() / 1.1, (low + high) / 2
        box = crop_box(Box(*map(float, face.box)), LANDMARK_BOX)
        errors.append([box.width / side, (box.y + box.height / 2 - centre[1]) / side])
    assert np.median(errors, axis=0) == pytest.approx([1, 0], abs=0.03)


def test_the_box_of_a_detector_is_the_crop():
    assert crop_box(Box(10, 20, 30, 30), DETECTOR_BOX) == Box(10, 20, 30, 30)
    assert crop_box(Box(10, 20, 20, 40), DETECTOR_BOX) == Box(0, 20, 40, 40)


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


def test_grey_models_get_grey_crops():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    crop = cut(image, Box(0, 0, 64, 64), 64, grayscale=True)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert all(np.array_equal(crop[..., i], grey) for i in range(3))


def test_a_box_of_less_than_a_pixel_is_one():
    assert cut(np.full((9, 9, 3), 7, np.uint8), Box(3.4, 3.4, 0.01, 0.01), 64, grayscale=False).shape == (64, 64, 3)


def test_tensors_are_rgb_in_unit_range():
    crop = np.zeros((64, 64, 3), np.uint8)
    crop[..., 0] = 255
    images = to_tensor([crop, crop])
    assert images.shape == (2, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images[0].mean(dim=(1, 2)).tolist() == [1, 0, 0]
