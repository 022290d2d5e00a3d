"""Which images are explained, and what the model says about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import Split
from src.explanation.adapter import explainable
from src.models.classifier import ExpressionClassifier
from src.models.prediction import Prediction

AT_ONCE = 64


@dataclass(frozen=True)
class Predictions:
    """What a model says about N images of a split.

    Attributes:
        class_names: The model's classes.
        indices: Which images of the split, (N,).
        labels: Class indices, (N,).
        probabilities: (N, n_classes).
    """

    class_names: tuple[str, ...]
    indices: Tensor
    labels: Tensor
    probabilities: Tensor

    @property
    def classes(self) -> Tensor:
        """Class indices of the largest probabilities, (N,)."""
        return self.probabilities.argmax(dim=1)

    def select(self, chosen: Tensor, n: int) -> list[int]:
        """Return the indices of up to `n` of the chosen images, in turn of every label, sorted by label.

        Args:
            chosen: Whether an image may be taken, (N,).
            n: How many.
        """
        seen: dict[int, int] = {}
        places: list[tuple[int, int, int]] = []
        for index, label in zip(self.indices[chosen].tolist(), self.labels[chosen].tolist(), strict=True):
            places.append((seen.get(label, 0), label, index))
            seen[label] = seen.get(label, 0) + 1
        return [index for _, _, index in sorted(sorted(places)[:n], key=lambda place: place[1])]

    def most_confused_pair(self) -> tuple[int, int] | None:
        """Return the two classes most often taken for each other, the label of most of these mistakes first."""
        n = len(self.class_names)
        counts = multiclass_confusion_matrix(self.classes, self.labels, n).fill_diagonal_(0)
        if not bool(counts.any()):
            return None
        first, second = divmod(int((counts + counts.T).argmax()), n)
        return (first, second) if counts[first, second] >= counts[second, first] else (second, first)


@dataclass(frozen=True)
class Images(Predictions):
    """N images, and what a model says about them.

    Attributes:
        ids: Names of the images, (N,).
        images: RGB in [0, 1], (N, 3, S, S).
        landmarks: Points (x, y) in pixels, (N, 68, 2), or None where they are no trained output.
    """

    ids: list[str]
    images: Tensor
    landmarks: Tensor | None


def first_of_each_class(data: StoreDataModule, split: Split) -> list[int]:
    """Return the index, within a split, of the first image of each class: the same in every run on the data."""
    labels = data.split_rows(split)[1]
    return [int(index) for index in np.unique(labels, return_index=True)[1]]


def random_indices(data: StoreDataModule, split: Split, n: int, seed: int) -> list[int]:
    """Return the indices, within a split, of up to `n` images chosen at random, in random order."""
    return [int(i) for i in np.random.default_rng(seed).permutation(len(data.split_rows(split)[0]))[:n]]


def predict_split(
    model: ExpressionClassifier, data: StoreDataModule, split: Split, indices: Sequence[int]
) -> Predictions:
    """Predict images of a split, without keeping them; see `read_images`."""
    probabilities = [model.probabilities(prediction).cpu() for _, prediction in _predict(model, data, split, indices)]
    labels = torch.from_numpy(data.split_rows(split)[1][list(indices)])
    return Predictions(model.spec.class_names, torch.tensor(indices), labels, torch.cat(probabilities))


def read_images(model: ExpressionClassifier, data: StoreDataModule, split: Split, indices: Sequence[int]) -> Images:
    """Read images of a split, unaugmented, and predict them, whatever the model's mode.

    Args:
        model: The model.
        data: The data, serving the model's classes.
        split: Split of the images.
        indices: Which images of the split, 1 or more.
    """
    images, predictions = zip(*_predict(model, data, split, indices), strict=True)
    rows, labels, _ = data.split_rows(split)
    landmarks = [p.landmarks.cpu() for p in predictions if p.landmarks is not None]
    return Images(
        class_names=model.spec.class_names,
        indices=torch.tensor(indices),
        labels=torch.from_numpy(labels[list(indices)]),
        probabilities=torch.cat([model.probabilities(p).cpu() for p in predictions]),
        ids=[str(data.store.ids[row]) for row in rows[list(indices)]],
        images=torch.cat(images),
        landmarks=torch.cat(landmarks) if landmarks else None,
    )


def face_points(data: StoreDataModule, split: Split, images: Images) -> Tensor | None:
    """Return the landmarks of images, (N, 68, 2): those of the data, or else those that the model finds.

    Args:
        data: The data.
        split: Split of the images.
        images: The images.

    Returns:
        Points in pixels, NaN for an image without any; None if neither has landmarks.
    """
    known = data.plain_images(data.split_rows(split)[0][images.indices.numpy()]).get("landmarks")
    if known is None or images.landmarks is None:
        return images.landmarks if known is None else known
    return torch.where(known.isnan(), images.landmarks, known)


def _predict(
    model: ExpressionClassifier, data: StoreDataModule, split: Split, indices: Sequence[int]
) -> Iterator[tuple[Tensor, Prediction]]:
    """Yield images and predictions, some at once."""
    rows = data.split_rows(split)[0][list(indices)]
    device = next(model.parameters()).device
    for start in range(0, len(rows), AT_ONCE):
        images = data.plain_images(rows[start : start + AT_ONCE])["image"]
        with explainable(model), torch.no_grad():
            prediction = model(images.to(device), landmarks=True)
        yield images, prediction
