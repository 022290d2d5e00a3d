"""Stop on request, between two batches."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from src.utils.signals import stop_requests


class StopOnSignal(Callback):
    """Ends the run after the batch in which SIGINT or SIGTERM arrived; the last finished epoch's checkpoint stays."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to."""
        stop_requests.raise_if_requested()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if asked to."""
        stop_requests.raise_if_requested()
