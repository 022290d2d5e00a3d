"""What a model says about images."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from torch import Tensor

from src.models.landmarks import find_landmarks


class Prediction(NamedTuple):
    """Outputs for B images of side S.

    Attributes:
        logits: (B, n_classes).
        valence: (B,), or None if the head has no such output.
        arousal: (B,), likewise.
        second_logits: (B, n_second) of the model's other vocabulary, or None.
        heatmaps: Landmark heat maps of each hourglass, (B, 68, S/4, S/4) in iBUG order; empty unless they are a trained
            output and were asked for.
    """

    logits: Tensor
    valence: Tensor | None
    arousal: Tensor | None
    second_logits: Tensor | None = None
    heatmaps: tuple[Tensor, ...] = ()

    @property
    def heatmap(self) -> Tensor | None:
        """Final heat maps, (B, 68, S/4, S/4), or None."""
        return self.heatmaps[-1] if self.heatmaps else None

    @property
    def landmarks(self) -> Tensor | None:
        """Points (x, y) in pixels of the images, 0 being the center of the first one, (B, 68, 2), or None."""
        return None if self.heatmap is None else find_landmarks(self.heatmap)


class EvaluationOutput(TypedDict):
    """What an evaluation step hands to the callbacks.

    Attributes:
        row: Row of the store, (B,).
        label: Class index, (B,).
        probabilities: (B, n_classes), 0 for classes that the data set lacks.
        valence: (B,), or None.
        arousal: (B,), or None.
    """

    row: Tensor
    label: Tensor
    probabilities: Tensor
    valence: Tensor | None
    arousal: Tensor | None
