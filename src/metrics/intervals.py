"""Bootstrap confidence intervals of classification metrics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_RESAMPLES = 2000
LEVEL = 0.95


def bootstrap_intervals(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], n_classes: int
) -> dict[str, list[float]]:
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
    cells = np.bincount(labels * n_classes + predictions, minlength=n_classes**2)
    rng = np.random.default_rng(0)
    resamples = rng.multinomial(n, cells / n, size=N_RESAMPLES).reshape(-1, n_classes, n_classes).astype(np.float64)
    tail = (1 - LEVEL) / 2
    return {
        name: [float(value) for value in np.quantile(metric(resamples), (tail, 1 - tail))]
        for name, metric in METRICS.items()
    }


def mean_interval(values: Array) -> list[float]:
    """Return the 95 % percentile bootstrap interval of the mean of values, (N,)."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (N_RESAMPLES, len(values))).mean(axis=1)
    tail = (1 - LEVEL) / 2
    return [float(value) for value in np.quantile(means, (tail, 1 - tail))]


def accuracy(confusion: Array) -> Array:
    """Return the fraction correct of confusion matrices (..., n_classes, n_classes), rows = labels."""
    return np.asarray(_hits(confusion).sum(-1) / confusion.sum((-2, -1)))


def balanced_accuracy(confusion: Array) -> Array:
    """Return the mean recall over the classes with images."""
    support = confusion.sum(-1)
    return _mean(_ratio(_hits(confusion), support), support > 0)


def f1_macro(confusion: Array) -> Array:
    """Return the mean F1 over the classes present in labels or predictions."""
    f1, present = _f1(confusion)
    return _mean(f1, present)


def f1_weighted(confusion: Array) -> Array:
    """Return the mean F1 weighted by the number of images of each class."""
    f1, _ = _f1(confusion)
    support = confusion.sum(-1)
    return np.asarray((f1 * support).sum(-1) / support.sum(-1))


METRICS: dict[str, Callable[[Array], Array]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
}


def _hits(confusion: Array) -> Array:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _f1(confusion: Array) -> tuple[Array, NDArray[np.bool_]]:
    total = confusion.sum(-1) + confusion.sum(-2)
    return _ratio(2 * _hits(confusion), total), total > 0


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _mean(values: Array, where: NDArray[np.bool_]) -> Array:
    return np.asarray(np.mean(values, axis=-1, where=where))
