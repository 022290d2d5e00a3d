"""The trained model and 64 synthetic faces that it has not seen, with their true landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.datamodule import StoreDataModule
from src.engine.build import build_data
from src.explanation.images import Images, read_images
from src.models.classifier import ExpressionClassifier
from src.models.weights import build_from_weights, load_weights
from src.runs.layout import find_checkpoint
from tests.helpers.running import compose_config

DATA = ["data.n_train=1200", "data.n_val=140", "data.n_test=64"]


@pytest.fixture(scope="session")
def synthetic_model(synthetic_run: Path) -> ExpressionClassifier:
    """The trained model; tests leave it as it is."""
    return build_from_weights(load_weights(find_checkpoint(str(synthetic_run)))).eval()


@pytest.fixture(scope="session")
def synthetic_data(synthetic_run: Path, data_dir: Path) -> StoreDataModule:
    """The faces that it was trained on, validated with, and has not seen."""
    cfg = compose_config("eval", "data=synthetic", *DATA, f"data_dir={data_dir}", f"run_dir={synthetic_run}")
    data = build_data(cfg, transform=None, image_size=64, grayscale=False)
    data.setup()
    return data


@dataclass(frozen=True)
class Faces:
    """What is known of 64 test faces.

    Attributes:
        images: The faces, and what the model says about them.
        landmarks: True landmarks in pixels, (64, 68, 2).
    """

    images: Images
    landmarks: Tensor


@pytest.fixture(scope="session")
def faces(synthetic_model: ExpressionClassifier, synthetic_data: StoreDataModule) -> Faces:
    """The 64 test faces."""
    images = read_images(synthetic_model, synthetic_data, "test", list(range(64)))
    batch = next(iter(synthetic_data.test_dataloader()))
    assert torch.equal(batch["label"], images.labels)
    return Faces(images, batch["landmarks"])
