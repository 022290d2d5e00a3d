"""Methods of explanation, by grad-cam and captum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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
    """Return a method of grad-cam; its maps are interpolated bilinearly."""

    def explain(request: Request) -> Tensor:
        import pytorch_grad_cam

        kind = _oriented_eigen_cam() if name == "EigenCAM" else getattr(pytorch_grad_cam, name)
        cam = kind(model=request.outputs, target_layers=[request.layer])
        try:
            maps = cam(input_tensor=request.images.requires_grad_(), targets=[_Score(row) for row in request.weights])
        finally:
            # Not its `with`, which swallows an IndexError.
            cam.activations_and_grads.release()
        return torch.from_numpy(maps)

    return explain


class _Score:
    """Turns an image's outputs into the number that is explained."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def __call__(self, outputs: Tensor) -> Tensor:
        return (outputs * self.weights).sum()


def _oriented_eigen_cam() -> Any:
    """Return EigenCAM whose maps point towards strong activations: a singular vector as such has no sign."""
    from pytorch_grad_cam import EigenCAM

    class OrientedEigenCam(EigenCAM):  # type: ignore[misc]  # grad-cam is untyped
        def get_cam_image(self, *arguments: Any, **options: Any) -> NDArray[np.float32]:
            maps = super().get_cam_image(*arguments, **options)
            strength = np.linalg.norm(arguments[3], axis=1)
            strength = strength - strength.mean(axis=(1, 2), keepdims=True)
            signs = np.where((maps * strength).sum(axis=(1, 2), keepdims=True) < 0, -1, 1)
            return np.asarray(maps * signs, dtype=np.float32)

    return OrientedEigenCam


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
    "gradcam": Method("Grad-CAM", _cam("GradCAM"), reads_layer=True),
    "hirescam": Method("HiResCAM", _cam("HiResCAM"), reads_layer=True),
    "eigencam": Method("EigenCAM", _cam("EigenCAM"), reads_layer=True, has_target=False),
    "occlusion": Method("Occlusion", _occlusion),
    "integrated_gradients": Method("Integrated gradients", _integrated_gradients),
    "attention": Method("Attention", _attention, has_target=False),
}
