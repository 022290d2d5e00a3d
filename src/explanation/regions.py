"""Which parts of a face the attribution falls on, by its landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from src.metrics.intervals import mean_interval
from src.metrics.landmarks import EYE_CORNERS
from src.utils.atomic_files import atomic_write

# Of the 68 iBUG points, those around each part; where parts overlap, the first one has the pixel.
OUTLINES = {
    "eyes": (range(36, 42), range(42, 48)),
    "brows": (range(17, 22), range(22, 27)),
    "mouth": (range(48, 68),),
    "nose": (range(27, 36),),
    "rest of the face": (range(68),),
}
REGIONS = (*OUTLINES, "around the face")
# Landmarks lie on the edge of what is seen: parts reach this fraction of the distance of the outer eye corners beyond.
MARGIN = 0.08
ALL = "all"
Table = dict[str, dict[str, dict[str, Any]]]


def region_map(points: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Return which of `REGIONS` each pixel of a face belongs to, (size, size).

    Args:
        points: x and y of the 68 points in pixels, 0 being the center of the first one, (68, 2).
        size: Side of the image.
    """
    left, right = points[list(EYE_CORNERS)]
    reach = 2 * round(MARGIN * float(np.linalg.norm(left - right))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    regions = np.full((size, size), len(OUTLINES), np.int64)
    for index, outlines in reversed(list(enumerate(OUTLINES.values()))):
        mask = np.zeros((size, size), np.uint8)
        for outline in outlines:
            hull = cv2.convexHull(points[list(outline)].round().astype(np.int32))
            cv2.fillConvexPoly(mask, hull, 1)
        regions[cv2.dilate(mask, kernel) > 0] = index
    return regions


def region_fractions(maps: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much of each map's attribution falls on each region, and how much of the image the region is.

    Args:
        maps: Attribution, 0 or more, (N, S, S).
        landmarks: (N, 68, 2) in pixels, NaN where missing.

    Returns:
        Fractions of attribution and of pixels, (N, len(REGIONS)) each; NaN for images without landmarks or attribution.
    """
    fractions, areas = torch.full((2, len(maps), len(REGIONS)), torch.nan)
    for i, (attribution, points) in enumerate(zip(maps, landmarks, strict=True)):
        if bool(points.isnan().any()) or not bool(attribution.sum() > 0):
            continue
        regions = torch.from_numpy(region_map(points.numpy().astype(np.float32), attribution.shape[-1])).flatten()
        weights = torch.bincount(regions, attribution.flatten().double(), minlength=len(REGIONS))
        fractions[i] = (weights / weights.sum()).float()
        areas[i] = torch.bincount(regions, minlength=len(REGIONS)) / len(regions)
    return fractions, areas


def summarize_regions(fractions: Tensor, areas: Tensor, classes: Tensor, names: Sequence[str]) -> Table:
    """Return class -> region -> mean fraction of the attribution, its 95 % interval, and mean fraction of the image.

    Args:
        fractions: See `region_fractions`.
        areas: See there.
        classes: Index of the class that each map is for, (N,).
        names: Names of the classes; those without a map are left out, and `all` comes last.
    """
    known = ~fractions[:, 0].isnan()
    table = {}
    for index, name in [*enumerate(names), (None, ALL)]:
        chosen = known if index is None else known & (classes == index)
        if bool(chosen.any()):
            table[name] = {
                region: {
                    "mean": float(fractions[chosen, i].mean()),
                    "ci95": mean_interval(fractions[chosen, i].double().numpy()),
                    "area": float(areas[chosen, i].mean()),
                    "n": int(chosen.sum()),
                }
                for i, region in enumerate(REGIONS)
            }
    return table


def draw_regions(path: Path, title: str, table: Table) -> Path:
    """Draw a bar per class, divided by region, and below how much of the image the regions are.

    Args:
        path: PNG file to write; its folder is made.
        title: Title of the figure.
        table: See `summarize_regions`.
    """
    rows = {f"{name} ({entry['eyes']['n']})": [entry[r]["mean"] for r in REGIONS] for name, entry in table.items()}
    rows["of the image"] = [table[ALL][region]["area"] for region in REGIONS]
    figure = Figure(figsize=(8, 1.4 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    left = np.zeros(len(rows))
    values = 100 * np.array(list(rows.values()))
    colors = ["#3b6fb6", "#7fb2e5", "#c8503c", "#e8a33d", "#b9b9b9", "#ededed"]
    for i, region in enumerate(REGIONS):
        axis.barh(list(rows), values[:, i], left=left, label=region, color=colors[i], edgecolor="white")
        for y, (start, width) in enumerate(zip(left, values[:, i], strict=True)):
            if width >= 6:
                axis.text(start + width / 2, y, f"{width:.0f}", ha="center", va="center", fontsize=8)
        left += values[:, i]
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="percent of the attribution; last bar: percent of the pixels")
    axis.set_title(title, fontsize=10)
    figure.legend(ncols=len(REGIONS), fontsize=8, loc="outside lower center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as scratch:
        figure.savefig(scratch, dpi=110, format="png")
    return path
