"""Tests of the confidence intervals against scikit-learn and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from src.metrics.intervals import METRICS, bootstrap_intervals, class_f1, confusion_matrices, label_fractions

N_CLASSES = 4


def sample(n: int, accuracy: float = 0.7) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and predictions; class 3 is never a label, and rarely predicted."""
    rng = np.random.default_rng(1)
    labels = rng.choice(3, size=n, p=[0.6, 0.3, 0.1])
    return labels, np.where(rng.random(n) < accuracy, labels, rng.integers(N_CLASSES, size=n))


def expected_values(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> dict[str, float]:
    return {
        "accuracy": sk.accuracy_score(labels, predictions),
        "balanced_accuracy": sk.recall_score(labels, predictions, labels=np.unique(labels), average="macro"),
        "f1_macro": sk.f1_score(labels, predictions, average="macro", zero_division=0),
        "f1_weighted": sk.f1_score(labels, predictions, average="weighted", zero_division=0),
    }


@pytest.mark.parametrize("predicted", [range(N_CLASSES), range(3), [0, 3]])
def test_metrics_of_a_confusion_matrix_equal_scikit_learn(predicted: range | list[int]) -> None:
    labels, predictions = sample(50)
    predictions = np.array(predicted)[predictions % len(predicted)]
    other = np.roll(predictions, 1)
    confusions = confusion_matrices(labels, [predictions, other], N_CLASSES)
    for confusion, each in zip(confusions, (predictions, other), strict=True):
        assert (confusion == sk.confusion_matrix(labels, each, labels=range(N_CLASSES))).all()
        actual = {name: float(metric(confusion)) for name, metric in METRICS.items()}
        assert actual == pytest.approx(expected_values(labels, each))
        per_class = sk.f1_score(labels, each, labels=range(N_CLASSES), average=None, zero_division=0)
        assert class_f1(confusion) == pytest.approx(per_class)


def test_metrics_take_stacks_of_matrices() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, size=(5, N_CLASSES, N_CLASSES)).astype(float)
    for metric in METRICS.values():
        assert metric(matrices) == pytest.approx(np.stack([metric(matrix) for matrix in matrices]))


def test_fractions_of_a_label_without_images_are_zero() -> None:
    assert label_fractions([[3, 1], [0, 0]]).tolist() == [[0.75, 0.25], [0, 0]]


def test_accuracy_interval_is_close_to_wilsons() -> None:
    n = 1000
    labels, predictions = sample(n)
    p, z = np.mean(labels == predictions), 1.959964
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    interval = bootstrap_intervals(labels, predictions, N_CLASSES)["accuracy"]
    assert interval == pytest.approx([center - half, center + half], abs=0.004)


def test_intervals_equal_a_resampling_of_the_images() -> None:
    labels, predictions = sample(300)
    rng = np.random.default_rng(2)
    matrices = []
    for _ in range(2000):
        rows = rng.integers(len(labels), size=len(labels))
        matrices.append(np.bincount(labels[rows] * N_CLASSES + predictions[rows], minlength=N_CLASSES**2))
    confusion = np.array(matrices, dtype=float).reshape(-1, N_CLASSES, N_CLASSES)
    for name, interval in bootstrap_intervals(labels, predictions, N_CLASSES).items():
        plain = np.quantile(METRICS[name](confusion), (0.025, 0.975))
        assert interval == pytest.approx(plain, abs=0.1 * np.ptp(plain)), name


@pytest.mark.parametrize("n", [1, 10, 500])
def test_intervals_hold_the_value(n: int) -> None:
    labels, predictions = sample(n)
    points = expected_values(labels, predictions)
    intervals = bootstrap_intervals(labels, predictions, N_CLASSES)
    assert intervals.keys() == points.keys()
    for name, (low, high) in intervals.items():
        assert 0 <= low <= points[name] <= high <= 1


def test_intervals_narrow_with_more_images() -> None:
    few, many = (np.ptp(bootstrap_intervals(*sample(n), N_CLASSES)["f1_macro"]) for n in (100, 10_000))
    assert many < few / 5


def test_intervals_are_deterministic() -> None:
    labels, predictions = sample(200)
    first = bootstrap_intervals(labels, predictions, N_CLASSES)
    np.random.seed(99)
    assert bootstrap_intervals(labels, predictions, N_CLASSES) == first


def test_perfect_predictions_have_no_spread() -> None:
    labels, _ = sample(100)
    assert bootstrap_intervals(labels, labels, N_CLASSES)["accuracy"] == [1, 1]
