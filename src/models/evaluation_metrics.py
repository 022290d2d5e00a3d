"""All metrics of a validation or test split, over an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassAccuracy

from src.metrics.affect import DIMENSIONS, AffectAgreement
from src.metrics.classification import classification_metrics
from src.metrics.landmarks import LandmarkError
from src.models.losses import labeled
from src.models.prediction import Prediction


class EvaluationMetrics(nn.Module):
    """Metrics of the classes and, where they are trained outputs, of valence, arousal and landmarks.

    Attributes:
        single_view: Accuracy without test-time augmentation, for tests that average over views.
    """

    def __init__(self, class_names: Sequence[str], outputs: Sequence[str]) -> None:
        """Create the metrics.

        Args:
            class_names: Classes in the order of the logits.
            outputs: Names of the trained outputs, see `ModelSpec`.
        """
        super().__init__()
        self.outputs = tuple(outputs)
        self.classification = classification_metrics(class_names)
        self.single_view = MulticlassAccuracy(len(class_names), average="micro")
        self.valence_arousal, self.landmarks = AffectAgreement(), LandmarkError()
        # Of all processes: one without a labeled image must not leave the others waiting for it.
        self.n_labeled, self.averages_views = SumMetric(), False

    def update(self, probabilities: Tensor, prediction: Prediction, batch: Mapping[str, Tensor]) -> None:
        """Count a batch.

        Args:
            probabilities: Of the classes, (B, n_classes).
            prediction: All that was predicted.
            batch: The batch with its `label`, and valence and arousal where they are outputs; landmarks may be missing.
        """
        found_classes, labels = labeled(batch, probabilities, batch["label"])
        self.n_labeled.update(len(labels))
        if len(labels):
            self.classification.update(found_classes, labels)
        if "valence_arousal" in self.outputs:
            predicted = torch.stack([getattr(prediction, name) for name in DIMENSIONS], dim=1)
            self.valence_arousal.update(predicted, torch.stack([batch[name] for name in DIMENSIONS], dim=1))
        found = prediction.landmarks
        if found is not None:
            self.landmarks.update(found, batch.get("landmarks", torch.full_like(found, torch.nan)))

    def update_single_view(self, probabilities: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Count a batch's probabilities (B, n_classes) before they are averaged over views."""
        self.averages_views = True
        found, labels = labeled(batch, probabilities, batch["label"])
        if len(labels):
            self.single_view.update(found, labels)

    def compute(self) -> dict[str, Tensor]:
        """Return the values of all processes' batches by name; none of classes, if no image has a label."""
        known = bool(self.n_labeled.compute() > 0)
        values: dict[str, Tensor] = self.classification.compute() if known else {}
        if known and self.averages_views:
            values["accuracy_single_view"] = self.single_view.compute()
        for name in ("valence_arousal", "landmarks"):
            metric: AffectAgreement | LandmarkError = getattr(self, name)
            if name in self.outputs and metric.update_called:  # cached features have no landmarks
                values |= metric.compute()
        return values

    def reset(self) -> None:
        """Forget all batches."""
        for metric in (self.classification, self.single_view, self.valence_arousal, self.landmarks, self.n_labeled):
            metric.reset()
        self.averages_views = False
