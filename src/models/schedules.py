"""Learning-rate schedules, their lengths in epochs, as Lightning's scheduler dictionaries.

Each function is the target of a file in `conf/scheduler/`.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from src.metrics.directions import Mode
from src.utils.errors import ConfigError

Schedule = dict[str, Any]
# Where a warm-up starts, as a fraction of the learning rate: that of torch's OneCycleLR.
WARMUP_START = 1 / 25


def constant(optimizer: Optimizer, *, steps_per_epoch: int, max_epochs: float) -> Schedule | None:
    """Keep the learning rate."""
    return None


def cosine_restarts(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    max_epochs: float,
    first_cycle: float,
    cycle_multiplier: int,
    min_lr: float,
    warmup: float = 0.0,
) -> Schedule:
    """Cosine annealing with warm restarts (Loshchilov and Hutter, ICLR 2017), moved every step.

    It does not depend on the length of the run, so a run that goes on equals one that was long from the start.

    Args:
        optimizer: The optimizer.
        steps_per_epoch: Optimizer steps in an epoch.
        max_epochs: Epochs of the run; a fraction where `trainer.max_steps` ends it.
        first_cycle: Length of the first cycle in epochs.
        cycle_multiplier: Each cycle is this many times as long as the one before.
        min_lr: Learning rate at the end of a cycle.
        warmup: Epochs before the first cycle in which the learning rate rises linearly from 1/25.
    """
    first_steps = round(first_cycle * steps_per_epoch)
    if first_steps < 1:
        raise ConfigError(
            f"scheduler.first_cycle={first_cycle}; expected a cycle of at least one of the {steps_per_epoch} steps of "
            "an epoch. Set a longer one."
        )
    warmup_steps = round(warmup * steps_per_epoch)
    rise = LinearLR(optimizer, WARMUP_START, total_iters=warmup_steps) if warmup_steps else None
    cycles = CosineAnnealingWarmRestarts(optimizer, first_steps, cycle_multiplier, min_lr)
    return _per_step(cycles if rise is None else SequentialLR(optimizer, [rise, cycles], [warmup_steps]))


def one_cycle(optimizer: Optimizer, *, steps_per_epoch: int, max_epochs: float, warmup: float) -> Schedule:
    """One cycle over the whole run (Smith and Topin, 2019): up to `optimizer.lr`, then down by cosine, every step.

    Args:
        optimizer: The optimizer.
        steps_per_epoch: Optimizer steps in an epoch.
        max_epochs: Epochs of the run, the length of the cycle; a fraction where `trainer.max_steps` ends it.
        warmup: Fraction of the steps spent going up, in (0, 1).
    """
    if not 0 < warmup < 1:
        raise ConfigError(f"scheduler.warmup={warmup}; expected a fraction in (0, 1).")
    peaks = [group["lr"] for group in optimizer.param_groups]
    # Cycling momentum would silently replace the optimizer's own.
    total = max(1, round(steps_per_epoch * max_epochs))
    return _per_step(_OneCycle(optimizer, peaks, total_steps=total, pct_start=warmup, cycle_momentum=False))


def plateau(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    max_epochs: float,
    monitor: str,
    mode: Mode,
    factor: float,
    patience: int,
) -> Schedule:
    """Multiply the learning rate by `factor` after `patience` epochs without progress.

    Args:
        optimizer: The optimizer.
        steps_per_epoch: Optimizer steps in an epoch.
        max_epochs: Epochs of the run; a fraction where `trainer.max_steps` ends it.
        monitor: Validation metric to watch.
        mode: `max` or `min`: what progress is.
        factor: Factor, in (0, 1).
        patience: Epochs to wait.
    """
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    # The model moves it, after validations only; Lightning need not miss the metric in other epochs.
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor, "strict": False}


class _OneCycle(OneCycleLR):
    """One cycle as long as the present run, also when it goes on with more epochs than its checkpoint was made for."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position in the cycle, not its length."""
        length = ("total_steps", "_schedule_phases")
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in length})


def _per_step(scheduler: LRScheduler) -> Schedule:
    return {"scheduler": scheduler, "interval": "step"}
