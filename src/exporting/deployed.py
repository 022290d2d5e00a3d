"""The network as it is deployed: pixels in, named outputs out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.models.classifier import ExpressionClassifier
from src.models.onnx_metadata import PROBABILITIES, named_outputs, probabilities_name
from src.models.spec import ModelSpec
from src.utils.errors import ConfigError

# OpenCV's RGB2GRAY for 8 bits, with which data sets are made gray: BT.601's luma in units of 2**-15.
LUMA, LUMA_SHIFT = (9798, 19235, 3735), 15


class DeployedModel(nn.Module):
    """A classifier from 8-bit images to a tuple of outputs, normalization and removal of colors included.

    Attributes:
        output_names: Names of the outputs, see `src.models.onnx_metadata`.
        spec: What it holds: the chosen classification, a second one if there is one, and the outputs that it gives.
    """

    def __init__(self, model: ExpressionClassifier, extra_outputs: tuple[str, ...] = ()) -> None:
        """Copy a model, in evaluation mode.

        Args:
            model: The model.
            extra_outputs: `heatmap` and `landmarks`, besides those that are always there where trained.

        Raises:
            ConfigError: If an output is asked for that was not trained.
        """
        super().__init__()
        spec = model.spec
        if extra_outputs and "landmarks" not in spec.outputs:
            raise ConfigError(
                f"onnx.extra_outputs={list(extra_outputs)}, but the landmarks of this model are not trained (its "
                f"outputs: {', '.join(spec.outputs)}); leave onnx.extra_outputs out."
            )
        affect = ("valence", "arousal") if "valence_arousal" in spec.outputs else ()
        second = () if spec.second_vocabulary is None else (probabilities_name(spec.second_vocabulary),)
        self.output_names = (PROBABILITIES, *second, *affect, *extra_outputs)
        given = [name for name in spec.outputs if name != "landmarks" or "landmarks" in extra_outputs]
        self.spec: ModelSpec = replace(spec, temperatures={}, outputs=tuple(given))
        self.model = fold_batch_norm(deepcopy(model).cpu().float()).eval()
        self._trained = spec
        self.grayscale, self.landmarks = spec.grayscale, bool(extra_outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map RGB images in [0, 255], uint8 (B, 3, S, S), to the outputs."""
        pixels = images
        if self.grayscale:
            red, green, blue = images.int().split(1, dim=1)
            luma = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + (1 << LUMA_SHIFT - 1)
            pixels = torch.div(luma, 1 << LUMA_SHIFT, rounding_mode="trunc").expand(-1, 3, -1, -1)
        prediction = self.model(pixels.float() / 255, landmarks=self.landmarks)
        outputs = named_outputs(prediction, self._trained)
        return tuple(cast(Tensor, outputs[name]) for name in self.output_names)


def fold_batch_norm(model: ExpressionClassifier) -> ExpressionClassifier:
    """Replace the statistics of every batch-norm by mean 0 and variance 1, within scale and shift, in place.

    EmoNet's batch-norms come before activations, so that exporters cannot fold them into convolutions; their variances
    exceed the range of half precision, which the scales do not.
    """
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
                norm.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
                norm.weight.copy_(scale)
                norm.running_mean.zero_()
                norm.running_var.fill_(1 - norm.eps)
    return model
