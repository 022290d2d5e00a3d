"""Tests of the metrics against scikit-learn, over several batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from src.metrics.classification import ECE_BINS, classification_metrics, evaluate_table, training_metrics

NAMES = ("neutral", "happy", "sad", "surprise", "fear")
# Classes that occur in the labels, and classes that may be predicted.
PRESENCE = {
    "all present": (range(5), range(5)),
    "one absent from the labels": ([0, 1, 2, 3], range(5)),
    "one never predicted": (range(5), [0, 1, 3, 4]),
    "one absent from both": ([0, 1, 3, 4], [0, 1, 3, 4]),
    "one absent from the labels, another from both": ([0, 1], [0, 1, 4]),
}


@pytest.fixture(params=PRESENCE)
def sample(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Return probabilities (60, 5) that favor the right class a little, and labels (60,)."""
    in_labels, in_predictions = PRESENCE[request.param]
    labels = torch.tensor(list(in_labels))[torch.randint(len(in_labels), (60,))]
    logits = torch.full((60, 5), -torch.inf)
    logits[:, list(in_predictions)] = torch.randn(60, len(in_predictions))
    logits[torch.arange(60), labels] += 1
    return logits.softmax(dim=1), labels


def expected_values(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute every metric with scikit-learn; its macro averages take the classes in labels or predictions."""
    predictions = probabilities.argmax(axis=1)
    values = {
        "accuracy": sk.accuracy_score(labels, predictions),
        "kappa": sk.cohen_kappa_score(labels, predictions),
        "balanced_accuracy": mean_recall(labels, predictions),
        "ece": calibration_error(probabilities, labels),
    }
    scores: dict[str, Callable[..., float]] = {
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
    }
    for name, score in scores.items():
        for average in ("macro", "weighted"):
            values[f"{name}_{average}"] = score(labels, predictions, average=average, zero_division=0)
    per_class = sk.f1_score(labels, predictions, labels=range(len(NAMES)), average=None, zero_division=0)
    return values | {f"f1/{name}": value for name, value in zip(NAMES, per_class, strict=True)}


def mean_recall(labels: np.ndarray, predictions: np.ndarray) -> float:
    # balanced_accuracy_score itself warns when a predicted class has no labels.
    return sk.recall_score(labels, predictions, labels=np.unique(labels), average="macro")


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Sum over equal bins of (fraction of images) * |accuracy - mean confidence|; Guo et al., equation 3."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.floor(confidence * ECE_BINS)
    return sum(
        np.mean(bins == b) * abs(correct[bins == b].mean() - confidence[bins == b].mean()) for b in np.unique(bins)
    )


def test_values_equal_scikit_learn_over_batches(sample: tuple[Tensor, Tensor]) -> None:
    collection = classification_metrics(NAMES)
    for probabilities, labels in zip(*(part.split([25, 25, 9, 1]) for part in sample), strict=True):
        collection.update(probabilities, labels)
    actual = {name: value.item() for name, value in collection.compute().items()}
    assert actual == pytest.approx(expected_values(*(part.numpy() for part in sample)), abs=1e-6)


def test_table_equals_scikit_learn(sample: tuple[Tensor, Tensor]) -> None:
    assert evaluate_table(*sample, NAMES) == pytest.approx(
        expected_values(*(part.numpy() for part in sample)), abs=1e-6
    )


def test_balanced_accuracy_is_scikit_learns() -> None:
    labels, predictions = torch.randint(5, (80,)), torch.randint(5, (80,))
    actual = classification_metrics(NAMES)["balanced_accuracy"](predictions, labels)
    assert actual.item() == pytest.approx(sk.balanced_accuracy_score(labels, predictions), abs=1e-6)


def test_reset_forgets(sample: tuple[Tensor, Tensor]) -> None:
    collection = classification_metrics(NAMES)
    collection.update(torch.eye(5), torch.arange(5).roll(1))
    collection.reset()
    collection.update(*sample)
    actual = {name: value.item() for name, value in collection.compute().items()}
    assert actual == pytest.approx(evaluate_table(*sample, NAMES))


def test_clones_carry_their_prefix(sample: tuple[Tensor, Tensor]) -> None:
    values = classification_metrics(NAMES).clone(prefix="val/")(*sample)
    assert {"val/accuracy", "val/f1_macro", "val/ece", "val/f1/neutral", "val/f1/fear"} <= values.keys()
    assert all(name.startswith("val/") for name in values)


def test_training_accuracy() -> None:
    collection = training_metrics(5)
    for predictions, labels in (([0, 1, 2], [0, 1, 1]), ([4], [0])):
        collection.update(torch.eye(5)[predictions], torch.tensor(labels))
    assert collection.compute() == {"accuracy": torch.tensor(0.5)}
