"""A teacher whose predictions are part of what a smaller model learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer

from src.models.classifier import ExpressionClassifier
from src.models.weights import build_from_weights, load_weights
from src.runs.layout import find_checkpoint
from src.utils.errors import ConfigError


class Distillation(Callback):
    """Mixes the targets of training images with what a teacher predicts for them, as they are after augmentation.

    G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network" (2015), with the student's own
    temperature at 1. The loss must take class probabilities; validation is not touched.
    """

    def __init__(self, teacher: str, weight: float, temperature: float) -> None:
        """Store the options; the teacher is read when training starts.

        Args:
            teacher: A run directory, a `.ckpt` or a `.safetensors`, of a model with the student's classes.
            weight: Fraction of the teacher in the targets, in [0, 1].
            temperature: What the teacher's logits are divided by, above 0.

        Raises:
            ConfigError: If an option is outside its range.
        """
        if not 0 <= weight <= 1:
            raise ConfigError(f"callbacks.distillation.weight={weight}; expected a fraction in [0, 1].")
        if not temperature > 0:
            raise ConfigError(f"callbacks.distillation.temperature={temperature}; expected a number above 0.")
        self.location, self.weight, self.temperature = teacher, weight, temperature
        self._teacher: ExpressionClassifier | None = None
        self._order: list[int] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the teacher.

        Raises:
            ConfigError: If it lacks a class of the student, or wants other images.
        """
        student = cast(ExpressionClassifier, pl_module).spec
        weights = load_weights(find_checkpoint(self.location, argument="callbacks.distillation.teacher"))
        spec = weights.spec.with_vocabulary(None, student.class_names)
        lacking = [name for name in student.class_names if name not in spec.class_names]
        contract = (spec.image_size, spec.grayscale)
        if lacking or contract != (student.image_size, student.grayscale):
            wanted = ", ".join(student.class_names)
            raise ConfigError(
                f"callbacks.distillation.teacher={self.location} predicts {', '.join(spec.class_names)} for images "
                f"of {spec.image_size} px (grayscale={spec.grayscale}); expected {wanted} for {student.image_size} px "
                f"(grayscale={student.grayscale}). Choose another teacher, or other data."
            )
        self._teacher = build_from_weights(replace(weights, spec=spec), freeze="all").eval().to(pl_module.device)
        self._order = [spec.class_names.index(name) for name in student.class_names]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Put the mixed targets, (B, n_classes), into the batch."""
        if self._teacher is None:
            return
        with torch.no_grad(), trainer.strategy.precision_plugin.forward_context():
            logits = self._teacher(batch["image"]).logits[:, self._order].float()
        target = batch.get("target", batch["label"])
        own = F.one_hot(target, len(self._order)).float() if target.ndim == 1 else target
        taught = (logits / self.temperature).softmax(dim=1)
        batch["target"] = (1 - self.weight) * own + self.weight * taught
