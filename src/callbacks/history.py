"""Learning curves, and how fast the run was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from src.callbacks.figures import draw_learning_curves
from src.models.classifier import ExpressionClassifier


class LearningCurves(Callback):
    """Collects the metrics of each epoch and draws them; what it collected survives a resume."""

    def __init__(self, run_dir: str) -> None:
        """Create the callback.

        Args:
            run_dir: Run directory; the figure goes to `figures/learning_curves.png`.
        """
        self.run_dir = Path(run_dir)
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the metrics of the epoch, before its checkpoints are written."""
        model, found = cast(ExpressionClassifier, pl_module), trainer.callback_metrics
        # An epoch without validation has none: those found are of an epoch before.
        validation = {k: float(v) for k, v in found.items() if k.startswith("val/")} if model.validated else {}
        self.history.append({"epoch": float(trainer.current_epoch), **model.training_summary(), **validation})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        if self.history and trainer.is_global_zero:
            draw_learning_curves(self.history, self.run_dir)

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history."""
        self.history = list(state_dict["history"])


class FitSpeed(Callback):
    """Measures training: seconds of the whole fit, and images a second without validation.

    Attributes:
        seconds: Wall time of the fit.
        images_per_second: Training images over the time spent on training batches, loading included.
    """

    def __init__(self) -> None:
        """Create the callback."""
        self.seconds = 0.0
        self._images, self._training = 0, 0.0
        self._start = self._epoch_start = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; after the epoch's last one, stop its clock before validation starts."""
        self._images += len(batch["label"]) * trainer.world_size
        if trainer.is_last_batch:
            self._training += time.perf_counter() - self._epoch_start

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self._start

    @property
    def images_per_second(self) -> float:
        """Training images a second, 0 if there was no complete epoch."""
        return self._images / self._training if self._training else 0.0
