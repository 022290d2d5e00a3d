"""Panels of explained images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from src.explanation.explainer import Explainer
from src.explanation.images import Images
from src.explanation.methods import METHODS
from src.explanation.targets import Target
from src.utils.atomic_files import atomic_write

CELL = 1.55
LEFT = 1.75
DPI = 110
# Most of the attribution hides half of the image, none hides nothing.
OPACITY = 0.65
COLORS = "inferno"
BRIGHT = 0.995


@dataclass(frozen=True)
class MapRow:
    """A row of a panel: one method, one kind of target.

    Attributes:
        heading: What the row shows.
        maps: Maps in [0, 1], (N, S, S).
        titles: What each map is about, (N,); empty strings for nothing to add.
    """

    heading: str
    maps: Tensor
    titles: Sequence[str]


def explain_row(explain: Explainer, images: Images, targets: Sequence[Target], what: str = "") -> MapRow:
    """Return a row of maps; its heading says what they show, if given, and how they were made."""
    heading = f"{what}\n{explain.heading}".lstrip()
    titles = [str(target) if METHODS[explain.method].has_target else "" for target in targets]
    return MapRow(heading, explain(images.images, targets), titles)


def draw_panel(path: Path, title: str, images: Images, rows: Sequence[MapRow]) -> Path:
    """Draw images side by side, and below each its maps.

    Args:
        path: PNG file to write; its folder is made.
        title: Title of the panel.
        images: The images, N; landmarks are drawn on them where the model has any.
        rows: Rows of maps.

    Returns:
        The file.
    """
    n, height = len(images.ids), CELL * 1.16
    figure = Figure(figsize=(LEFT + CELL * n, 0.75 + height * (1 + len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(1 + len(rows), n, squeeze=False)
    for column in range(n):
        axis = axes[0, column]
        _show(axis, images.images[column])
        axis.set_title(_caption(images, column), fontsize=8)
        if images.landmarks is not None:
            x, y = images.landmarks[column].numpy().T
            axis.plot(x, y, ".", markersize=2, color="cyan", scalex=False, scaley=False)
    notes = "landmarks found" if images.landmarks is not None else ""
    _head(axes[0, 0], f"image\n{notes}".rstrip())
    for row, axis_row in zip(rows, axes[1:], strict=True):
        for column, axis in enumerate(axis_row):
            _show(axis, images.images[column])
            _overlay(axis, row.maps[column])
            axis.set_title(row.titles[column], fontsize=7, pad=2)
        _head(axis_row[0], row.heading)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as scratch:
        figure.savefig(scratch, dpi=DPI, format="png")
    return path


def _caption(images: Images, i: int) -> str:
    label, predicted = images.class_names[int(images.labels[i])], int(images.classes[i])
    fraction = f"{float(images.probabilities[i, predicted]):.0%}"
    if int(images.labels[i]) == predicted:
        return f"{label}\nright, {fraction}"
    return f"{label}\ntaken for {images.class_names[predicted]}, {fraction}"


def _head(axis: Axes, text: str) -> None:
    axis.set_ylabel(text, fontsize=7.5, rotation=0, ha="right", va="center", labelpad=6)


def _show(axis: Axes, image: Tensor) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy().clip(0, 1))
    axis.set(xticks=[], yticks=[])


def _overlay(axis: Axes, attribution: Tensor) -> None:
    # A few pixels with most of the attribution would leave the others dark.
    values = (attribution / attribution.quantile(BRIGHT).clamp_min(1e-6)).clamp_max(1).numpy()
    # Nearest: the map already has the image's size, and its cells are to be seen where it has any.
    axis.imshow(values, cmap=COLORS, vmin=0, vmax=1, alpha=OPACITY * np.sqrt(values), interpolation="nearest")
