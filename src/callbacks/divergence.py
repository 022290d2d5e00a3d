"""The end of a training whose loss is no number any more."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from src.utils.errors import ConfigError


class StopOnDivergence(Callback):
    """Ends the run at a loss that is NaN or infinite, before its epoch is kept as a checkpoint.

    On a GPU, which is not to be waited for after every batch, the losses are looked at as often as values are logged.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._diverged: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the batch's loss."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        bad = ~torch.isfinite(loss.detach())
        self._diverged = bad if self._diverged is None else self._diverged | bad
        every_n = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set without a type
        due = trainer.is_last_batch or loss.device.type == "cpu" or (every_n and batch_idx % every_n == 0)
        if due and bool(self._diverged):
            self._end(trainer, loss, f"batch {batch_idx}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the loss of validation: the last step may have done it."""
        loss = trainer.callback_metrics.get("val/loss")
        counts = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if counts and loss is not None and not torch.isfinite(loss):
            self._end(trainer, loss, "validation")

    def _end(self, trainer: Trainer, loss: torch.Tensor, place: str) -> NoReturn:
        raise ConfigError(
            f"the loss is {float(loss)} in epoch {trainer.current_epoch}, {place}: the training has diverged, and this "
            "epoch is not kept. Lower optimizer.lr, set trainer.gradient_clip_val=1.0, or use "
            "trainer.precision=32-true; checkpoints/ has what was best before."
        )
