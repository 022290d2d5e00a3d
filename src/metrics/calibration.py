"""How far confidence and accuracy are apart, and a temperature that brings them together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_calibration_error

from src.metrics.classification import ECE_BINS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Smaller probabilities are taken for this one: in single precision they may have become 0.
SMALLEST = 1e-30
# A model that needs more or less than these knows nothing, or what it was calibrated on.
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Bins of equal width in confidence that hold an image, (M,) each.

    Attributes:
        confidence: Mean confidence.
        accuracy: Fraction correct.
        count: Number of images.
    """

    confidence: Floats
    accuracy: Floats
    count: Floats


def reliability_curve(confidence: Floats, correct: NDArray[np.bool_]) -> ReliabilityCurve:
    """Return a reliability curve of 15 bins of equal width over [0, 1] (Guo et al., ICML 2017).

    Args:
        confidence: Probability of the predicted class, (N,).
        correct: Whether the prediction is right, (N,).
    """
    weights = (np.ones_like(confidence), confidence, correct.astype(np.float64))
    count, total, n_correct = (np.histogram(confidence, ECE_BINS, (0, 1), weights=each)[0] for each in weights)
    kept = count > 0
    return ReliabilityCurve(total[kept] / count[kept], n_correct[kept] / count[kept], count[kept])


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    """Return the `ece` of `classification_metrics`.

    Args:
        confidence: Probability of the predicted class, (N,).
        correct: Whether the prediction is right, (N,).
    """
    return float(binary_calibration_error(torch.tensor(confidence), torch.tensor(correct), ECE_BINS, norm="l1"))


def fit_temperature(probabilities: Floats, labels: Ints) -> float:
    """Return the temperature that makes labels most likely (Guo et al., ICML 2017, section 4.2).

    Args:
        probabilities: Softmax of some logits, (N, n_classes).
        labels: Class indices, (N,), of images that the model was not trained on.

    Returns:
        What the logits are to be divided by, within `TEMPERATURES`; above 1 where the model is too sure.
    """
    logits = torch.from_numpy(np.log(np.maximum(probabilities, SMALLEST)))
    target = torch.from_numpy(np.array(labels))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_temperature.exp(), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(np.clip(float(log_temperature.detach().exp()), *TEMPERATURES))


def retemper(probabilities: Floats, temperature: float) -> Floats:
    """Return the softmax of logits divided by a temperature, given their softmax (N, n_classes)."""
    logits = torch.from_numpy(np.log(np.maximum(probabilities, SMALLEST)))
    return np.asarray((logits / temperature).softmax(dim=1).numpy())


def negative_log_likelihood(probabilities: Floats, labels: Ints) -> float:
    """Return the mean of -log p(label)."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], SMALLEST)).mean())
