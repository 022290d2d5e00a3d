"""Tests of heat maps: drawing and reading them are inverse, and missing points count for nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models.emonet import EmoNet
from src.models.landmarks import draw_heatmaps, find_landmarks, heatmap_loss, start_heatmaps

SIDE, SIZE = 16, 64


def points(low: float, high: float, n: int = 4) -> torch.Tensor:
    return torch.rand(n, 68, 2) * (high - low) + low


def test_heat_maps_are_gaussians_around_the_points() -> None:
    landmarks = points(-10, SIZE + 10)
    maps = draw_heatmaps(landmarks, SIDE).numpy()
    # Cell c of 16 covers pixels 4 c to 4 c + 3, whose middle is 4 c + 1.5; a standard deviation is a cell.
    y, x = np.mgrid[:SIDE, :SIDE] * 4 + 1.5
    for b, k in ((0, 0), (1, 30), (3, 67)):
        px, py = landmarks[b, k].numpy()
        expected = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 4**2))
        np.testing.assert_allclose(maps[b, k], expected, atol=1e-6)


def test_points_are_found_again_to_a_fraction_of_a_pixel() -> None:
    landmarks = points(6, SIZE - 7)
    torch.testing.assert_close(find_landmarks(draw_heatmaps(landmarks, SIDE)), landmarks, atol=1e-3, rtol=0)


def test_at_the_edge_points_are_found_to_half_a_cell() -> None:
    landmarks = points(-0.5, SIZE - 0.5)
    assert (find_landmarks(draw_heatmaps(landmarks, SIDE)) - landmarks).abs().max() <= 2.001


def test_scale_and_precision_of_the_maps_do_not_matter() -> None:
    landmarks = points(6, SIZE - 7)
    maps = draw_heatmaps(landmarks, SIDE)
    torch.testing.assert_close(find_landmarks(0.1 * maps), landmarks, atol=1e-3, rtol=0)
    found = find_landmarks(maps.bfloat16())
    assert found.dtype == torch.float32
    assert (found - landmarks).abs().max() < 0.2


def test_maps_without_a_peak_give_finite_points() -> None:
    for maps in (torch.zeros(1, 68, SIDE, SIDE), torch.full((1, 68, SIDE, SIDE), -1.0), torch.randn(1, 68, SIDE, SIDE)):
        assert torch.isfinite(find_landmarks(maps)).all()


def test_loss_is_0_for_the_targets_and_1_for_blank_maps() -> None:
    landmarks = points(0, SIZE)
    target = draw_heatmaps(landmarks, SIDE)
    assert heatmap_loss([target, target], landmarks) == 0
    assert heatmap_loss([torch.zeros_like(target)], landmarks).item() == pytest.approx(1)
    maps = torch.randn_like(target)
    expected = F.mse_loss(maps, target) / target.square().mean()
    torch.testing.assert_close(heatmap_loss([target, maps], landmarks), expected / 2)


def test_missing_points_count_for_nothing() -> None:
    landmarks = points(0, SIZE, n=2)
    maps = torch.randn(2, 68, SIDE, SIDE, requires_grad=True)
    partly = landmarks.clone()
    partly[0], partly[1, 5] = torch.nan, torch.nan
    heatmap_loss([maps], partly).backward()
    assert not maps.grad[0].any()
    assert not maps.grad[1, 5].any()
    assert maps.grad[1, 6].any()
    kept = [i for i in range(68) if i != 5]
    alone = (maps[1, kept] - draw_heatmaps(landmarks, SIDE)[1, kept]).square().sum()
    energy = draw_heatmaps(landmarks, SIDE)[1, kept].square().sum()
    torch.testing.assert_close(heatmap_loss([maps], partly), alone / energy)
    nothing = heatmap_loss([maps], torch.full_like(landmarks, torch.nan))
    assert nothing == 0
    nothing.backward()


@pytest.mark.parametrize("n_hourglass", [1, 3])
def test_heat_maps_that_start_landmarks_are_small_and_leave_the_features(n_hourglass: int) -> None:
    model = EmoNet(None, width=32, n_hourglass=n_hourglass).double().eval()
    for i in range(n_hourglass):  # as trainings without landmarks leave them
        nn.init.normal_(model.get_submodule(f"l{i}").weight, std=3)
        nn.init.normal_(model.get_submodule(f"l{i}").bias, std=3)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        before, large = model.fuse(images)
        start_heatmaps(model)
        after, small = model.fuse(images)
    torch.testing.assert_close(after, before)
    points = torch.rand(2, 68, 2) * 64
    assert float(heatmap_loss(large, points)) > 50 * float(heatmap_loss(small, points))
