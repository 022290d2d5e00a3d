"""Losses for expression classes, valence/arousal and landmarks, and their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.metrics.affect import DIMENSIONS
from src.models.landmarks import heatmap_loss
from src.models.prediction import Prediction

ClassWeights = Literal["none", "balanced"]


class MultiTaskLoss(nn.Module):
    """The loss of the classes, and those of all else that a model predicts and a batch has targets for."""

    def __init__(
        self, classification: nn.Module, *, auxiliary_weight: float = 1.0, landmark_weight: float | None = None
    ) -> None:
        """Create the loss.

        Args:
            classification: Loss of logits (B, n_classes) and class indices (B,) or probabilities (B, n_classes).
            auxiliary_weight: Weight of each other loss beside it: of valence and arousal together, of a second
                vocabulary, and of landmarks.
            landmark_weight: Weight of the loss of landmarks, if another one.
        """
        super().__init__()
        self.classification, self.auxiliary_weight = classification, auxiliary_weight
        self.landmark_weight = auxiliary_weight if landmark_weight is None else landmark_weight

    def forward(self, prediction: Prediction, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum for a batch; see `src.data.dataset.Batch`."""
        logits, target = labeled(batch, prediction.logits, batch.get("target", batch["label"]))
        loss: Tensor = self.classification(logits, target) if len(target) else 0 * prediction.logits.sum()
        for name in DIMENSIONS:
            value = getattr(prediction, name)
            if value is not None:
                loss = loss + self.auxiliary_weight / 2 * valence_arousal_loss(value, batch[name])
        if prediction.second_logits is not None and "second_target" in batch:
            second = partial_cross_entropy(prediction.second_logits, batch["second_target"])
            loss = loss + self.auxiliary_weight * second
        if prediction.heatmaps and "landmarks" in batch:
            loss = loss + self.landmark_weight * heatmap_loss(prediction.heatmaps, batch["landmarks"])
        return loss


def labeled(batch: Mapping[str, Tensor], *values: Tensor) -> tuple[Tensor, ...]:
    """Return the part of each of the values (B, ...) that is of images with a label."""
    return tuple(value[batch["labeled"]] for value in values) if "labeled" in batch else values


class CrossEntropy(nn.Module):
    """Cross-entropy with label smoothing and class weights, for class indices or probabilities."""

    def __init__(
        self, *, class_counts: Sequence[int], label_smoothing: float = 0.0, class_weights: ClassWeights = "none"
    ) -> None:
        """Create the loss.

        Args:
            class_counts: Training images per class, (n_classes,).
            label_smoothing: Fraction of the target spread evenly over the classes, in [0, 1).
            class_weights: `none`, or `balanced` for weights in inverse proportion to the counts, n / (k * count) as
                in scikit-learn; a class without images gets weight 0.
        """
        super().__init__()
        self.label_smoothing = label_smoothing
        self.weight: Tensor | None
        self.register_buffer("weight", _class_weights(class_counts, class_weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (B, n_classes) for indices (B,) or probabilities (B, n_classes)."""
        return F.cross_entropy(logits, target, weight=self.weight, label_smoothing=self.label_smoothing)


class FocalLoss(CrossEntropy):
    """Focal loss (Lin et al., ICCV 2017, equation 5): each class's cross-entropy times (1 - p) ** gamma."""

    def __init__(self, *, gamma: float, class_counts: Sequence[int], **options: float | str) -> None:
        """Create the loss; see `CrossEntropy` for the other arguments.

        Args:
            gamma: Focusing exponent, 0 or more; 0 gives cross-entropy.
            class_counts: Training images per class.
            **options: Arguments of `CrossEntropy`.
        """
        super().__init__(class_counts=class_counts, **options)  # type: ignore[arg-type]
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (B, n_classes) for indices (B,) or probabilities (B, n_classes)."""
        n_classes = logits.shape[1]
        soft = F.one_hot(target, n_classes).to(logits.dtype) if target.ndim == 1 else target
        soft = soft * (1 - self.label_smoothing) + self.label_smoothing / n_classes
        log_p = F.log_softmax(logits, dim=1)
        terms = -soft * (1 - log_p.exp()) ** self.gamma * log_p
        if self.weight is None:
            return terms.sum(dim=1).mean()
        weights = self.weight[target].sum() if target.ndim == 1 else terms.new_tensor(len(terms))
        return (terms * self.weight).sum() / weights


def valence_arousal_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return 1 - CCC + MSE over the annotated values of valence or arousal.

    CCC is Lin's concordance correlation coefficient (Biometrics, 1989) with population moments.

    Args:
        prediction: (B,).
        target: (B,), NaN where not annotated.

    Returns:
        The loss; 0, with a zero gradient, if fewer than two values are annotated.
    """
    # Masks, not selections: the number of annotated values would have to come back from a GPU first.
    known = ~torch.isnan(target)
    n = known.sum()
    # Moments in half precision would be off by percents.
    p, t = (torch.where(known, values.to(target.dtype), 0) for values in (prediction, target))

    def mean(values: Tensor) -> Tensor:
        return (values * known).sum() / n.clamp_min(1)

    p_mean, t_mean = mean(p), mean(t)
    covariance = mean((p - p_mean) * (t - t_mean))
    spread = mean((p - p_mean).square()) + mean((t - t_mean).square()) + (p_mean - t_mean).square()
    ccc = 2 * covariance / spread.clamp_min(1e-8)
    return (1 - ccc + mean((p - t).square())) * (n >= 2)


def partial_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy over the images that have a target.

    Args:
        logits: (B, n_classes).
        target: Class probabilities (B, n_classes), NaN where an image has none.

    Returns:
        The loss; 0, with a zero gradient, if no image has a target.
    """
    known = ~torch.isnan(target[:, 0])
    losses = F.cross_entropy(logits, target.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


def _class_weights(counts: Sequence[int], mode: ClassWeights) -> Tensor | None:
    if mode == "none":
        return None
    total = torch.as_tensor(counts, dtype=torch.float32)
    weights = total.sum() / (len(total) * total.clamp_min(1))
    return torch.where(total > 0, weights, torch.zeros_like(weights))
