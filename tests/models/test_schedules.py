"""Tests of the schedules: the learning rates that a training sees are torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler, OneCycleLR

from src.models.schedules import constant, cosine_restarts, one_cycle, plateau
from src.utils.errors import ConfigError

EPOCHS, STEPS, LR = 3, 4, 0.1


class RecordLearningRates(Callback):
    """Keeps the learning rate of every optimizer step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.fixture
def trained_rates(fit: Callable[..., Trainer]) -> Callable[[Any], list[float]]:
    """Return a function that trains three epochs of four steps and returns the learning rate of each step."""

    def train(scheduler: Any) -> list[float]:
        recorder = RecordLearningRates()
        fit(epochs=EPOCHS, scheduler=scheduler, callbacks=[recorder], freeze="all")
        return recorder.rates

    return train


def torch_rates(scheduler: type[LRScheduler], *args: Any, **options: Any) -> list[float]:
    """Return the learning rates of as many steps of a plain torch loop."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    schedule = scheduler(optimizer, *args, **options)
    rates = []
    for _ in range(EPOCHS * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_constant(trained_rates) -> None:
    assert trained_rates(constant) == [LR] * (EPOCHS * STEPS)


def test_cosine_restarts_move_every_step(trained_rates) -> None:
    rates = trained_rates(partial(cosine_restarts, first_cycle=1, cycle_multiplier=2, min_lr=0.01))
    # Cycles of one and of two epochs; Loshchilov and Hutter, equation 5.
    fractions = [i / STEPS for i in range(STEPS)] + [i / (2 * STEPS) for i in range(2 * STEPS)]
    assert rates == pytest.approx(
        [0.01 + (LR - 0.01) * (1 + math.cos(math.pi * fraction)) / 2 for fraction in fractions]
    )
    assert rates == pytest.approx(torch_rates(CosineAnnealingWarmRestarts, STEPS, 2, 0.01))


def test_a_warm_up_precedes_the_first_cycle(trained_rates) -> None:
    rates = trained_rates(partial(cosine_restarts, first_cycle=1, cycle_multiplier=2, min_lr=0.01, warmup=1))
    cycles = torch_rates(CosineAnnealingWarmRestarts, STEPS, 2, 0.01)
    assert rates[:STEPS] == pytest.approx([LR * (1 / 25 + 24 / 25 * step / STEPS) for step in range(STEPS)])
    assert rates[STEPS:] == pytest.approx(cycles[: 2 * STEPS])


def test_one_cycle_spans_the_run(trained_rates) -> None:
    rates = trained_rates(partial(one_cycle, warmup=0.3))
    assert rates == pytest.approx(torch_rates(OneCycleLR, LR, total_steps=EPOCHS * STEPS, pct_start=0.3))
    assert max(rates) == pytest.approx(LR, rel=0.05)


def test_plateau_falls_when_its_metric_stalls(trained_rates) -> None:
    # No image is angry, so this F1 is 0 after every epoch.
    rates = trained_rates(partial(plateau, monitor="val/f1/angry", mode="max", factor=0.5, patience=0))
    assert rates == [LR] * (2 * STEPS) + [LR / 2] * STEPS


def test_plateau_refuses_a_metric_that_is_not_logged(trained_rates) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.monitor=val/bliss is not logged; expected.*val/f1_macro"):
        trained_rates(partial(plateau, monitor="val/bliss", mode="max", factor=0.5, patience=0))


@pytest.mark.parametrize(
    ("schedule", "options", "named"),
    [
        (cosine_restarts, {"first_cycle": 0.1, "cycle_multiplier": 1, "min_lr": 0.0}, "scheduler.first_cycle=0.1"),
        (one_cycle, {"warmup": 0.0}, "scheduler.warmup=0.0"),
        (one_cycle, {"warmup": 1.0}, "scheduler.warmup=1.0"),
    ],
)
def test_refuses_impossible_options(schedule, options: dict[str, Any], named: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    with pytest.raises(ConfigError) as error:
        schedule(optimizer, steps_per_epoch=STEPS, max_epochs=EPOCHS, **options)
    assert named in str(error.value)
    assert "expected" in str(error.value)
