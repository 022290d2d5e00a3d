"""`python -m studies.parallel_coordinates <sweep> <image>`: a sweep as W&B's panel of that name shows it."""

from __future__ import annotations

import argparse
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from src.runs import layout


def main() -> None:
    """Read the arguments, and write the figure."""
    parser = argparse.ArgumentParser(description="Draw a sweep: an axis an option, a line a run.")
    parser.add_argument("sweep", type=Path, help="folder of a sweep with its summary.csv")
    parser.add_argument("image", type=Path, help="PNG to write")
    parser.add_argument("--score", default="val/f1_macro", help="metric of the last axis and of the colors")
    given = parser.parse_args()
    table = pd.read_csv(given.sweep / layout.SUMMARY)
    names = [str(name) for name in table]
    options = names[3 : next(i for i, name in enumerate(names) if "/" in name)]  # after job, state and reason
    content = io.BytesIO()
    parallel_plot(table, [*options, given.score]).savefig(content, dpi=90)
    Image.open(content).quantize(64).save(given.image, optimize=True)  # a third of the size


def parallel_plot(table: pd.DataFrame, names: list[str]) -> Figure:
    """Draw an axis a column and a line a row, in the color of the last column.

    Args:
        table: Runs; text, numbers, and learning rates, whose axis is logarithmic.
        names: Columns, the score last.
    """
    finished = table.dropna(subset=[names[-1]]).sort_values(names[-1])
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axis = figure.add_subplot()
    heights = np.stack([_draw_axis(axis, x, finished[name]) for x, name in enumerate(names)], axis=1)
    scores = finished[names[-1]].to_numpy(float)
    norm, colors = Normalize(scores.min(), scores.max()), colormaps["plasma_r"]
    for row, score in zip(heights, scores, strict=True):
        points, codes = [(0.0, row[0])], [Curve.MOVETO]
        for x, (left, right) in enumerate(pairwise(row)):
            points += [(x + 0.4, left), (x + 0.6, right), (x + 1.0, right)]
            codes += [Curve.CURVE4] * 3
        axis.add_patch(PathPatch(Curve(points, codes), facecolor="none", edgecolor=colors(norm(score)), linewidth=1.8))
    axis.set_xticks(range(len(names)), names)
    axis.set(xlim=(-0.35, len(names) - 0.9), ylim=(-0.05, 1.05), yticks=[])
    axis.tick_params(axis="x", length=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(ScalarMappable(norm, colors), ax=axis, label=names[-1], pad=0.02)
    return figure


def _draw_axis(axis: Axes, x: int, column: pd.Series[float]) -> NDArray[np.float64]:
    """Draw a vertical line with the column's values, and return their heights on it, in [0, 1]."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(float)
        low, high = values.min(), values.max()
        ticks = np.unique(values) if column.nunique() <= 6 else MaxNLocator(6).tick_values(low, high)
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        scale = np.log10 if str(column.name).endswith("lr") else np.asarray
        labels = [f"{tick:.3g}" for tick in ticks]
        heights, places = ((scale(v) - scale(low)) / max(scale(high) - scale(low), 1e-12) for v in (values, ticks))
    else:
        labels = sorted(set(column.astype(str)))
        places = np.linspace(0, 1, len(labels)) if len(labels) > 1 else np.array([0.5])
        heights = places[[labels.index(value) for value in column.astype(str)]]
    axis.plot([x, x], [0, 1], color="0.3", linewidth=1)
    style: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 9, "zorder": 3}
    for place, label in zip(places, labels, strict=True):
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axis.annotate(label, (x, place), xytext=(-6, 0), textcoords="offset points", bbox=box, **style)
    return np.asarray(heights)


if __name__ == "__main__":
    main()
