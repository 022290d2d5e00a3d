"""Tests of cached features: what is written is what is read, and nothing half-written counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from src.data.dataset import StoreDataset
from src.data.store.feature_dataset import FeatureDataset
from src.data.store.feature_store import VIEWS, FeatureStore
from src.data.store.packed_store import Record
from src.data.transforms import ImageTransform, TransformConfig

FLIP = TransformConfig("flip", horizontal_flip=0.5)
ROWS = np.array([4, 0, 3])
STRAIGHT = np.zeros(3, bool)


def flip(path, place):
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def write(store, rows, features, view="plain"):
    store.path.mkdir(exist_ok=True)
    with store.writer(view) as writer:
        writer.add(np.asarray(rows), features)
        writer.commit()


@pytest.mark.parametrize("shape", [(6, 2, 2), (6,)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_is_read_is_what_was_written(tmp_path, shape, dtype):
    store = FeatureStore(tmp_path, 6, shape, dtype)
    plain, mirrored = torch.randn(2, 3, *shape)
    write(store, ROWS, plain)
    write(store, ROWS[:2], mirrored[:2], "mirrored")
    again = FeatureStore(tmp_path, 6, shape, dtype)
    found = again.read(ROWS[::-1], np.array([False, True, False]))
    assert torch.equal(found, torch.stack((plain[2], mirrored[1], plain[0])).to(dtype))
    assert len(shape) == 1 or found.is_contiguous(memory_format=torch.channels_last)
    assert again.missing(np.arange(6), "plain").tolist() == [1, 2, 5]
    assert again.missing(np.arange(6), "mirrored").tolist() == [1, 2, 3, 5]


def test_only_what_was_committed_counts(tmp_path):
    store = FeatureStore(tmp_path, 6, (2,), torch.bfloat16)
    with pytest.raises(KeyboardInterrupt), store.writer("plain") as writer:
        writer.add(np.array([1]), torch.ones(1, 2))
        writer.commit()
        writer.add(np.array([2]), torch.ones(1, 2))
        raise KeyboardInterrupt
    assert store.missing(np.arange(3), "plain").tolist() == [0, 2]
    write(store, [0, 2], torch.full((2, 2), 3.0))
    assert store.read(np.arange(3), STRAIGHT).tolist() == [[3, 3], [1, 1], [3, 3]]


def test_a_truncated_file_has_nothing(tmp_path):
    store = FeatureStore(tmp_path, 6, (2,), torch.bfloat16)
    write(store, ROWS, torch.ones(3, 2))
    with (tmp_path / "plain.bin").open("r+b") as file:
        file.truncate(8)
    assert store.missing(ROWS, "plain").tolist() == ROWS.tolist()


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_damaged_marks_mean_nothing(tmp_path, damage):
    store = FeatureStore(tmp_path, 6, (2,), torch.bfloat16)
    write(store, ROWS, torch.ones(3, 2))
    marks = tmp_path / "plain.done.npy"
    marks.write_bytes(damage) if damage is not None else np.save(marks, np.ones(5, bool))
    assert store.missing(ROWS, "plain").tolist() == ROWS.tolist()
    write(store, ROWS, torch.ones(3, 2))
    assert not len(store.missing(ROWS, "plain"))


def test_entries_that_a_disk_has_changed_count_as_missing(tmp_path, caplog):
    store = FeatureStore(tmp_path, 6, (2,), torch.float32)
    write(store, ROWS, torch.ones(3, 2))
    flip(tmp_path / "plain.bin", 3 * store.image_bytes + 5)
    again = FeatureStore(tmp_path, 6, (2,), torch.float32)
    for _ in range(2):
        assert again.missing(ROWS, "plain").tolist() == [3]
    assert caplog.messages == [f"{tmp_path / 'plain.bin'}: the features of 1 images are damaged and count as missing."]
    write(again, [3], torch.full((1, 2), 7.0))
    for opened in (again, FeatureStore(tmp_path, 6, (2,), torch.float32)):
        assert not len(opened.missing(ROWS, "plain"))
        assert opened.read(ROWS, STRAIGHT).tolist() == [[1, 1], [1, 1], [7, 7]]


def test_a_mark_or_a_checksum_that_a_disk_has_changed_serves_nothing_wrong(tmp_path):
    store = FeatureStore(tmp_path, 6, (2,), torch.float32)
    write(store, ROWS, torch.ones(3, 2))
    flip(tmp_path / "plain.done.npy", -1)  # row 5, which was never written
    flip(tmp_path / "plain.sums.npy", -9)  # row 3
    assert FeatureStore(tmp_path, 6, (2,), torch.float32).missing(np.arange(6), "plain").tolist() == [1, 2, 3, 5]
    (tmp_path / "plain.sums.npy").write_bytes(b"rubbish")
    assert len(FeatureStore(tmp_path, 6, (2,), torch.float32).missing(ROWS, "plain")) == 3


def test_features_of_before_checksums_are_accepted_and_get_some(tmp_path):
    store = FeatureStore(tmp_path, 6, (2,), torch.float32)
    write(store, ROWS, torch.ones(3, 2))
    (tmp_path / "plain.sums.npy").unlink()
    again = FeatureStore(tmp_path, 6, (2,), torch.float32)
    assert not len(again.missing(ROWS, "plain"))
    write(again, [1], torch.full((1, 2), 7.0))
    flip(tmp_path / "plain.bin", 0)
    assert FeatureStore(tmp_path, 6, (2,), torch.float32).missing(np.arange(6), "plain").tolist() == [0, 2, 5]


def test_features_must_fit_half_precision(tmp_path):
    store = FeatureStore(tmp_path, 6, (2,), torch.float16)
    with pytest.raises(OverflowError):
        write(store, [0], torch.full((1, 2), 1e5))


def test_the_description_is_beside_the_features(tmp_path):
    with FeatureStore(tmp_path / "a", 6, (2,), torch.float16).locked({"tap": "pooled"}):
        assert json.loads((tmp_path / "a" / "features.json").read_text()) == {"tap": "pooled"}


def test_views_are_those_of_the_images(make_store, tmp_path):
    """Every image is its own feature here: what is served must be what the transform makes of it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    store = make_store([Record(str(i), "train", "sad", p, valence=i / 8) for i, p in enumerate(images)])
    rows = np.array([4, 2, 1, 3])
    served = {
        **{"store": store, "rows": rows, "labels": np.arange(4), "image_size": 64, "grayscale": False},
        **{"transform": ImageTransform(FLIP, seed=3), "targets": rng.random((4, 7), np.float32)},
        "second_targets": rng.random((4, 8), np.float32),
    }
    features = FeatureStore(tmp_path / "features", 5, (3, 64, 64), torch.float16)
    plain = torch.from_numpy(images).permute(0, 3, 1, 2)
    for view, shown in zip(VIEWS, (plain, plain.flip(-1)), strict=True):
        write(features, range(5), shown, view)
    keys = [(index, epoch) for epoch in range(8) for index in (3, 0, 1, 2)]
    theirs = StoreDataset(**served).__getitems__(keys)
    ours = FeatureDataset(features, **served).__getitems__(keys)
    assert torch.equal(ours.pop("features"), theirs.pop("image").half())
    assert ours.keys() == theirs.keys() == {"label", "valence", "arousal", "row", "target", "second_target"}
    for key, value in ours.items():
        assert torch.equal(value.nan_to_num(), theirs[key].nan_to_num()), key


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TransformConfig("none"), True),
        (FLIP, True),
        (TransformConfig("x", horizontal_flip=0.5, rotate=5), False),
        (TransformConfig("x", vertical_flip=0.5), False),
        (TransformConfig("x", mixup=0.2), False),
    ],
)
def test_only_mirrors(config, expected):
    assert config.only_mirrors == expected
