"""Methods of explanation, by captum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.explanation.adapter import Outputs
from src.models.heads.base import AttentionHead

INTEGRATION_STEPS = 32
# Windows of a quarter of the side hide a mouth or an eye; half of each overlaps the next.
WINDOWS_PER_SIDE = 4
AT_ONCE = 16


class Request(NamedTuple):
    """What is to be explained.

    Attributes:
        outputs: The model.
        layer: Layer whose map the CAM methods weigh.
        images: RGB in [0, 1], (B, 3, S, S).
        weights: What of the outputs, (B, n_outputs): their product is explained.
    """

    outputs: Outputs
    layer: nn.Module
    images: Tensor
    weights: Tensor


class Method(NamedTuple):
    """A method.

    Attributes:
        label: Its name in words.
        explain: Returns attribution, (B, S, S), of any scale; what is below 0 speaks against.
        reads_layer: Whether the map depends on the layer.
        has_target: Whether the map is about an output; else it is the same for all of them.
    """

    label: str
    explain: Callable[[Request], Tensor]
    reads_layer: bool = False
    has_target: bool = True


def _cam(name: str) -> Callable[[Request], Tensor]:
    """Return a CAM, by the name of captum's method that weighs the layer's map."""

    def explain(request: Request) -> Tensor:
        from captum import attr

        method = getattr(attr, name)(_score(request.outputs), request.layer)
        # Frozen networks record nothing for images that take no gradients.
        images = request.images.requires_grad_()
        weighed: Tensor = method.attribute(images, additional_forward_args=(request.weights,))
        return _enlarge(weighed.detach().sum(dim=1), request)

    return explain


def _eigencam(request: Request) -> Tensor:
    """Return the layer's map along its first principal component (Muhammad and Yeasin, IJCNN 2020).

    It points towards strong activations: a singular vector as such has no sign.
    """
    from captum.attr import LayerActivation

    activations: Tensor = LayerActivation(request.outputs, request.layer).attribute(request.images)
    # In double precision, as close singular values cost digits; on the CPU, as not every GPU has it.
    values = activations.cpu().double().nan_to_num().flatten(2)
    _, strengths, directions = torch.linalg.svd(values - values.mean(dim=2, keepdim=True), full_matrices=False)
    maps = strengths[:, :1] * directions[:, 0]
    sign = (maps * values.norm(dim=1)).sum(dim=1, keepdim=True).sign()
    return _enlarge((sign * maps).unflatten(1, activations.shape[2:]), request)


def _enlarge(maps: Tensor, request: Request) -> Tensor:
    """Return what is above 0 in maps (B, h, w), from the least of it up, interpolated to the images' size."""
    maps = maps.relu().unsqueeze(1)
    # Before as well as after: rounding would leave a pattern of a map that is the same everywhere.
    maps = maps - maps.amin(dim=(2, 3), keepdim=True)
    maps = F.interpolate(maps, size=request.images.shape[-2:], mode="bilinear")
    return (maps - maps.amin(dim=(2, 3), keepdim=True))[:, 0]


def _score(outputs: Outputs) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, weights: (outputs(images) * weights).sum(dim=1)


def _mean_color(images: Tensor) -> Tensor:
    """Return images without content, each of the mean color of one."""
    return images.detach().mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()


def _occlusion(request: Request) -> Tensor:
    from captum.attr import Occlusion

    window = request.images.shape[-1] // WINDOWS_PER_SIDE
    with torch.no_grad():
        effect: Tensor = Occlusion(_score(request.outputs)).attribute(
            request.images,
            sliding_window_shapes=(3, window, window),
            strides=(3, window // 2, window // 2),
            baselines=_mean_color(request.images),
            additional_forward_args=(request.weights,),
            perturbations_per_eval=4,
        )
    return effect.mean(dim=1)


def _integrated_gradients(request: Request) -> Tensor:
    from captum.attr import IntegratedGradients

    gradients: Tensor = IntegratedGradients(_score(request.outputs)).attribute(
        request.images.requires_grad_(),
        baselines=_mean_color(request.images),
        additional_forward_args=(request.weights,),
        n_steps=INTEGRATION_STEPS,
        internal_batch_size=4 * AT_ONCE,
    )
    return gradients.detach().sum(dim=1)


def _attention(request: Request) -> Tensor:
    """Return how much attention each position gets, averaged over the queries and the attention's heads.

    Every position is shown as the square it is: nothing is interpolated.
    """
    model = request.outputs.model
    head = cast(AttentionHead, model.head)
    with torch.no_grad():
        received = head.attention_weights(model.features(request.images)).mean(dim=(1, 2))
    side = math.isqrt(received.shape[-1])
    return F.interpolate(received.unflatten(-1, (1, side, side)), size=request.images.shape[-2:], mode="nearest")[:, 0]


METHODS: dict[str, Method] = {
    "gradcam": Method("Grad-CAM", _cam("LayerGradCam"), reads_layer=True),
    "hirescam": Method("HiResCAM", _cam("LayerGradientXActivation"), reads_layer=True),
    "eigencam": Method("EigenCAM", _eigencam, reads_layer=True, has_target=False),
    "occlusion": Method("Occlusion", _occlusion),
    "integrated_gradients": Method("Integrated gradients", _integrated_gradients),
    "attention": Method("Attention", _attention, has_target=False),
}
