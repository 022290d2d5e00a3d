"""Tests of differences between models that saw the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from src.metrics.intervals import METRICS, N_RESAMPLES, confusion_matrices, interval

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    """Return McNemar's exact two-sided p of the same accuracy on the same images (McNemar, Psychometrika, 1947).

    Only images count that one model gets right and the other does not.

    Args:
        correct_a: Whether the first model is right, (N,).
        correct_b: Whether the second model is right, (N,), for the same images in the same order.

    Returns:
        p in [0, 1]; 1 if the models are right on the same images.

    Raises:
        ValueError: If the lengths differ.
    """
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"correct_a {correct_a.shape} and correct_b {correct_b.shape} are not of the same images.")
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    n = only_a + only_b
    return float(binomtest(only_a, n).pvalue) if n else 1.0


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


def bootstrap_confusions(labels: Ints, predictions: Sequence[Ints], n_classes: int) -> Floats:
    """Return the confusion matrices of several models on the same resamples of the same images.

    The resamples are the same at every call, so that models of different calls can be compared.

    Args:
        labels: Class indices, (N,).
        predictions: Class indices of each model, M times (N,).
        n_classes: Number of classes.

    Returns:
        (2000, M, n_classes, n_classes).
    """
    each, n = np.stack(predictions), len(labels)
    rng = np.random.default_rng(0)
    resamples = (rng.integers(n, size=n) for _ in range(N_RESAMPLES))
    return np.stack([confusion_matrices(labels[rows], each[:, rows], n_classes) for rows in resamples])


def bootstrap_difference(
    labels: Ints, predictions_a: Sequence[Ints], predictions_b: Sequence[Ints], n_classes: int, metric: str
) -> Difference:
    """Return how much better the first model is, with its 95 % percentile bootstrap interval over images.

    Each resample is of images, the same ones for both models, so that what is hard for both cancels out. Several
    predictions (one per seed) of a model are averaged in the metric; the interval is then about the images, for these
    seeds.

    Args:
        labels: Class indices, (N,).
        predictions_a: Class indices of the first model, (N,) per seed.
        predictions_b: The second one's.
        n_classes: Number of classes.
        metric: Name in `src.metrics.intervals.METRICS`.

    Returns:
        First minus second.
    """
    both, split = [*predictions_a, *predictions_b], len(predictions_a)

    def difference(confusions: Floats) -> Floats:
        scores = METRICS[metric](confusions)
        return np.asarray(scores[..., :split].mean(-1) - scores[..., split:].mean(-1))

    observed = float(difference(confusion_matrices(labels, both, n_classes)))
    return Difference(observed, *interval(difference(bootstrap_confusions(labels, both, n_classes))))
