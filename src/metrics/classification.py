"""Classification metrics over a whole epoch, every average named."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import ClasswiseWrapper, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

ECE_BINS = 15


class BalancedAccuracy(MulticlassConfusionMatrix):
    """Mean recall over the classes that occur in the labels, as in scikit-learn."""

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the value, a scalar."""
        confusion = super().compute().float()
        support = confusion.sum(dim=1)
        return (confusion.diag() / support)[support > 0].mean()


def classification_metrics(class_names: Sequence[str]) -> MetricCollection:
    """Return the metrics of an evaluation, updated with probabilities (B, n_classes) and class indices (B,).

    Macro averages run over the classes present in labels or predictions, weighted ones weigh by support; `accuracy`
    is the fraction correct; `ece` is the expected calibration error with 15 equal bins (Guo et al., ICML 2017).

    Args:
        class_names: Names of the classes, in the order of the indices.
    """
    n = len(class_names)
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": MulticlassAccuracy(n, average="micro"),
        "balanced_accuracy": BalancedAccuracy(n),
        "kappa": MulticlassCohenKappa(n),
        "ece": MulticlassCalibrationError(n, n_bins=ECE_BINS, norm="l1"),
        "f1": ClasswiseWrapper(MulticlassF1Score(n, average=None), labels=list(class_names), prefix="f1/"),
    }
    for average in ("macro", "weighted"):
        metrics[f"precision_{average}"] = MulticlassPrecision(n, average=average)
        metrics[f"recall_{average}"] = MulticlassRecall(n, average=average)
        metrics[f"f1_{average}"] = MulticlassF1Score(n, average=average)
    return MetricCollection(metrics)


def metric_names(class_names: Sequence[str]) -> list[str]:
    """Return the names of the values of `classification_metrics`."""
    plain = [str(name) for name in classification_metrics(class_names).keys(keep_base=True) if name != "f1"]
    return [*plain, *(f"f1/{name}" for name in class_names)]


def training_metrics(n_classes: int) -> MetricCollection:
    """Return the metrics watched while training."""
    return MetricCollection({"accuracy": MulticlassAccuracy(n_classes, average="micro")})


def evaluate_table(probabilities: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return the metrics of probabilities (N, n_classes) against class indices (N,), by name."""
    values = classification_metrics(class_names)(probabilities, labels)
    return {name: float(torch.as_tensor(value)) for name, value in values.items()}
