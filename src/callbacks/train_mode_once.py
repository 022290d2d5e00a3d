"""A mistake of the student project, for measuring what it cost."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer


class TrainModeOnce(Callback):
    """Calls `train()` once, at the start of the first epoch, as the student project did, and never again.

    So the statistics of every batch-norm, those of the frozen backbone included, are the batch's in the first epoch and
    drift with it; from the second epoch on nothing is in training mode, the head neither.
    """

    def __init__(self, enabled: bool) -> None:
        """Create the callback.

        Args:
            enabled: Whether to do so; without it, training is as it should be.
        """
        self.enabled = enabled

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the mode of every module, past the backbone's own refusal to train what is frozen."""
        if self.enabled:
            for module in pl_module.modules():
                module.training = trainer.current_epoch == 0
