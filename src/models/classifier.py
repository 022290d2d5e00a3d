"""The LightningModule: an EmoNet backbone, a head, a loss, an optimizer and the metrics of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric

from src.metrics.affect import DIMENSIONS
from src.metrics.classification import training_metrics
from src.models.arguments import Freeze, Tap
from src.models.emonet import EmoNet
from src.models.evaluation_metrics import EvaluationMetrics
from src.models.heads.base import Head
from src.models.losses import MultiTaskLoss, labeled
from src.models.parameter_groups import parameter_groups
from src.models.prediction import EvaluationOutput, Prediction
from src.models.schedules import Schedule
from src.models.spec import ModelSpec
from src.models.test_time import TestTimeAugmentation, views
from src.utils.errors import ConfigError

SPEC_KEY = "model_spec"
TRAINING_KEY, STEPS_KEY = "training_options", "steps_per_epoch"
OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[..., Schedule | None]
# From images (B, 3, S, S) to features at the head's tap and heat maps.
CompiledFeatures = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]


class ExpressionClassifier(LightningModule):
    """EmoNet with a pluggable head.

    Attributes:
        spec: What the model is; stored in every checkpoint.
        backbone: EmoNet up to the head's tap.
        head: The head.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backbone: EmoNet,
        head: Head,
        *,
        loss: MultiTaskLoss | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        freeze: Freeze = "none",
        lr_multiplier: float = 1.0,
        absent_classes: Sequence[int] = (),
        test_time_augmentation: TestTimeAugmentation = "none",
    ) -> None:
        """Compose the parts.

        Args:
            spec: What the model is.
            backbone: Backbone; its blocks after the head's tap are dropped.
            head: Head.
            loss: Loss of all outputs; None for a model that is not trained.
            optimizer: Makes the optimizer from parameter groups.
            scheduler: Makes the schedule, see `src.models.schedules`.
            freeze: Which part of the backbone is not trained: `all`, `fused`, `fan` or `none`.
            lr_multiplier: The backbone's learning rate is this many times the head's.
            absent_classes: Classes that the data set lacks: never predicted.
            test_time_augmentation: Views over which a test averages the class probabilities.
        """
        super().__init__()
        self.spec, self.backbone, self.head, self.loss = spec, backbone, head, loss
        self._optimizer, self._scheduler = optimizer, scheduler
        self.lr_multiplier = lr_multiplier
        self.absent_classes, self.test_time_augmentation = list(absent_classes), test_time_augmentation
        self._compiled: CompiledFeatures | None = None
        # Whether the present epoch has been validated.
        self.validated = False
        self._freeze_level, self.frozen = str(freeze), freeze == "all"
        backbone.prune(head.tap)
        backbone.freeze(freeze)
        self.to(memory_format=torch.channels_last)
        self.train_loss = MeanMetric()
        self.train_metrics = training_metrics(len(spec.class_names)).clone(prefix="train/")
        self.evaluation = nn.ModuleDict(
            {split: EvaluationMetrics(spec.class_names, spec.outputs) for split in ("val", "test")}
        )

    def use_compiled(self, features: CompiledFeatures) -> None:
        """Let this compute features and heat maps where no gradients are wanted, see `src.models.compiled`."""
        self._compiled = features

    def describe_backbone(self, **sizes: Any) -> None:
        """Follow a change of the backbone in the description."""
        self.spec = replace(self.spec, backbone={**self.spec.backbone, **sizes})

    def features(self, image: Tensor) -> Tensor:
        """Return the backbone's features at the head's tap for RGB images in [0, 1], (B, 3, S, S)."""
        return self._features_and_heatmaps(image)[0]

    def _features_and_heatmaps(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self._compiled is not None and not torch.is_grad_enabled():
            return self._compiled(image)
        # Gradients with respect to the images, as explanations need them, pass through a frozen backbone.
        with torch.set_grad_enabled(torch.is_grad_enabled() and (not self.frozen or image.requires_grad)):
            fused, heatmaps = self.backbone.fuse(image)
            return self.backbone.after_fusion(fused, self.head.tap), heatmaps

    def forward(self, image: Tensor, *, landmarks: bool = False) -> Prediction:
        """Predict.

        Args:
            image: RGB images in [0, 1], (B, 3, S, S).
            landmarks: Whether to keep the heat maps, if they are a trained output.
        """
        features, heatmaps = self._features_and_heatmaps(image)
        prediction = self.split(self.head(features))
        return prediction._replace(heatmaps=heatmaps if landmarks and "landmarks" in self.spec.outputs else ())

    @property
    def frozen_tap(self) -> Tap | None:
        """The last tap before the head whose features training does not change; None if it changes all."""
        taps: dict[str, Tap] = {"all": self.head.tap, "fused": "fused"}
        return taps.get(self._freeze_level)

    def predict_batch(self, batch: dict[str, Tensor]) -> Prediction:
        """Predict a batch of images, or of their features at `frozen_tap`."""
        if "features" not in batch:
            prediction: Prediction = self(batch["image"], landmarks=True)
            return prediction
        features = batch["features"]
        if not torch.is_autocast_enabled(features.device.type):
            features = features.to(next(self.head.parameters()).dtype)
        if self.frozen_tap != self.head.tap:
            features = self.backbone.after_fusion(features, self.head.tap)
        return self.split(self.head(features))

    def split(self, outputs: Tensor) -> Prediction:
        """Name the head's outputs (B, n_outputs)."""
        n = self.head.n_classes
        second = self.spec.second_vocabulary
        return Prediction(
            outputs[:, self.spec.columns()] / self.spec.temperature,
            outputs[:, n] if self.head.valence_arousal else None,
            outputs[:, n + 1] if self.head.valence_arousal else None,
            None if second is None else outputs[:, self.spec.columns(second)],
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch; see `src.data.dataset.Batch`."""
        prediction = self.predict_batch(batch)
        loss = self._loss(prediction, batch)
        label = batch["label"]
        logits, known = labeled(batch, prediction.logits.detach(), label)
        if len(known):
            self.train_metrics.update(logits, known)
        self.train_loss.update(loss.detach(), len(label))
        self.log("train/loss_step", loss, prog_bar=True)
        return loss

    def training_summary(self) -> dict[str, float]:
        """Return the training metrics of the epoch so far."""
        values = {"train/loss": self.train_loss.compute(), **self.train_metrics.compute()}
        return {name: float(value) for name, value in values.items()}

    def on_train_epoch_start(self) -> None:
        """Start an epoch, of which nothing is validated, whatever a sanity check did."""
        self.validated = False

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics."""
        self.log_dict(self.training_summary(), sync_dist=True)
        self.train_metrics.reset()
        self.train_loss.reset()
        self._step_plateau()

    def _step_plateau(self) -> None:
        """Move a plateau schedule here, because Lightning would do it after the epoch's checkpoint is written."""
        for config in self.trainer.lr_scheduler_configs if self.validated else ():
            if isinstance(config.scheduler, ReduceLROnPlateau):
                value = self.trainer.callback_metrics.get(str(config.monitor))
                if value is None:
                    raise ConfigError(
                        f"scheduler.monitor={config.monitor} is not logged; expected one of "
                        f"{', '.join(sorted(self.trainer.callback_metrics))}."
                    )
                config.scheduler.step(float(value))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Move a schedule; plateau schedules have moved at the epoch's end."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> EvaluationOutput:
        """Count a validation batch."""
        return self._evaluate(batch, "val")

    def on_validation_epoch_start(self) -> None:
        """Forget what the sanity check counted."""
        self._metrics("val").reset()

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation split."""
        self._log_split("val")
        self.validated = True

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> EvaluationOutput:
        """Count a test batch."""
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test split."""
        self._log_split("test")

    def _evaluate(self, batch: dict[str, Tensor], split: str) -> EvaluationOutput:
        prediction = self.predict_batch(batch)
        label = batch["label"]
        if self.loss is not None:
            loss = self._loss(prediction, batch)
            self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True)
        probabilities = self.probabilities(prediction)
        metrics = self._metrics(split)
        if self.test_time_augmentation != "none":
            metrics.update_single_view(probabilities, batch)
            prediction, probabilities = self._average_views(batch["image"], prediction)
        metrics.update(probabilities, prediction, batch)
        return EvaluationOutput(
            row=batch["row"],
            label=label,
            probabilities=probabilities,
            valence=prediction.valence,
            arousal=prediction.arousal,
        )

    def probabilities(self, prediction: Prediction) -> Tensor:
        """Return the class probabilities (B, n_classes) in float32; classes that the data lack have none."""
        logits = prediction.logits.float().clone()
        logits[:, self.absent_classes] = -torch.inf
        return logits.softmax(dim=1)

    def _average_views(self, image: Tensor, plain: Prediction) -> tuple[Prediction, Tensor]:
        """Return the mean prediction over the views of images, and the mean of their probabilities."""
        predictions = [plain, *(self(view) for view in views(image, self.test_time_augmentation)[1:])]
        probabilities = torch.stack([self.probabilities(prediction) for prediction in predictions]).mean(dim=0)
        if plain.valence is None:
            return plain, probabilities
        valence, arousal = (torch.stack([getattr(p, name) for p in predictions]).mean(dim=0) for name in DIMENSIONS)
        return plain._replace(valence=valence, arousal=arousal), probabilities

    def _log_split(self, split: str) -> None:
        metrics = self._metrics(split)
        self.log_dict({f"{split}/{name}": value for name, value in metrics.compute().items()}, sync_dist=True)
        metrics.reset()

    def _metrics(self, split: str) -> EvaluationMetrics:
        return cast(EvaluationMetrics, self.evaluation[split])

    def _loss(self, prediction: Prediction, batch: dict[str, Tensor]) -> Tensor:
        if self.loss is None:
            raise RuntimeError("this model was built without a loss: it can predict, not train.")
        if self._freeze_level != "none":  # a frozen network's landmarks are as good as they were
            prediction = prediction._replace(heatmaps=())
        return cast(Tensor, self.loss(prediction, batch))

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, for Lightning."""
        if self._optimizer is None or self._scheduler is None:
            raise RuntimeError("this model was built without an optimizer: it can predict, not train.")
        optimizer = self._optimizer(self.parameter_groups())
        steps = self._steps_per_epoch()
        epochs = float(self.trainer.max_epochs or 1)
        if self.trainer.max_steps > 0:
            epochs = min(epochs, self.trainer.max_steps / steps)
        schedule = self._scheduler(optimizer, steps_per_epoch=steps, max_epochs=epochs)
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trainable parameters: head and backbone, weight decay on weight matrices and kernels only."""
        learning_rate = getattr(self._optimizer, "keywords", {}).get("lr")
        return parameter_groups(self.head, self.backbone, learning_rate, self.lr_multiplier)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the model's description, in names and numbers."""
        checkpoint[SPEC_KEY] = self.spec.to_dict()
        checkpoint[TRAINING_KEY] = {**self.training_options(), STEPS_KEY: self._steps_per_epoch()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with epochs of another length, in which schedules and samplers would be elsewhere.

        Raises:
            ConfigError: If they have another number of steps.
        """
        theirs, ours = checkpoint.get(TRAINING_KEY, {}).get(STEPS_KEY), self._steps_per_epoch()
        begun = checkpoint.get("global_step", 1) > 0  # a search for the batch size goes back to before the first step
        if begun and theirs not in (None, ours):
            raise ConfigError(
                f"the checkpoint's epochs have {theirs} steps, this run's would have {ours}; resume with the same "
                "data.batch_size, trainer.accumulate_grad_batches, trainer.limit_train_batches and number of "
                "processes, or start from its weights: backbone.weights=<the run>."
            )

    def _steps_per_epoch(self) -> int:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by fit
        return int(data.steps_per_epoch())

    def training_options(self) -> dict[str, str]:
        """Return the names of what a resumed run must share with its checkpoint."""
        names = {"optimizer": self._optimizer, "scheduler": self._scheduler}
        chosen = {key: getattr(getattr(factory, "func", None), "__name__", "") for key, factory in names.items()}
        return {**chosen, "backbone.freeze": self._freeze_level}
