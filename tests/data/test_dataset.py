"""Tests of the images that a store serves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from src.data.dataset import StoreDataset
from src.data.readers.images import fit
from src.data.store.packed_store import PackedStore, Record
from src.data.transforms import ImageTransform, TransformConfig
from tests.conftest import MakeStore

AUGMENT = TransformConfig("test", horizontal_flip=0.5, rotate=20, translate=0.1, brightness=0.3, hue=0.1, erase=0.5)
LABELS = np.array([3, 1, 4, 1, 5])
IMAGE_SIZE = 64


@pytest.fixture
def color(make_store: MakeStore) -> PackedStore:
    """Five images of several sizes, two of them gray."""
    rng = np.random.default_rng(0)
    shapes = [(48, 48, 3), (100, 80, 3), (64, 64, 3), (30, 90), (64, 64)]
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    return make_store([Record(str(i), "train", "sad", p, valence=i / 8, arousal=-i / 8) for i, p in enumerate(images)])


@pytest.fixture
def gray(make_store: MakeStore) -> PackedStore:
    """Five gray images."""
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48)).astype(np.uint8)
    return make_store([Record(str(i), "train", "sad", p) for i, p in enumerate(images)])


def serve(store: PackedStore, grayscale: bool = False, transform: TransformConfig | None = None) -> StoreDataset:
    augment = None if transform is None else ImageTransform(transform, seed=0)
    return StoreDataset(store, np.arange(5), LABELS, IMAGE_SIZE, grayscale, augment)


def test_batches_follow_their_keys(color: PackedStore) -> None:
    rows = np.array([4, 0, 2])
    dataset = StoreDataset(color, rows, LABELS[rows], IMAGE_SIZE, grayscale=False)
    batch = dataset.__getitems__([2, 0])
    assert len(dataset) == 3
    assert batch["image"].shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert batch["image"].dtype == torch.uint8
    assert batch["row"].tolist() == [2, 4]
    assert batch["label"].tolist() == [4, 5]
    assert batch["valence"].tolist() == [0.25, 0.5]
    assert batch["arousal"].tolist() == [-0.25, -0.5]
    np.testing.assert_array_equal(batch["image"][0].permute(1, 2, 0), color.image(2))


@pytest.mark.parametrize("grayscale", [False, True])
def test_an_image_does_not_depend_on_its_batch(color: PackedStore, grayscale: bool) -> None:
    dataset = serve(color, grayscale, AUGMENT)
    keys = [(index, epoch) for epoch in (0, 1) for index in range(5)]
    together = dataset.__getitems__(keys)["image"]
    backwards = dataset.__getitems__(keys[::-1])["image"].flip(0)
    alone = torch.cat([serve(color, grayscale, AUGMENT)[key]["image"] for key in keys])
    assert torch.equal(together, backwards)
    assert torch.equal(together, alone)


def test_augmentation_differs_between_epochs_and_indices(make_store: MakeStore) -> None:
    source = np.random.default_rng(0).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.uint8)
    dataset = serve(make_store([Record(str(i), "train", "sad", source) for i in range(5)]), transform=AUGMENT)
    images = dataset.__getitems__([(index, epoch) for index in range(5) for epoch in range(3)])["image"]
    assert len({image.numpy().tobytes() for image in images}) == 15


def test_plain_indices_are_of_the_first_epoch(color: PackedStore) -> None:
    dataset = serve(color, transform=AUGMENT)
    assert torch.equal(dataset[3]["image"], dataset[(3, 0)]["image"])


@pytest.mark.parametrize(
    ("shape", "size", "method"),
    [
        ((48, 48), 64, cv2.INTER_LINEAR),
        ((48, 48, 3), 128, cv2.INTER_LINEAR),
        ((100, 80, 3), 64, cv2.INTER_AREA),
        ((30, 90), 64, cv2.INTER_LINEAR),
    ],
)
def test_resizing_is_opencvs(shape: tuple[int, ...], size: int, method: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(fit(image, size), cv2.resize(image, (size, size), interpolation=method))


def test_halving_averages_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8)
    blocks = image.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.abs(fit(image, 64) - blocks).max() <= 0.5


def test_images_of_the_right_size_are_served_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(fit(image, 64), image)


@pytest.mark.parametrize("transform", [None, AUGMENT])
def test_gray_images_get_three_equal_channels(gray: PackedStore, transform: TransformConfig | None) -> None:
    images = serve(gray, transform=transform).__getitems__(list(range(5)))["image"]
    assert images.shape == (5, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert torch.equal(images, images[:, :1].expand(-1, 3, -1, -1))
    if transform is None:
        np.testing.assert_array_equal(images[2, 0], cv2.resize(gray.image(2), (IMAGE_SIZE, IMAGE_SIZE)))


@pytest.mark.parametrize("transform", [None, AUGMENT])
def test_grayscale_removes_colors(color: PackedStore, transform: TransformConfig | None) -> None:
    keys = list(range(5))
    with_colors = serve(color, transform=transform).__getitems__(keys)["image"]
    images = serve(color, True, transform).__getitems__(keys)["image"]
    assert torch.equal(images, images[:, :1].expand(-1, 3, -1, -1))
    assert not torch.equal(with_colors[0, 0], with_colors[0, 1])


def test_grayscale_is_the_luminance(color: PackedStore) -> None:
    image = serve(color, grayscale=True)[2]["image"][0, 0]
    luminance = color.image(2) @ [0.299, 0.587, 0.114]  # ITU-R BT.601, of red, green and blue
    assert np.abs(image.numpy() - luminance).max() <= 1


def test_serving_leaves_the_store_as_it_is(color: PackedStore) -> None:
    before = [color.image(row).copy() for row in range(5)]
    serve(color, transform=AUGMENT).__getitems__([(index, epoch) for index in range(5) for epoch in range(3)])
    for row, image in enumerate(before):
        np.testing.assert_array_equal(color.image(row), image)


def test_stores_without_landmarks_serve_none(color: PackedStore) -> None:
    assert "landmarks" not in serve(color)[0]
    assert "landmarks" not in serve(color, transform=AUGMENT)[0]


@pytest.fixture
def dotted(make_store: MakeStore) -> PackedStore:
    """Five images of several sizes with a white dot at each landmark's place; the last has no landmarks."""
    records = []
    for i, (height, width) in enumerate([(128, 128), (128, 160), (64, 64), (32, 48), (64, 64)]):
        place = np.array([width * 0.4, height * 0.6])
        y, x = np.mgrid[:height, :width]
        distance = ((x - place[0]) * 64 / width) ** 2 + ((y - place[1]) * 64 / height) ** 2
        dot = (255 * np.exp(-distance / (2 * 3**2))).astype(np.uint8)
        landmarks = np.tile(place, (68, 1)).astype(np.float32) if i < 4 else None
        records.append(Record(str(i), "train", "sad", dot, landmarks=landmarks))
    return make_store(records)


@pytest.mark.parametrize("transform", [None, TransformConfig("test", horizontal_flip=0.5, translate=0.1, rotate=20)])
def test_landmarks_follow_the_image(dotted: PackedStore, transform: TransformConfig | None) -> None:
    batch = serve(dotted, transform=transform).__getitems__([(index, 2) for index in range(5)])
    landmarks = batch["landmarks"]
    assert landmarks.shape == (5, 68, 2)
    assert landmarks.dtype == torch.float32
    assert landmarks[4].isnan().all()
    for image, points in zip(batch["image"][:4, 0].double(), landmarks[:4], strict=True):
        weight = torch.where(image > 40, image, 0.0)
        center = [(weight.sum(dim=axis) * torch.arange(IMAGE_SIZE)).sum() / weight.sum() for axis in (0, 1)]
        torch.testing.assert_close(points.double(), torch.stack(center).expand(68, 2), atol=0.2, rtol=0)


def test_landmarks_do_not_change_the_images(dotted: PackedStore) -> None:
    with_them = serve(dotted, transform=AUGMENT).__getitems__(list(range(5)))["image"]
    dotted.landmarks = None
    assert torch.equal(serve(dotted, transform=AUGMENT).__getitems__(list(range(5)))["image"], with_them)
