"""How good maps of attribution are: what happens when the pixels that they name come, and when they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from src.metrics.intervals import mean_interval

STEPS = 16
# Standard deviation of the blur, as a fraction of the side: what is left shows a face, but no mouth, brow or eye.
BLUR = 1 / 8
# Random maps have blobs of the size of what CAM methods name, not single pixels.
RANDOM_SIDE = 8


class Scores(NamedTuple):
    """Scores of the maps of N images.

    Attributes:
        insertion: Mean probability while the pixels come, those of most attribution first, (N,); the higher the better.
        deletion: Mean probability while they go, (N,); the lower the better.
    """

    insertion: Tensor
    deletion: Tensor

    @property
    def gain(self) -> Tensor:
        """Insertion minus deletion, (N,): 0 for an order that knows nothing, on average."""
        return self.insertion - self.deletion


def score_maps(
    probability: Callable[[Tensor, Tensor], Tensor], images: Tensor, maps: Tensor, classes: Tensor
) -> Scores:
    """Return the insertion and deletion scores of maps (Petsiuk et al., BMVC 2018).

    Pixels come into, and go back to, the blurred image, so that both curves join the same two ends.

    Args:
        probability: Returns the probability (B,) of classes (B,) for images (B, 3, S, S).
        images: RGB in [0, 1], (N, 3, S, S).
        maps: Attribution, (N, S, S); ties are broken at random.
        classes: Class indices whose probability is watched, (N,).
    """
    size = images.shape[-1]
    blurred = blur(images)
    ranks = _ranks(maps)
    insertion, deletion = [], []
    for step in range(STEPS + 1):
        named = (ranks < step / STEPS * size**2).unsqueeze(1)
        insertion.append(probability(torch.where(named, images, blurred), classes))
        deletion.append(probability(torch.where(named, blurred, images), classes))
    areas = [torch.trapezoid(torch.stack(curve), dx=1 / STEPS, dim=0) for curve in (insertion, deletion)]
    return Scores(*areas)


def blur(images: Tensor) -> Tensor:
    """Return images in which nothing smaller than an eighth of the side is left."""
    sigma = BLUR * images.shape[-1]
    return torch.as_tensor(gaussian_blur(images, kernel_size=[2 * int(2 * sigma) + 1] * 2, sigma=[sigma, sigma]))


def random_maps(n: int, size: int) -> Tensor:
    """Return smooth noise, (n, size, size), the same at every call: the maps that others must beat."""
    noise = torch.rand(n, 1, RANDOM_SIDE, RANDOM_SIDE, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def summarize(scores: Scores, control: Scores) -> dict[str, dict[str, Any]]:
    """Return means with 95 % bootstrap intervals over images.

    Args:
        scores: Of a method.
        control: Of random maps of the same images.

    Returns:
        `insertion`, `deletion`, `gain` (insertion minus deletion) and `gain_over_random`, each with `mean` and `ci95`.
    """
    values = {
        "insertion": scores.insertion,
        "deletion": scores.deletion,
        "gain": scores.gain,
        "gain_over_random": scores.gain - control.gain,
    }
    return {
        name: {"mean": float(value.mean()), "ci95": mean_interval(value.double().numpy())}
        for name, value in values.items()
    }


def _ranks(maps: Tensor) -> Tensor:
    """Return each pixel's place in the order of attribution, (N, S, S), 0 for the most."""
    flat = maps.flatten(1)
    shuffled = torch.rand(flat.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    order = shuffled.gather(1, flat.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    return order.argsort(dim=1).view_as(maps)
