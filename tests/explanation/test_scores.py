"""Tests of insertion and deletion against a plain implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from src.explanation.scores import STEPS, Scores, blur, random_maps, score_maps, summarize

SIZE = 32


def brightness(region: slice):
    """Return a model whose probability is the brightness of some rows."""

    def probability(images: Tensor, classes: Tensor) -> Tensor:
        return images[:, :, region].mean(dim=(1, 2, 3))

    return probability


def test_scores_are_those_of_the_definition() -> None:
    images, maps = torch.rand(2, 3, SIZE, SIZE), torch.rand(2, SIZE, SIZE)
    model = brightness(slice(4, 20))
    scores = score_maps(model, images, maps, torch.zeros(2, dtype=torch.long))
    blurred = blur(images).numpy()
    for i in range(2):
        order = np.argsort(-maps[i].numpy().ravel())
        curves = {"insertion": [], "deletion": []}
        for step in range(STEPS + 1):
            named = order[: step * SIZE**2 // STEPS]
            for name, start, end in (("insertion", blurred, images.numpy()), ("deletion", images.numpy(), blurred)):
                mixed = start[i].reshape(3, -1).copy()
                mixed[:, named] = end[i].reshape(3, -1)[:, named]
                curves[name].append(mixed.reshape(3, SIZE, SIZE)[:, 4:20].mean())
        for name, curve in curves.items():
            assert getattr(scores, name)[i].item() == pytest.approx(np.trapezoid(curve) / STEPS, abs=1e-5)


def test_a_map_of_what_counts_beats_any_other() -> None:
    images = torch.zeros(3, 3, SIZE, SIZE)
    images[:, :, 12:20, 12:20] = 1

    def probability(images: Tensor, classes: Tensor) -> Tensor:
        return images[:, :, 12:20, 12:20].mean(dim=(1, 2, 3))

    right, wrong = images[:, 0], 1 - images[:, 0]
    classes = torch.zeros(3, dtype=torch.long)
    good, bad = (score_maps(probability, images, maps, classes) for maps in (right, wrong))
    assert (good.gain > 0.3).all()
    torch.testing.assert_close(good.gain, -bad.gain, atol=0.02, rtol=0)


def test_maps_without_an_order_gain_nothing() -> None:
    images = torch.rand(64, 3, SIZE, SIZE) * torch.linspace(0, 1, SIZE).view(1, 1, -1, 1)
    classes = torch.zeros(64, dtype=torch.long)
    for maps in (torch.zeros(64, SIZE, SIZE), random_maps(64, SIZE)):
        scores = score_maps(brightness(slice(0, 16)), images, maps, classes)
        assert abs(scores.gain.mean().item()) < 0.01
    assert torch.equal(random_maps(4, SIZE), random_maps(4, SIZE))


def test_summary_compares_image_by_image() -> None:
    insertion, deletion = torch.rand(50) + 1, torch.rand(50)
    scores, control = Scores(insertion, deletion), Scores(insertion - 0.25, deletion)
    summary = summarize(scores, control)
    assert summary["gain"]["mean"] == pytest.approx((insertion - deletion).mean().item())
    assert summary["gain_over_random"]["mean"] == pytest.approx(0.25)
    assert summary["gain_over_random"]["ci95"] == pytest.approx([0.25, 0.25])
    low, high = summary["insertion"]["ci95"]
    assert low < summary["insertion"]["mean"] < high
    width = 2 * 1.96 * insertion.std().item() / 50**0.5
    assert high - low == pytest.approx(width, rel=0.1)
