"""The end of a training whose loss is no number any more."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from src.utils.errors import ConfigError


class StopOnDivergence(Callback):
    """Ends the run at the first loss that is NaN or infinite, before its epoch is kept as a checkpoint."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the batch's loss."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None:
            self._check(trainer, loss, f"batch {batch_idx}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the loss of validation: the last step may have done it."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._check(trainer, loss, "validation")

    def _check(self, trainer: Trainer, loss: torch.Tensor, place: str) -> None:
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss is {float(loss)} in epoch {trainer.current_epoch}, {place}: the training has diverged, and "
                "this epoch is not kept. Lower optimizer.lr, set trainer.gradient_clip_val=1.0, or use "
                "trainer.precision=32-true; checkpoints/ has what was best before."
            )
