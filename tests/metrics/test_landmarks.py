"""Tests of the landmark error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src.data.transforms import MIRROR
from src.metrics.landmarks import REGIONS, LandmarkError, normalized_distances


def test_error_is_the_mean_distance_over_that_of_the_eye_corners() -> None:
    rng = np.random.default_rng(0)
    predicted, target = rng.uniform(0, 64, (2, 5, 68, 2))
    expected = [
        np.linalg.norm(p - t, axis=1) / np.linalg.norm(t[36] - t[45]) for p, t in zip(predicted, target, strict=True)
    ]
    distances = normalized_distances(torch.from_numpy(predicted), torch.from_numpy(target))
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_epoch_error_is_that_of_all_images_whatever_the_batches() -> None:
    predicted, target = torch.rand(7, 68, 2), torch.rand(7, 68, 2)
    metric = LandmarkError()
    for part in ([0], [1, 2, 3, 4], [5, 6]):
        metric.update(predicted[part], target[part])
    distances, values = normalized_distances(predicted, target), metric.compute()
    assert values["landmarks_nme"].item() == pytest.approx(distances.mean().item(), rel=1e-5)
    for region, points in REGIONS.items():
        expected = np.median(distances[:, list(points)].mean(dim=1))
        assert values[f"landmarks_median/{region}"].item() == pytest.approx(expected, rel=1e-5)


def test_regions_are_those_of_the_mirror() -> None:
    """No point of a region is another one's when the face is mirrored; all but `inner` are the whole face."""
    for points in REGIONS.values():
        assert set(MIRROR[list(points)]) == set(points)
    parts = [set(points) for name, points in REGIONS.items() if name != "inner"]
    assert sorted(point for part in parts for point in part) == list(range(68))
    assert set(REGIONS["inner"]) | set(REGIONS["jaw"]) == set(range(68))


def test_what_is_not_annotated_does_not_count() -> None:
    predicted, target = torch.rand(3, 68, 2), torch.rand(3, 68, 2)
    expected = (predicted[0] - target[0]).norm(dim=1)[[*range(10), *range(11, 68)]].mean()
    expected = expected / (target[0, 36] - target[0, 45]).norm()
    target[0, 10], target[1], target[2, 45] = torch.nan, torch.nan, torch.nan
    metric = LandmarkError()
    metric.update(predicted, target)
    torch.testing.assert_close(metric.compute()["landmarks_nme"], expected)
    metric.reset()
    metric.update(predicted, torch.full_like(target, torch.nan))
    assert metric.compute() == {}
