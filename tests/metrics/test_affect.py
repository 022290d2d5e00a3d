"""Tests of the valence/arousal metrics against plain numpy formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from numpy.typing import NDArray
from torch import Tensor

from src.metrics.affect import DIMENSIONS, MEASURES, AffectAgreement
from tests.helpers.forking import FORKS

Array = NDArray[np.float64]


def expected(prediction: Array, target: Array) -> dict[str, float]:
    """CCC, PCC, RMSE and SAGR from their definitions."""
    known = ~np.isnan(target)
    p, t = np.clip(prediction[known], -1, 1), target[known]
    rho = np.mean((p - p.mean()) * (t - t.mean())) / (np.std(p) * np.std(t))
    ccc = 2 * rho * np.std(p) * np.std(t) / (np.var(p) + np.var(t) + (p.mean() - t.mean()) ** 2)
    rmse, sagr = np.sqrt(np.mean((p - t) ** 2)), np.mean(np.sign(p) == np.sign(t))
    return {"ccc": float(ccc), "pcc": float(rho), "rmse": float(rmse), "sagr": float(sagr)}


def sample(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return predictions, some outside [-1, 1], and targets, a third of them not annotated, (n, 2)."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(-1, 1, (n, 2))
    prediction = 0.7 * target + rng.normal(0.1, 0.5, (n, 2))
    target[rng.random((n, 2)) < 0.33] = np.nan
    return torch.tensor(prediction, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)


def assert_right(values: dict[str, Tensor], prediction: Tensor, target: Tensor) -> None:
    for i, name in enumerate(DIMENSIONS):
        for measure, value in expected(prediction[:, i].double().numpy(), target[:, i].double().numpy()).items():
            assert values[f"{name}_{measure}"].item() == pytest.approx(value, abs=1e-6), (name, measure)


@pytest.mark.parametrize("sizes", [(200,), (1, 64, 3, 132), (1,) * 200])
def test_uneven_batches_equal_the_formulas_over_the_whole_split(sizes: Sequence[int]) -> None:
    prediction, target = sample(200)
    assert prediction.abs().max() > 1
    metric = AffectAgreement()
    for p, t in zip(prediction.split(list(sizes)), target.split(list(sizes)), strict=True):
        metric.update(p, t)
    values = metric.compute()
    assert set(values) == {f"{name}_{measure}" for name in DIMENSIONS for measure in MEASURES}
    assert_right(values, prediction, target)


def test_a_small_spread_far_from_zero_is_no_trouble() -> None:
    rng = np.random.default_rng(0)
    target = torch.tensor(0.9 + 1e-3 * rng.random((5000, 2)), dtype=torch.float32)
    prediction = target + torch.tensor(1e-3 * rng.random((5000, 2)), dtype=torch.float32)
    metric = AffectAgreement()
    metric.update(prediction, target)
    assert_right(metric.compute(), prediction, target)


def test_half_precision_predictions() -> None:
    prediction, target = sample(50)
    metric = AffectAgreement()
    metric.update(prediction.bfloat16(), target)
    assert_right(metric.compute(), prediction.bfloat16().float(), target)


def one(prediction: list[float], target: list[float]) -> dict[str, float]:
    """Return the metrics of valence."""
    metric = AffectAgreement()
    metric.update(torch.tensor([prediction, prediction]).T, torch.tensor([target, target]).T)
    return {k.removeprefix("valence_"): v.item() for k, v in metric.compute().items() if k.startswith("valence_")}


@pytest.mark.parametrize(
    ("prediction", "target"),
    [([0.1] * 4, [0.1, 0.3, -0.2, 0.5]), ([0.1, 0.3, -0.2, 0.5], [0.1] * 4), ([0.1] * 4, [0.1] * 4), ([0.5], [0.4])],
)
def test_constants_have_no_correlation(prediction: list[float], target: list[float]) -> None:
    values = one(prediction, target)
    assert math.isnan(values["ccc"])
    assert math.isnan(values["pcc"])
    assert values["rmse"] == pytest.approx(np.sqrt(np.mean(np.subtract(prediction, target) ** 2)), abs=1e-6)
    assert values["sagr"] == np.mean(np.sign(prediction) == np.sign(target))


def test_predictions_beyond_the_range_that_clipping_makes_constant() -> None:
    assert math.isnan(one([1.5, 2.0, 3.0], [0.1, 0.2, 0.3])["ccc"])


def test_perfect_predictions() -> None:
    values = one([0.1, -0.5, 0.0, 1.0], [0.1, -0.5, 0.0, 1.0])
    assert values == pytest.approx({"ccc": 1, "pcc": 1, "rmse": 0, "sagr": 1})


def test_a_zero_has_no_sign() -> None:
    assert one([0.0, 0.0, 0.2, 0.3], [0.4, 0.0, 0.1, -0.3])["sagr"] == 0.5


def test_dimensions_without_annotations_are_left_out() -> None:
    prediction, target = sample(20)
    target[:, 1] = torch.nan
    metric = AffectAgreement()
    metric.update(prediction, target)
    assert set(metric.compute()) == {f"valence_{measure}" for measure in MEASURES}
    metric.reset()
    metric.update(prediction, torch.full_like(target, torch.nan))
    assert metric.compute() == {}


def _process(rank: int, store: str, batches: list[list[int]], results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(batches))
    prediction, target = sample(30)
    metric = AffectAgreement()
    for part in torch.arange(30)[rank :: len(batches)].split(batches[rank]) if batches[rank] else []:
        metric.update(prediction[part], target[part])
    torch.save(metric.compute(), f"{results}-{rank}")
    dist.destroy_process_group()


def test_processes_add_up_to_the_whole_split(tmp_path) -> None:
    results = str(tmp_path / "values")
    batches = [[15], [7, 7, 1]]
    arguments = (str(tmp_path / "rendezvous"), batches, results)
    mp.start_processes(_process, arguments, nprocs=2, start_method=FORKS.get_start_method())
    for rank in range(2):
        assert_right(torch.load(f"{results}-{rank}"), *sample(30))
