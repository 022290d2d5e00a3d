"""Classification metrics of stacks of confusion matrices, and bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

N_RESAMPLES = 2000
LEVEL = 0.95


def bootstrap_intervals(labels: Ints, predictions: Ints, n_classes: int) -> dict[str, list[float]]:
    """Return 95 % percentile bootstrap intervals (Efron and Tibshirani, 1993, chapter 13).

    Images are resampled; because these metrics depend on the confusion matrix alone, each resample is drawn as a
    multinomial over its cells, which is the same distribution.

    Args:
        labels: Class indices (N,).
        predictions: Class indices (N,).
        n_classes: Number of classes.

    Returns:
        `[low, high]` by metric name: accuracy, balanced_accuracy, f1_macro, f1_weighted.
    """
    n = len(labels)
    cells = confusion_matrices(labels, [predictions], n_classes).ravel()
    rng = np.random.default_rng(0)
    resamples = rng.multinomial(n, cells / n, size=N_RESAMPLES).reshape(-1, n_classes, n_classes).astype(np.float64)
    return {name: interval(metric(resamples)) for name, metric in METRICS.items()}


def mean_interval(values: Array) -> list[float]:
    """Return the 95 % percentile bootstrap interval of the mean of values, (N,)."""
    rng = np.random.default_rng(0)
    return interval(rng.choice(values, (N_RESAMPLES, len(values))).mean(axis=1))


def interval(values: Array) -> list[float]:
    """Return the 95 % percentile interval of resampled values, (n_resamples,)."""
    tail = (1 - LEVEL) / 2
    return [float(value) for value in np.quantile(values, (tail, 1 - tail))]


def confusion_matrices(labels: Ints, predictions: ArrayLike, n_classes: int) -> Array:
    """Return the confusion matrices of M models, (M, n_classes, n_classes), rows = labels.

    Args:
        labels: Class indices, (N,).
        predictions: Class indices, (M, N).
        n_classes: Number of classes.
    """
    each = np.asarray(predictions)
    cells = np.arange(len(each))[:, None] * n_classes**2 + labels * n_classes + each
    counts = np.bincount(cells.ravel(), minlength=len(each) * n_classes**2)
    return counts.reshape(-1, n_classes, n_classes).astype(np.float64)


def label_fractions(confusion: ArrayLike) -> Array:
    """Return confusion matrices (..., n_classes, n_classes) as fractions of each label; 0 for one without images."""
    counts = np.asarray(confusion, dtype=np.float64)
    return np.asarray(counts / np.maximum(counts.sum(-1, keepdims=True), 1))


def accuracy(confusion: Array) -> Array:
    """Return the fraction correct of confusion matrices (..., n_classes, n_classes), rows = labels."""
    return np.asarray(_correct(confusion).sum(-1) / confusion.sum((-2, -1)))


def balanced_accuracy(confusion: Array) -> Array:
    """Return the mean recall over the classes with images."""
    support = confusion.sum(-1)
    return _mean(_ratio(_correct(confusion), support), support > 0)


def f1_macro(confusion: Array) -> Array:
    """Return the mean F1 over the classes present in labels or predictions."""
    return _mean(class_f1(confusion), _total(confusion) > 0)


def f1_weighted(confusion: Array) -> Array:
    """Return the mean F1 weighted by the number of images of each class."""
    support = confusion.sum(-1)
    return np.asarray((class_f1(confusion) * support).sum(-1) / support.sum(-1))


def class_f1(confusion: Array) -> Array:
    """Return the F1 of each class, (..., n_classes); 0 for one that is neither labeled nor predicted."""
    return _ratio(2 * _correct(confusion), _total(confusion))


METRICS: dict[str, Callable[[Array], Array]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
}


def _correct(confusion: Array) -> Array:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _total(confusion: Array) -> Array:
    return np.asarray(confusion.sum(-1) + confusion.sum(-2))


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _mean(values: Array, where: NDArray[np.bool_]) -> Array:
    return np.asarray(np.mean(values, axis=-1, where=where))
