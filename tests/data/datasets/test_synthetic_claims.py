"""What is claimed of the synthetic faces: pixels alone do not tell the expression, brows, eyes and mouth do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from src.data.datasets.synthetic import SyntheticDataModule
from src.data.store.packed_store import PackedStore, Split
from src.engine.build import build_data, plain
from src.engine.fit import fit_and_test
from src.models.classifier import ExpressionClassifier
from src.models.weights import build_from_weights, load_weights
from src.runs.layout import find_checkpoint
from tests.helpers.running import compose_config

FEATURES = (slice(17, 27), slice(36, 48), slice(48, 68))  # landmarks of brows, eyes and mouth
BLOCK = 8  # side of the squares that cover the rest, about the height of a mouth
MARGIN = 1  # pixels around the landmarks of a feature

Images = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Trained(NamedTuple):
    """A network and the store that it was trained on."""

    model: ExpressionClassifier
    store: PackedStore


def load(run_dir: Path, data: SyntheticDataModule) -> Trained:
    """Load the best checkpoint of a run."""
    model = build_from_weights(load_weights(find_checkpoint(str(run_dir))))
    assert model.spec.class_names == data.store.class_names
    return Trained(model.eval(), data.store)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Trained:
    """emonet_tiny, trained on all faces."""
    run_dir = tmp_path_factory.mktemp("claims")
    quiet = [
        "backbone=emonet_tiny",
        "transform=light",
        "trainer=cpu",
        "trainer.enable_progress_bar=false",
        "logger=none",
    ]
    cfg = compose_config("train", *quiet, f"run_dir={run_dir}", f"data_dir={data_dir}")
    fit_and_test(cfg)
    data: Any = build_data(cfg, transform=plain(cfg.transform), image_size=64)
    return load(run_dir, data)


def read_split(store: PackedStore, split: Split) -> tuple[Images, NDArray[np.int64]]:
    """Return the images (N, S, S, 3) and the class indices (N,) of a split."""
    rows = store.rows(split)
    return np.stack([store.image(row) for row in rows]), store.labels[rows].astype(np.int64)


def network_accuracy(trained: Trained, images: Images) -> float:
    """Return the network's accuracy on images of the test split, in its order."""
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found = [trained.model(part.float() / 255).logits.argmax(dim=1) for part in inputs.split(100)]
    return float((torch.cat(found).numpy() == trained.store.labels[trained.store.rows("test")]).mean())


def linear_accuracy(store: PackedStore, side: int) -> float:
    """Return the test accuracy of logistic regression on pixels, its regularization chosen on validation."""
    scaler = StandardScaler()
    inputs, labels = {}, {}
    for split in ("train", "val", "test"):
        images, labels[split] = read_split(store, split)
        small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).ravel() for image in images]
        flat = np.array(small, dtype=np.float32)
        inputs[split] = scaler.fit_transform(flat) if split == "train" else scaler.transform(flat)
    models = [
        LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(inputs["train"], labels["train"])
        for c in (1e-4, 1e-3, 1e-2, 1e-1)
    ]
    best = max(models, key=lambda model: model.score(inputs["val"], labels["val"]))
    return float(best.score(inputs["test"], labels["test"]))


def feature_mask(landmarks: NDArray[np.float32], size: int) -> Mask:
    """Return the boxes around brows, eyes and mouth, (S, S)."""
    mask = np.zeros((size, size), bool)
    for feature in FEATURES:
        low = np.clip(np.floor(landmarks[feature].min(axis=0)) - MARGIN, 0, size).astype(int)
        high = np.clip(np.ceil(landmarks[feature].max(axis=0)) + MARGIN + 1, 0, size).astype(int)
        mask[low[1] : high[1], low[0] : high[0]] = True
    return mask


def elsewhere_mask(features: Mask, rng: np.random.Generator) -> Mask:
    """Return as many pixels beside the features, in squares at random places."""
    mask, wanted = np.zeros_like(features), int(features.sum())
    assert wanted <= (~features).sum()
    while (missing := wanted - int(mask.sum())) > 0:
        top, left = rng.integers(1 - BLOCK, len(mask), 2)
        square = np.zeros_like(mask)
        square[max(top, 0) : top + BLOCK, max(left, 0) : left + BLOCK] = True
        mask.flat[np.flatnonzero(square & ~features & ~mask)[:missing]] = True
    return mask


def cover(image: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """Paint some pixels in the image's mean color."""
    covered = image.copy()
    covered[mask] = image.mean(axis=(0, 1)).round().astype(np.uint8)
    return covered


def covered_accuracies(trained: Trained) -> dict[str, float]:
    """Return the accuracy on whole test images, without their features, and without as much elsewhere."""
    store, rng = trained.store, np.random.default_rng(0)
    images, _ = read_split(store, "test")
    assert store.landmarks is not None
    features = [feature_mask(store.landmarks[row], images.shape[1]) for row in store.rows("test")]
    elsewhere = [elsewhere_mask(mask, rng) for mask in features]
    return {
        "whole": network_accuracy(trained, images),
        "features": network_accuracy(trained, np.stack([cover(*pair) for pair in zip(images, features, strict=True)])),
        "elsewhere": network_accuracy(
            trained, np.stack([cover(*pair) for pair in zip(images, elsewhere, strict=True)])
        ),
        "fraction": float(np.mean(features)),
    }


def test_covers_have_the_same_area() -> None:
    landmarks = np.random.default_rng(0).uniform(15, 50, (68, 2)).astype(np.float32)
    landmarks[48:] = landmarks[48:] * 0.3 + 40
    landmarks[17:48] = landmarks[17:48] * 0.3
    features = feature_mask(landmarks, 64)
    elsewhere = elsewhere_mask(features, np.random.default_rng(0))
    assert features.sum() == elsewhere.sum() > 0
    assert not (features & elsewhere).any()


@pytest.mark.slow
def test_a_linear_classifier_reaches_at_most_60_percent_of_the_network(trained: Trained) -> None:
    whole = network_accuracy(trained, read_split(trained.store, "test")[0])
    assert max(linear_accuracy(trained.store, side) for side in (16, 32, 64)) <= 0.6 * whole


@pytest.mark.slow
def test_brows_eyes_and_mouth_matter_three_times_as_much_as_the_rest(trained: Trained) -> None:
    accuracy = covered_accuracies(trained)
    assert accuracy["whole"] - accuracy["features"] >= 3 * (accuracy["whole"] - accuracy["elsewhere"])
