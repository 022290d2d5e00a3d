"""Facial landmarks and their heat maps.

Points are x and y in pixels of a square image, 0 being the center of the first pixel; the edges of a heat map are
those of the image, whose side is 4 times theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.emonet import STEM_STRIDE, EmoNet

# Of a landmark's Gaussian, in cells of the map (Newell et al., ECCV 2016, section 3.4; FAN builds on it).
SIGMA = 1.0
# Norm of what gives a heat map of an hourglass but the last, where landmarks start: near the size of their Gaussians.
START = 0.1


def draw_heatmaps(landmarks: Tensor, side: int) -> Tensor:
    """Return the heat maps that a network should give: a Gaussian of peak 1 around each landmark.

    Args:
        landmarks: (B, 68, 2), inside the image or outside; NaN where missing.
        side: Side of the heat maps.

    Returns:
        (B, 68, side, side); NaN where a landmark is missing.
    """
    centers = (landmarks + 0.5) / STEM_STRIDE - 0.5
    cells = torch.arange(side, device=landmarks.device, dtype=landmarks.dtype)
    x, y = torch.exp(-((centers.unsqueeze(-1) - cells) ** 2) / (2 * SIGMA**2)).unbind(dim=2)
    return y.unsqueeze(-1) * x.unsqueeze(-2)


def heatmap_loss(heatmaps: Sequence[Tensor], landmarks: Tensor) -> Tensor:
    """Return the squared error of the heat maps of all hourglasses, as a fraction of the targets' own square.

    FAN regresses every hourglass's maps (Bulat and Tzimiropoulos, ICCV 2017). Divided by the targets' square, the
    error of blank maps is 1 whatever the maps' side.

    Args:
        heatmaps: Of each hourglass, (B, 68, side, side).
        landmarks: (B, 68, 2); NaN where missing.

    Returns:
        The loss; 0, with a zero gradient, if all landmarks are missing.
    """
    target = draw_heatmaps(landmarks.float(), heatmaps[0].shape[-1])
    known = ~torch.isnan(target)
    target = target.nan_to_num()
    energy = target.square().sum()
    energy = torch.where(energy > 0, energy, torch.inf)
    errors = [((maps.float() - target).square() * known).sum() / energy for maps in heatmaps]
    return torch.stack(errors).mean()


@torch.no_grad()
def start_heatmaps(backbone: EmoNet) -> None:
    """Shrink heat maps that no landmark was ever asked of, so that landmarks can be trained; the features stay.

    All maps of the last hourglass become their mean, whose 68-fold is the mask as before; those of the others are
    scaled, and what reads them by the inverse.

    Args:
        backbone: The network, which is changed.
    """
    *others, last = (cast(nn.Conv2d, backbone.get_submodule(f"l{i}")) for i in range(backbone.n_hourglass))
    for parameter in last.parameters():
        parameter.copy_(parameter.mean(dim=0, keepdim=True).expand_as(parameter))
    for i, layer in enumerate(others):
        reader = cast(nn.Conv2d, backbone.get_submodule(f"al{i}"))
        factor = START / layer.weight.flatten(1).norm(dim=1).clamp(min=START)
        layer.weight.mul_(factor[:, None, None, None])
        cast(Tensor, layer.bias).mul_(factor)
        reader.weight.div_(factor[None, :, None, None])


def find_landmarks(heatmap: Tensor) -> Tensor:
    """Return the landmarks that heat maps show.

    The peak's place between cells is where a Gaussian through the largest value and its two neighbors, in each
    direction, has its top (the idea of Zhang et al., CVPR 2020, in one dimension at a time).

    Args:
        heatmap: (B, 68, side, side).

    Returns:
        (B, 68, 2), float32.
    """
    maps = heatmap.detach().float()
    side = maps.shape[-1]
    peak, index = maps.flatten(2).max(dim=-1)
    row, column = index // side, index % side
    # Values of 0 or less have no logarithm, and say nothing about a top between cells. Neither does the edge: mirrored,
    # it leaves the top in the middle of its cell.
    logs = F.pad((maps / peak.clamp_min(1e-12)[..., None, None]).clamp_min(1e-4).log(), (1, 1, 1, 1), mode="reflect")
    along_x = torch.gather(logs, 2, (row + 1)[..., None, None].expand(-1, -1, 1, side + 2)).squeeze(2)
    along_y = torch.gather(logs, 3, (column + 1)[..., None, None].expand(-1, -1, side + 2, 1)).squeeze(3)
    cells = torch.stack((column + _top(along_x, column), row + _top(along_y, row)), dim=-1)
    return (cells + 0.5) * STEM_STRIDE - 0.5


def _top(values: Tensor, peak: Tensor) -> Tensor:
    """Return where a parabola around the peak of (..., side + 2) padded values is largest, in [-0.5, 0.5] cells."""
    before, top, after = (values.gather(-1, (peak + i).unsqueeze(-1)).squeeze(-1) for i in range(3))
    bend = 2 * top - before - after
    return ((after - before) / (2 * bend.clamp_min(1e-6))).clamp(-0.5, 0.5)
