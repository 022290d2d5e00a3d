"""Tests of differences between models that saw the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.metrics.intervals import LEVEL, METRICS, N_RESAMPLES

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]

# With more discordant images than this, the chi-squared approximation is used: it then agrees to three digits.
EXACT_UP_TO = 1000


class Difference(NamedTuple):
    """A difference of a metric and its interval.

    Attributes:
        value: First minus second.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def mcnemar(correct_a: Bools, correct_b: Bools) -> float:
    """Return McNemar's two-sided p of the same accuracy on the same images (McNemar, Psychometrika, 1947).

    Only images count that one model gets right and the other does not. The p is exact (binomial) up to 1,000 of them,
    and chi-squared with Edwards' continuity correction beyond.

    Args:
        correct_a: Whether the first model is right, (N,).
        correct_b: Whether the second model is right, (N,), for the same images in the same order.

    Returns:
        p in (0, 1]; 1 if the models are right on the same images.

    Raises:
        ValueError: If the lengths differ.
    """
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"correct_a {correct_a.shape} and correct_b {correct_b.shape} are not of the same images.")
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    n, smaller = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    if n > EXACT_UP_TO:
        statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / n
        return math.erfc(math.sqrt(statistic / 2))
    tail = sum(math.comb(n, k) for k in range(smaller + 1))
    return float(min(1.0, 2 * tail / 2**n))


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Return p-values adjusted for their number (Holm, Scandinavian Journal of Statistics, 1979).

    Args:
        p_values: (M,), in any order.

    Returns:
        Adjusted values, (M,), in the same order, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def bootstrap_scores(
    labels: Ints,
    predictions: Sequence[Ints],
    n_classes: int,
    metric: Metric,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Floats:
    """Return a metric of several models on the same resamples of the same images.

    Args:
        labels: Class indices, (N,).
        predictions: Class indices of each model, M times (N,).
        n_classes: Number of classes.
        metric: One of `src.metrics.intervals.METRICS`: from confusion matrices (..., n_classes, n_classes) to (...).
        n_resamples: Number of resamples.
        seed: Seed of the resamples: equal seeds make columns of different calls comparable.

    Returns:
        (n_resamples, M).
    """
    cells = np.stack([labels * n_classes + each for each in predictions])
    confusion = np.empty((n_resamples, len(cells), n_classes**2))
    for i, rows in enumerate(_resamples(len(labels), n_resamples, seed)):
        for j, own in enumerate(cells):
            confusion[i, j] = np.bincount(own[rows], minlength=n_classes**2)
    return metric(confusion.reshape(n_resamples, len(cells), n_classes, n_classes))


def bootstrap_difference(
    labels: Ints,
    predictions_a: Ints | Sequence[Ints],
    predictions_b: Ints | Sequence[Ints],
    n_classes: int,
    metric: str | Metric = "accuracy",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Return how much better the first model is, with its 95 % percentile bootstrap interval over images.

    Each resample is of images, the same ones for both models, so that what is hard for both cancels out. Several
    predictions (one per seed) of a model are averaged in the metric; the interval is then about the images, for these
    seeds.

    Args:
        labels: Class indices, (N,).
        predictions_a: Class indices of the first model, (N,), or one such array per seed.
        predictions_b: The second one's.
        n_classes: Number of classes.
        metric: Name in `src.metrics.intervals.METRICS`, or a function of confusion matrices.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        First minus second.
    """
    function = METRICS[metric] if isinstance(metric, str) else metric
    a, b = _as_list(predictions_a), _as_list(predictions_b)
    resampled = bootstrap_scores(labels, [*a, *b], n_classes, function, n_resamples, seed)
    observed = score(labels, a, n_classes, function) - score(labels, b, n_classes, function)
    low, high = interval(resampled[:, : len(a)].mean(axis=1) - resampled[:, len(a) :].mean(axis=1))
    return Difference(observed, low, high)


def score(labels: Ints, predictions: Sequence[Ints], n_classes: int, metric: Metric) -> float:
    """Return the mean of a metric over the predictions of several seeds, each (N,)."""
    cells = [np.bincount(labels * n_classes + each, minlength=n_classes**2).astype(np.float64) for each in predictions]
    return float(metric(np.stack(cells).reshape(-1, n_classes, n_classes)).mean())


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled values (n_resamples,)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def _as_list(predictions: Ints | Sequence[Ints]) -> list[Ints]:
    return [predictions] if isinstance(predictions, np.ndarray) else list(predictions)


def _resamples(n: int, n_resamples: int, seed: int) -> Iterator[Ints]:
    rng = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield rng.integers(n, size=n)
