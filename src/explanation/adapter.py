"""A classifier as libraries of explanations want it: one tensor of outputs, gradients that reach the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from src.models.arguments import TAPS, Tap
from src.models.classifier import ExpressionClassifier
from src.models.emonet import tap_side
from src.utils.errors import ConfigError

# On a coarser map a cell is a quarter of a face or more: it says no longer where.
MIN_SIDE = 8


class Outputs(nn.Module):
    """Logits of the classes, then valence and arousal where they are trained, as one tensor."""

    def __init__(self, model: ExpressionClassifier) -> None:
        """Wrap a model.

        Args:
            model: The model.
        """
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Map RGB images in [0, 1], (B, 3, S, S), to (B, n_outputs) in the order of `output_names`."""
        prediction = self.model(image)
        parts = [prediction.logits]
        if "valence_arousal" in self.model.spec.outputs:
            parts += [prediction.valence.unsqueeze(1), prediction.arousal.unsqueeze(1)]
        return torch.cat(parts, dim=1)


@contextmanager
def explainable(model: ExpressionClassifier) -> Iterator[Outputs]:
    """Make a model explainable for a while.

    Meanwhile it is in evaluation mode and its parameters take no gradients, only the image does, so that a frozen
    model can be explained and neither buffers nor gradients change. Autograd records even where Lightning has
    switched it off. Afterwards every module's mode and every parameter's flag are as before.

    Args:
        model: The model.

    Yields:
        Its outputs as one tensor.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    device = next(model.parameters()).device.type
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            model.eval().requires_grad_(False)
            yield Outputs(model)
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class Layer(NamedTuple):
    """A layer whose map is explained.

    Attributes:
        name: A tap, or the name of a module.
        module: The module that gives the map.
        side: Side of the map.
    """

    name: str
    module: nn.Module
    side: int


def find_layer(model: ExpressionClassifier, name: str | None = None) -> Layer:
    """Return the layer to explain.

    Args:
        model: The model.
        name: A tap on the way to the head (`fused`, `emotion2`, `emotion`) or a module, such as `head.reduce`; None for
            the deepest tap on the way whose map has a side of 8 or more, `fused` if there is none.

    Raises:
        ConfigError: If there is no such layer, or it gives no map.
    """
    taps = _taps(model)
    if name is None:
        sides = {tap: tap_side(tap, model.spec.image_size, int(model.spec.backbone["n_blocks"])) for tap in taps}
        name = [tap for tap in taps if sides[tap] >= MIN_SIDE or tap == "fused"][-1]
    modules = dict(model.named_modules())
    module = modules.get(taps.get(cast(Tap, name), name))
    if module is None or not name:
        raise ConfigError(
            f"explain.layer={name} is no layer of the model; expected one of {', '.join(taps)}, or the name of a "
            "module, such as backbone.conv4."
        )
    side = _map_side(model, module)
    if side is None:
        raise ConfigError(
            f"explain.layer={name} gives no map of 2 x 2 or more for an image; expected one of {', '.join(taps)}, or "
            "the name of a module that does, such as backbone.conv4."
        )
    return Layer(name, module, side)


def _taps(model: ExpressionClassifier) -> dict[Tap, str]:
    """Return the taps that give maps, up to the head's, and the names of their modules."""
    blocks = 2 * int(model.spec.backbone["n_blocks"])
    modules: dict[Tap, str] = {
        "fused": "backbone.conv1x1_input_emo_2",
        "emotion2": "backbone.emo_net_2.3",
        "emotion": f"backbone.emo_net_2.{blocks - 1}",
    }
    return {tap: modules[tap] for tap in TAPS[: TAPS.index(model.head.tap) + 1] if tap in modules}


def _map_side(model: ExpressionClassifier, module: nn.Module) -> int | None:
    """Return the side of the map that a module gives for an image; None if it gives none of 2 x 2 or more."""
    shapes: list[torch.Size] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes.append(output.shape)

    hook = module.register_forward_hook(keep)
    try:
        with explainable(model), torch.no_grad():
            size = model.spec.image_size
            model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    finally:
        hook.remove()
    usable = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][-1] > 1
    return int(shapes[0][-1]) if usable else None
