"""Tests of what happens to training images and batches."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.faces.actions import Actions
from src.data.faces.generator import draw_face
from src.data.faces.geometry import NARROWEST, WIDEST, Proportions, place_landmarks
from src.data.transforms import MIRROR, BatchMix, ImageTransform, TransformConfig
from src.utils.errors import ConfigError

# A value of each key that visibly changes an image.
STEPS = {
    "horizontal_flip": 1.0,
    "vertical_flip": 1.0,
    "rotate": 30,
    "scale": 0.3,
    "translate": 0.2,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.8,
    "hue": 0.3,
    "erase": 1.0,
}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def apply(image: np.ndarray, *, seed: int = 0, epoch: int = 0, index: int = 0, **keys: float) -> np.ndarray:
    return ImageTransform(TransformConfig("test", **keys), seed)(image, epoch, index)


@pytest.mark.parametrize("key", STEPS)
def test_each_step_changes_images(image: np.ndarray, key: str) -> None:
    changed = apply(image, **{key: STEPS[key]})
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)


def test_nothing_on_changes_nothing(image: np.ndarray) -> None:
    for index in range(20):
        np.testing.assert_array_equal(apply(image, index=index), image)


@pytest.mark.parametrize(
    "keys",
    [{"rotate": 30, "affine_probability": 0}, {"brightness": 0.5, "color_probability": 0}],
)
def test_probability_zero_is_never(image: np.ndarray, keys: dict[str, float]) -> None:
    for index in range(20):
        np.testing.assert_array_equal(apply(image, index=index, **keys), image)


@pytest.mark.parametrize(("key", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_flips_flip(image: np.ndarray, key: str, axis: int) -> None:
    for index in range(20):
        np.testing.assert_array_equal(apply(image, index=index, **{key: 1.0}), np.flip(image, axis))


def test_half_of_the_images_flip(image: np.ndarray) -> None:
    transform = ImageTransform(TransformConfig("test", horizontal_flip=0.5), 0)
    flipped = [not np.array_equal(transform(image, 0, index), image) for index in range(400)]
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)


def test_erasing_blacks_out_one_box() -> None:
    for index in range(20):
        black = apply(np.full((64, 64, 3), 200, np.uint8), index=index, erase=1.0) == 0
        rows, columns = np.flatnonzero(black.any(axis=(1, 2))), np.flatnonzero(black.any(axis=(0, 2)))
        box = black[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all()
        assert min(box.shape[:2]) >= 6
        assert max(box.shape[:2]) <= 23


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"index": 1}])
def test_result_is_a_function_of_seed_epoch_and_index(image: np.ndarray, change: dict[str, int]) -> None:
    transform = ImageTransform(TransformConfig("test", **STEPS), 0)
    first = transform(image, 0, 0)
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    transform(image, 5, 5)
    np.testing.assert_array_equal(transform(image, 0, 0), first)
    assert not np.array_equal(apply(image, **change, **STEPS), first)


def test_seeds_do_not_add_up(image: np.ndarray) -> None:
    results = {
        apply(image, seed=s, epoch=e, index=i, **STEPS).tobytes() for s in range(3) for e in range(3) for i in range(3)
    }
    assert len(results) == 27


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotate", -1),
        ("rotate", "ten"),
        ("rotate", None),
        ("horizontal_flip", True),
        ("horizontal_flip", 1.1),
        ("vertical_flip", 1.1),
        ("affine_probability", 2),
        ("color_probability", 2),
        ("erase", 1.5),
        ("mix_probability", 1.5),
        ("hue", 0.6),
        ("brightness", 1.5),
        ("contrast", 1.5),
        ("saturation", 1.5),
        ("scale", 1.0),
        ("mixup", float("nan")),
    ],
)
def test_values_outside_their_range_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"transform\.{key}={value}; expected"):
        TransformConfig("test", **{key: value})


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Eight images and the probabilities of their classes, eight of ten."""
    return torch.rand(8, 3, 16, 16), F.one_hot(torch.randperm(8), 10).float()


def test_no_mixing(batch: tuple[Tensor, Tensor]) -> None:
    mix = BatchMix(TransformConfig("test"))
    assert not mix
    images, labels, _ = mix(*batch)
    assert images is batch[0]
    assert labels is batch[1]


@pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_labels_are_probabilities(batch: tuple[Tensor, Tensor], keys: dict[str, float]) -> None:
    mix = BatchMix(TransformConfig("test", **keys))
    assert mix
    for _ in range(10):
        _, labels, _ = mix(*batch)
        assert labels.shape == (8, 10)
        assert (labels >= 0).all()
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(8))


def partner_of(labels: Tensor, own: Tensor) -> Tensor:
    """Return the index of the image that each one is mixed with; labels are distinct, so the other fraction tells."""
    rest = labels.clone()
    rest[torch.arange(len(own)), own] = 0
    other = rest.argmax(dim=1)
    return torch.stack([torch.nonzero(own == label)[0, 0] for label in other])


def test_mixup_mixes_images_as_labels(batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    own = targets.argmax(dim=1)
    mixed, labels, _ = BatchMix(TransformConfig("test", mixup=5.0))(images, targets)
    fraction = labels[torch.arange(8), own][:, None, None, None]
    assert 0 < fraction[0].item() < 1
    torch.testing.assert_close(mixed, fraction * images + (1 - fraction) * images[partner_of(labels, own)])


@pytest.mark.parametrize("keys", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_the_fraction_of_the_own_image_is_told(batch: tuple[Tensor, Tensor], keys: dict[str, float]) -> None:
    mix = BatchMix(TransformConfig("test", **keys))
    fractions = []
    for _ in range(10):
        _, labels, fraction = mix(*batch)
        assert fraction is not None
        torch.testing.assert_close(labels[torch.arange(8), batch[1].argmax(dim=1)], fraction.expand(8))
        fractions.append(float(fraction))
    assert min(fractions) < 0.5 < max(fractions)
    assert BatchMix(TransformConfig("test"))(*batch)[2] is None


def test_cutmix_pastes_a_box_as_large_as_the_labels_fraction(batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    own = targets.argmax(dim=1)
    mixed, labels, _ = BatchMix(TransformConfig("test", cutmix=5.0))(images, targets)
    pasted = images[partner_of(labels, own)]
    kept = (mixed == images).all(dim=1)
    assert torch.equal(mixed, torch.where(kept[:, None], images, pasted))
    fraction = labels[torch.arange(8), own]
    assert 0 < fraction[0].item() < 1
    torch.testing.assert_close(kept.float().mean(dim=(1, 2)), fraction)


def test_mix_probability(batch: tuple[Tensor, Tensor]) -> None:
    def mixed_fraction(probability: float) -> float:
        mix = BatchMix(TransformConfig("test", mixup=1.0, mix_probability=probability))
        return float(np.mean([mix(*batch)[1] is not batch[1] for _ in range(200)]))

    assert mixed_fraction(0) == 0
    assert mixed_fraction(1) == 1
    assert mixed_fraction(0.5) == pytest.approx(0.5, abs=0.12)


def test_both_mixings_are_used(batch: tuple[Tensor, Tensor]) -> None:
    mix = BatchMix(TransformConfig("test", mixup=1.0, cutmix=1.0))
    black_and_white = torch.arange(8.0).remainder(2)[:, None, None, None].expand(8, 3, 16, 16)
    results = [mix(black_and_white, batch[1])[0] for _ in range(40)]
    blended = [bool(((images > 0) & (images < 1)).any()) for images in results]
    assert 0 < sum(blended) < 40


def test_mixing_follows_the_global_seed(batch: tuple[Tensor, Tensor]) -> None:
    mix = BatchMix(TransformConfig("test", mixup=1.0, cutmix=1.0))
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(mix(*batch)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_image_without_a_partner_stays_as_it_is() -> None:
    images, targets = torch.rand(1, 3, 8, 8), torch.tensor([[0.2, 0.8]])
    mixed, labels, _ = BatchMix(TransformConfig("test", mixup=1.0))(images, targets)
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(labels, targets)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"transform\.flip=0\.5 is unknown; expected one of name, horizontal_flip"):
        TransformConfig.from_keys({"name": "test", "flip": 0.5})
    assert TransformConfig.from_keys({"name": "test", "erase": 0.5}) == TransformConfig("test", erase=0.5)


def moved(
    image: np.ndarray, landmarks: np.ndarray, *, seed: int = 0, epoch: int = 0, index: int = 0, **keys: float
) -> tuple[np.ndarray, np.ndarray]:
    return ImageTransform(TransformConfig("test", **keys), seed).with_landmarks(image, landmarks, epoch, index)


def test_renumbering_mirrors_a_face() -> None:
    person = Proportions(*((np.array(NARROWEST) + WIDEST) / 2).tolist())
    crooked = Actions(corner_pull=1.0, lips_part=0.5, one_sided=1.0)
    right, left = (place_landmarks(person, crooked, weak_side=side) for side in (1.0, -1.0))
    assert not np.allclose(right, left)
    np.testing.assert_allclose((left * [-1, 1])[MIRROR], right, atol=1e-9)
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(68))


def test_a_flipped_face_has_the_landmarks_of_the_mirrored_image() -> None:
    face = draw_face(0, 3, 64)
    image, landmarks = moved(face.image, face.landmarks, horizontal_flip=1.0)
    np.testing.assert_array_equal(image, face.image[:, ::-1])
    np.testing.assert_allclose(landmarks[MIRROR], [63, 0] + face.landmarks * [-1, 1], atol=1e-4)
    for run in ((0, 16), (17, 26), (31, 35), (36, 39), (42, 45), (39, 42), (48, 54), (60, 64)):
        assert landmarks[run[0], 0] < landmarks[run[1], 0], f"{run} from left to right"
    assert landmarks[37, 1] < landmarks[41, 1]
    assert landmarks[51, 1] < landmarks[57, 1]


def test_a_vertical_flip_keeps_the_numbers() -> None:
    face = draw_face(0, 3, 64)
    image, landmarks = moved(face.image, face.landmarks, vertical_flip=1.0)
    np.testing.assert_array_equal(image, face.image[::-1])
    np.testing.assert_allclose(landmarks, [0, 63] + face.landmarks * [1, -1], atol=1e-4)


GEOMETRY = {
    "rotation": {"rotate": 40},
    "scale": {"scale": 0.3},
    "shift": {"translate": 0.2},
    "all": {
        "rotate": 20,
        "scale": 0.2,
        "translate": 0.1,
        "horizontal_flip": 0.5,
        "vertical_flip": 0.5,
        "contrast": 0.3,
    },
}


@pytest.mark.parametrize("keys", GEOMETRY.values(), ids=GEOMETRY.keys())
def test_landmarks_stay_on_their_dots(keys: dict[str, float]) -> None:
    side, number = 96, 36
    y, x = np.mgrid[:side, :side]
    for index in range(12):
        place = np.random.default_rng(index).uniform(35, 60, 2)
        dot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 2.5**2))
        landmarks = np.full((68, 2), np.nan, np.float32)
        landmarks[number] = place
        image, found = moved(np.repeat(dot.round()[..., None], 3, 2).astype(np.uint8), landmarks, index=index, **keys)
        (known,) = np.flatnonzero(~np.isnan(found[:, 0]))
        weight = image[..., 0].astype(float)
        weight = np.where(weight > 40, weight, 0)
        center = [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()]
        assert known in (number, MIRROR[number])
        np.testing.assert_allclose(found[known], center, atol=0.15)


def test_landmarks_do_not_change_the_image(image: np.ndarray) -> None:
    landmarks = np.random.default_rng(1).uniform(-10, 74, (68, 2)).astype(np.float32)
    for index in range(10):
        with_them, found = moved(image, landmarks, index=index, **STEPS)
        np.testing.assert_array_equal(with_them, apply(image, index=index, **STEPS))
        np.testing.assert_array_equal(moved(image, landmarks, index=index, **STEPS)[1], found)
        assert found.shape == (68, 2)
        assert found.dtype == np.float32


@pytest.mark.parametrize("keys", [{}, {"brightness": 0.5}])
def test_colors_leave_landmarks_where_they_are(image: np.ndarray, keys: dict[str, float]) -> None:
    landmarks = np.random.default_rng(1).uniform(0, 63, (68, 2)).astype(np.float32)
    np.testing.assert_array_equal(moved(image, landmarks, **keys)[1], landmarks)


def test_missing_landmarks_stay_missing(image: np.ndarray) -> None:
    landmarks = np.full((68, 2), np.nan, np.float32)
    landmarks[40:] = 30
    _, found = moved(image, landmarks, horizontal_flip=1.0, rotate=10)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(landmarks)[MIRROR])
