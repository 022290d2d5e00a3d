"""How far confidence and hit rate are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.metrics.classification import ECE_BINS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Bins of equal width in confidence that hold a picture, (M,) each.

    Attributes:
        confidence: Mean confidence.
        accuracy: Share of hits.
        count: Number of pictures.
    """

    confidence: Floats
    accuracy: Floats
    count: Floats


def reliability_curve(confidence: Floats, correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> ReliabilityCurve:
    """Return a reliability curve (Guo et al., ICML 2017).

    Args:
        confidence: Probability of the predicted class, (N,).
        correct: Whether the prediction is right, (N,).
        n_bins: Number of bins of equal width over [0, 1].
    """
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins).astype(np.float64)
    kept = count > 0
    mean = np.bincount(bins, weights=confidence, minlength=n_bins)[kept] / count[kept]
    hits = np.bincount(bins, weights=correct.astype(np.float64), minlength=n_bins)[kept] / count[kept]
    return ReliabilityCurve(mean, hits, count[kept])


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], n_bins: int = ECE_BINS) -> float:
    """Return the mean distance of confidence and hit rate over bins, weighted by their pictures."""
    curve = reliability_curve(confidence, correct, n_bins)
    return float(np.abs(curve.confidence - curve.accuracy) @ curve.count / curve.count.sum())
