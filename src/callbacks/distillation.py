"""Teachers whose predictions are part of what a model learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.data.datamodule import StoreDataModule
from src.models.classifier import ExpressionClassifier
from src.models.origin import Origin
from src.models.spec import ModelSpec
from src.models.weights import build_from_weights, load_weights
from src.runs.layout import find_checkpoint
from src.utils.errors import ConfigError


class Distillation(Callback):
    """Mixes the targets of training images with what teachers predict for them, as they are after augmentation.

    G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network" (2015), with the student's own
    temperature at 1; several teachers are an ensemble, the mean of their probabilities. The loss must take class
    probabilities; validation is not touched. A teacher for images of another size gets them resized.
    """

    def __init__(
        self,
        teacher: str | Sequence[str],
        weight: float,
        temperature: float,
        part_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Store the options; the teachers are read when training starts.

        Args:
            teacher: A run directory, a `.ckpt`, a `.safetensors` or `hf://owner/name`, of a model with the student's
                classes; or several.
            weight: Fraction of the teachers in the targets, in [0, 1].
            temperature: What the teachers' logits are divided by, above 0.
            part_weights: Other fractions for images of parts of `data=combined`, or collections of `data=mmafedb`, by
                their names. Where it is 1, their own labels do not count: Q. Xie et al., "Self-training with Noisy
                Student" (CVPR 2020).

        Raises:
            ConfigError: If an option is outside its range.
        """
        self.locations = [teacher] if isinstance(teacher, str) else list(teacher)
        if not self.locations:
            raise ConfigError("callbacks.distillation.teacher=[]; expected at least one model, or callbacks=default.")
        self.part_weights = dict(part_weights or {})
        named = {f"part_weights.{part}": fraction for part, fraction in self.part_weights.items()}
        for key, fraction in {"weight": weight, **named}.items():
            if not 0 <= fraction <= 1:
                raise ConfigError(f"callbacks.distillation.{key}={fraction}; expected a fraction in [0, 1].")
        if not temperature > 0:
            raise ConfigError(f"callbacks.distillation.temperature={temperature}; expected a number above 0.")
        self.weight, self.temperature = weight, temperature
        # Each with the places of the student's classes among its own.
        self._teachers: list[tuple[ExpressionClassifier, list[int]]] = []
        self._weights: Tensor | None = None  # of each row of the store, (N, 1)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the teachers, and let the student's description name them, whose terms of use it inherits.

        Raises:
            ConfigError: If one lacks a class of the student, or wants color where it has gray images or the reverse,
                or the data have no such part.
        """
        self._weights = self._row_weights(trainer).to(pl_module.device) if self.part_weights else None
        model = cast(ExpressionClassifier, pl_module)
        student, origin = model.spec, model.spec.origin or Origin(model.spec.license)
        self._teachers = []
        for location in self.locations:
            weights = load_weights(find_checkpoint(location, argument="callbacks.distillation.teacher"))
            origin = origin.taught_by(weights.as_ancestor(), weights.spec.license)
            spec = weights.spec.with_vocabulary(None, student.class_names)
            _check(location, spec, student)
            teacher = build_from_weights(replace(weights, spec=spec), freeze="all").eval().to(pl_module.device)
            self._teachers.append((teacher, [spec.class_names.index(name) for name in student.class_names]))
        model.spec = replace(student, origin=origin)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Put the mixed targets, (B, n_classes), into the batch."""
        taught = []
        for model, order in self._teachers:
            with torch.no_grad(), trainer.strategy.precision_plugin.forward_context():
                logits = model(_resized(batch["image"], model.spec.image_size)).logits[:, order].float()
            taught.append((logits / self.temperature).softmax(dim=1))
        target = batch.get("target", batch["label"])
        own = F.one_hot(target.clamp_min(0), taught[0].shape[1]).float() if target.ndim == 1 else target
        weight = self.weight if self._weights is None else self._weights[batch["row"]]
        batch["target"] = (1 - weight) * own + weight * torch.stack(taught).mean(dim=0)

    def _row_weights(self, trainer: Trainer) -> Tensor:
        """Return the fraction of the teachers for each row of the store, (N, 1)."""
        data = cast(StoreDataModule, trainer.datamodule)  # type: ignore[attr-defined]  # set by fit
        parts = data.origins() or []
        unknown = sorted(set(self.part_weights) - set(parts))
        if unknown:
            raise ConfigError(
                f"callbacks.distillation.part_weights has {', '.join(unknown)}, but data={data.name} has the parts "
                f"{', '.join(sorted(set(parts))) or '(none)'}; name parts of data=combined, or collections of "
                "data=mmafedb."
            )
        return torch.tensor([[self.part_weights.get(part, self.weight)] for part in parts])


def _check(location: str, teacher: ModelSpec, student: ModelSpec) -> None:
    lacking = [name for name in student.class_names if name not in teacher.class_names]
    if lacking or teacher.grayscale != student.grayscale:
        raise ConfigError(
            f"callbacks.distillation.teacher={location} predicts {', '.join(teacher.class_names)} for images with "
            f"grayscale={teacher.grayscale}; expected {', '.join(student.class_names)} for grayscale="
            f"{student.grayscale}. Choose another teacher, or other data."
        )


def _resized(images: Tensor, size: int) -> Tensor:
    """Return images (B, 3, S, S) with sides of `size` pixels; themselves, if they have them."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
