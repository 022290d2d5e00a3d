"""Small models, and the data to train them for a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader

from src.models.arguments import defaults_of
from src.models.classifier import ExpressionClassifier
from src.models.losses import CrossEntropy, MultiTaskLoss
from src.models.registry import head_class
from src.models.schedules import constant
from src.models.spec import ModelSpec

CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")

MakeSpec = Callable[..., ModelSpec]
MakeClassifier = Callable[..., ExpressionClassifier]


@pytest.fixture
def make_spec() -> MakeSpec:
    """Return a function that describes a small model; `head` and `backbone` change some of their keys."""

    def make(head: dict[str, Any] | None = None, backbone: dict[str, Any] | None = None, **fields: Any) -> ModelSpec:
        values: dict[str, Any] = {
            "class_names": CLASSES,
            "image_size": 64,
            "grayscale": True,
            "crop": "as the data set gives it",
            "outputs": ("expression",),
            "trained_on": "test-0123",
            "precision": "32-true",
        }
        named = {"name": "linear", "tap": "fused", "valence_arousal": False, **(head or {})}
        return ModelSpec(
            backbone={"name": "emonet_tiny", "width": 16, "n_hourglass": 1, "n_blocks": 4, **(backbone or {})},
            head={**defaults_of(head_class(named["name"])), **named},
            **{**values, **fields},
        )

    return make


@pytest.fixture
def make_classifier(make_spec: MakeSpec) -> MakeClassifier:
    """Return a function that builds a small model with fresh weights."""

    def make(spec: ModelSpec | None = None, **options: Any) -> ExpressionClassifier:
        spec = spec or make_spec()
        return ExpressionClassifier(spec, spec.build_backbone(), spec.build_head(), **options)

    return make


class FewImages(LightningDataModule):
    """Four batches of two random images, of all classes but the last."""

    def __init__(self) -> None:
        super().__init__()
        self.images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        self.labels = torch.arange(8) % (len(CLASSES) - 1)

    def steps_per_epoch(self) -> int:
        """Return the number of batches."""
        return 4

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches."""
        pairs = zip(self.images.split(2), self.labels.split(2), strict=True)
        batches = [{"image": image, "label": label, "row": torch.arange(2)} for image, label in pairs]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list is a data set

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the same batches."""
        return self.train_dataloader()


@pytest.fixture
def fit(tmp_path: Path, make_classifier: MakeClassifier) -> Callable[..., Trainer]:
    """Return a function that trains a small model on `FewImages` and returns the trainer."""

    def run(*, epochs: int, scheduler: Any = constant, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
        loss = MultiTaskLoss(CrossEntropy(class_counts=[1] * len(CLASSES)))
        options = {"optimizer": partial(torch.optim.SGD, lr=0.1), "loss": loss, **options}
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(make_classifier(scheduler=scheduler, **options), datamodule=FewImages())
        return trainer

    return run
