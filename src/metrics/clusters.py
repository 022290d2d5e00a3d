"""Numbers about images that come in clusters, such as the frames of clips: intervals that know it, and means.

The frames of a clip are much alike: n of them tell less than n images, and intervals over images would be too narrow.
These resample whole clusters (Field and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society
B 69, 2007). All metrics here depend on sums over images, so that a resample is a weighted sum of those of the clusters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.metrics.intervals import METRICS, N_RESAMPLES, Array, Ints, interval

# At once, which bounds the memory that the weights of many clusters take.
RESAMPLES = 50


def cluster_intervals(labels: Ints, predictions: Ints, clusters: Ints, n_classes: int) -> dict[str, list[float]]:
    """Return 95 % percentile intervals of the metrics of images, from a bootstrap over clusters.

    Args:
        labels: Class indices, (N,).
        predictions: Class indices, (N,).
        clusters: Number of the cluster of each image, from 0 up, (N,).
        n_classes: Number of classes.

    Returns:
        `[low, high]` by metric name, as `src.metrics.intervals.bootstrap_intervals`.
    """
    n_clusters, n_cells = int(clusters.max()) + 1, n_classes**2
    cells = (clusters * n_classes + labels) * n_classes + predictions
    counts = np.bincount(cells, minlength=n_clusters * n_cells).reshape(n_clusters, n_cells).astype(np.float64)
    resamples = _resampled(counts).reshape(-1, n_classes, n_classes)
    return {name: interval(metric(resamples)) for name, metric in METRICS.items()}


def agreement_intervals(prediction: Array, target: Array, clusters: Ints) -> dict[str, list[float]]:
    """Return 95 % percentile intervals of `src.metrics.affect.agreement`, from a bootstrap over clusters.

    Args:
        prediction: (N,); clipped to [-1, 1].
        target: In [-1, 1], (N,).
        clusters: Number of the cluster of each image, from 0 up, (N,).

    Returns:
        `[low, high]` by name: `ccc`, `pcc`, `rmse` and `sagr`. Resamples without a correlation do not count for the
        first two, which are absent if there are no others.
    """
    p, t = np.clip(prediction, -1, 1).astype(np.float64), target.astype(np.float64)
    terms = (np.ones_like(p), p, t, p * p, t * t, p * t, (p - t) ** 2, np.sign(p) == np.sign(t))
    sums = np.stack([np.bincount(clusters, weights=term) for term in terms], axis=1)
    n, *others = _resampled(sums).T
    mean_p, mean_t, squared_p, squared_t, product, error, same_sign = (total / n for total in others)
    variance_p, variance_t = squared_p - mean_p**2, squared_t - mean_t**2
    covariance = product - mean_p * mean_t
    varied = (variance_p > 1e-12) & (variance_t > 1e-12)
    values = {"rmse": np.sqrt(error), "sagr": same_sign}
    if varied.any():
        spread = variance_p + variance_t + (mean_p - mean_t) ** 2
        values["ccc"] = (2 * covariance / np.where(varied, spread, 1))[varied]
        values["pcc"] = (covariance / np.sqrt(np.where(varied, variance_p * variance_t, 1)))[varied]
    return {name: interval(value) for name, value in values.items()}


def cluster_means(values: Array, clusters: Ints) -> Array:
    """Return the means of values (N, D) over the K clusters, (K, D)."""
    sums = np.zeros((int(clusters.max()) + 1, values.shape[1]))
    np.add.at(sums, clusters, values)
    return np.asarray(sums / np.bincount(clusters)[:, None])


def cluster_labels(labels: Ints, clusters: Ints) -> Ints | None:
    """Return the class index of each of the K clusters, (K,), or None if one holds images of several classes."""
    first = np.unique(clusters, return_index=True)[1]
    each: Ints = labels[first]
    return each if bool((each[clusters] == labels).all()) else None


def _resampled(sums: NDArray[Any]) -> Array:
    """Return the sums (K, S) of K clusters over resamples of clusters, (n_resamples, S)."""
    rng = np.random.default_rng(0)
    n = len(sums)
    parts = (rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) @ sums for _ in range(N_RESAMPLES // RESAMPLES))
    return np.concatenate(list(parts))


def numbered(names: NDArray[np.str_] | Ints) -> Ints:
    """Return a number from 0 up for each of the names or numbers (N,), equal for equal ones."""
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
