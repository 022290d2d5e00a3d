"""Tests of the intervals over clusters against a plain resampling of whole clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src.metrics.affect import agreement
from src.metrics.clusters import (
    agreement_intervals,
    cluster_intervals,
    cluster_labels,
    cluster_means,
    numbered,
)
from src.metrics.intervals import METRICS, bootstrap_intervals, confusion_matrices

N_CLASSES = 3
CLUSTERS = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 9, 30))


def sample():
    """Labels of clusters, and predictions that are right or wrong for whole clusters."""
    rng = np.random.default_rng(1)
    labels = rng.integers(N_CLASSES, size=30)[CLUSTERS]
    return labels, np.where(rng.random(30)[CLUSTERS] < 0.7, labels, (labels + 1) % N_CLASSES)


def resamples(n):
    """Rows of n resamples of whole clusters, the slow way."""
    members = [np.flatnonzero(k == CLUSTERS) for k in range(30)]
    rng = np.random.default_rng(5)
    for _ in range(n):
        yield np.concatenate([members[k] for k in rng.integers(30, size=30)])


def test_intervals_equal_a_resampling_of_clusters():
    labels, predictions = sample()
    matrices = np.concatenate(
        [confusion_matrices(labels[rows], [predictions[rows]], N_CLASSES) for rows in resamples(2000)]
    )
    found = cluster_intervals(labels, predictions, CLUSTERS, N_CLASSES)
    assert found.keys() == METRICS.keys()
    for name, interval in found.items():
        plain = np.quantile(METRICS[name](matrices), (0.025, 0.975))
        assert interval == pytest.approx(plain, abs=0.1 * np.ptp(plain)), name


def test_frames_that_agree_tell_less_than_images():
    labels, predictions = sample()
    over_images = np.ptp(bootstrap_intervals(labels, predictions, N_CLASSES)["accuracy"])
    over_clusters = np.ptp(cluster_intervals(labels, predictions, CLUSTERS, N_CLASSES)["accuracy"])
    assert over_clusters > 1.5 * over_images


def test_clusters_of_one_image_are_images():
    labels, predictions = sample()
    alone = cluster_intervals(labels, predictions, np.arange(len(labels)), N_CLASSES)
    for name, interval in bootstrap_intervals(labels, predictions, N_CLASSES).items():
        assert alone[name] == pytest.approx(interval, abs=0.02)


def test_agreement_intervals_equal_a_resampling_of_clusters():
    rng = np.random.default_rng(2)
    target = np.clip(rng.normal(0, 0.4, 30)[CLUSTERS] + rng.normal(0, 0.1, len(CLUSTERS)), -1, 1)
    prediction = 0.6 * target + rng.normal(0, 0.2, 30)[CLUSTERS]
    prediction[0] = 1.7  # is clipped
    values = [
        {k: float(v) for k, v in agreement(torch.tensor(prediction[rows]), torch.tensor(target[rows])).items()}
        for rows in resamples(800)
    ]
    for name, interval in agreement_intervals(prediction, target, CLUSTERS).items():
        plain = np.quantile([value[name] for value in values], (0.025, 0.975))
        assert interval == pytest.approx(plain, abs=0.15 * np.ptp(plain)), name


def test_without_a_correlation_there_is_no_interval_of_it():
    found = agreement_intervals(np.full(4, 0.5), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]))
    assert found.keys() == {"rmse", "sagr"}


def test_means_and_labels_of_clusters():
    clusters = numbered(np.array(["b", "a", "b"]))
    assert clusters.tolist() == [1, 0, 1]
    assert cluster_means(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), clusters).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    labels = cluster_labels(np.array([2, 0, 2]), clusters)
    assert labels is not None
    assert labels.tolist() == [0, 2]
    assert cluster_labels(np.array([2, 0, 1]), clusters) is None
