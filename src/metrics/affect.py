"""Agreement of predicted and annotated valence and arousal over a whole epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

DIMENSIONS = ("valence", "arousal")
MEASURES = ("ccc", "pcc", "rmse", "sagr")


def affect_metric_names() -> list[str]:
    """Return the names of the values of `AffectAgreement`."""
    return [f"{dimension}_{measure}" for dimension in DIMENSIONS for measure in MEASURES]


class AffectAgreement(Metric):
    """CCC, PCC, RMSE and SAGR of valence and arousal over all annotated images, see `agreement`.

    The values themselves are kept, 16 bytes an image, and gathered from all processes: means of batches or processes
    would not be those of the split.
    """

    full_state_update = False
    predictions: list[Tensor]
    targets: list[Tensor]

    def __init__(self, **options: Any) -> None:
        """Create the metric.

        Args:
            **options: Arguments of `torchmetrics.Metric`.
        """
        super().__init__(**options)
        self.add_state("predictions", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Args:
            predictions: Valence and arousal, (B, 2).
            targets: Valence and arousal in [-1, 1], (B, 2); NaN where not annotated.
        """
        self.predictions.append(predictions.detach().float())
        self.targets.append(targets.float())

    def compute(self) -> dict[str, Tensor]:
        """Return `valence_ccc`, `valence_pcc` and so on; a dimension without any annotation is left out."""
        # In double precision and therefore on the CPU: not every device has it.
        predictions, targets = (dim_zero_cat(s).cpu().reshape(-1, 2) for s in (self.predictions, self.targets))
        results: dict[str, Tensor] = {}
        for i, name in enumerate(DIMENSIONS):
            known = ~torch.isnan(targets[:, i])
            if bool(known.any()):
                values = agreement(predictions[known, i], targets[known, i])
                results |= {f"{name}_{measure}": value for measure, value in values.items()}
        return results


def agreement(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compare predictions with annotations as EmoNet's authors do (Toisoul et al., Nature Machine Intelligence, 2021).

    Moments are those of the population (division by N). PCC is Pearson's correlation; CCC is Lin's concordance
    correlation (Biometrics, 1989), 2 cov / (var_p + var_t + (mean_p - mean_t)^2); RMSE the root of the mean squared
    error; SAGR the fraction of images with sign(p) = sign(t), the sign of 0 being 0. Where predictions or annotations
    are all equal there is no correlation: PCC and CCC are NaN.

    Args:
        prediction: (N,), N of 1 or more; clipped to [-1, 1].
        target: (N,), in [-1, 1].

    Returns:
        `ccc`, `pcc`, `rmse` and `sagr`, float32 scalars computed in double precision.
    """
    p, t = prediction.double().clamp(-1, 1), target.double()
    covariance = ((p - p.mean()) * (t - t.mean())).mean()
    var_p, var_t = p.var(correction=0), t.var(correction=0)
    constant = bool((p == p[0]).all() or (t == t[0]).all())
    nothing = p.new_full((), torch.nan)
    values = {
        "ccc": nothing if constant else 2 * covariance / (var_p + var_t + (p.mean() - t.mean()) ** 2),
        "pcc": nothing if constant else covariance / (var_p * var_t).sqrt(),
        "rmse": (p - t).square().mean().sqrt(),
        "sagr": (p.sign() == t.sign()).double().mean(),
    }
    return {name: value.float() for name, value in values.items()}
