"""Figures of pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from src.metrics.calibration import ReliabilityCurve

Floats = NDArray[np.float64]
Color = tuple[float, ...]


def colors(n: int) -> list[Color]:
    """Return n colors that can be told apart, up to 20."""
    palette = colormaps["tab10" if n <= 10 else "tab20"]
    return [tuple(palette(i % palette.N)) for i in range(n)]


def ranking_plot(
    names: Sequence[str], values: Floats, low: Floats, high: Floats, seeds: Sequence[Floats], title: str
) -> Figure:
    """Draw a score of each entry with its interval.

    Args:
        names: Names of E entries, best first.
        values: Means over seeds, (E,).
        low: Lower ends of the intervals over images, (E,).
        high: Upper ends, (E,).
        seeds: Scores of the single runs of each entry.
        title: Name of the score.
    """
    figure = Figure(figsize=(8.5, 1.0 + 0.42 * len(names)), layout="constrained")
    axis = figure.add_subplot()
    y = np.arange(len(names))
    axis.errorbar(values, y, xerr=np.maximum([values - low, high - values], 0), fmt="o", color="tab:blue", capsize=4)
    for i, runs in enumerate(seeds):
        if len(runs) > 1:
            axis.plot(runs, np.full(len(runs), i + 0.18), "|", color="tab:gray", markersize=8)
    axis.set_yticks(y, [_short(name) for name in names])
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel=title)
    axis.grid(axis="x", alpha=0.3)
    return figure


def class_f1_plot(names: Sequence[str], class_names: Sequence[str], values: Floats) -> Figure:
    """Draw the F1 of each class, (E, K), a color per entry."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axis = figure.add_subplot()
    width = 0.8 / len(names)
    x = np.arange(len(class_names))
    for i, (name, color) in enumerate(zip(names, colors(len(names)), strict=True)):
        axis.bar(x - 0.4 + width * (i + 0.5), values[i], width, color=color, label=_short(name))
    axis.set_xticks(x, list(class_names))
    axis.set(ylabel="F1", ylim=(0, 1))
    axis.grid(axis="y", alpha=0.3)
    _legend_below(figure, axis)
    return figure


def confusion_plot(class_names: Sequence[str], fractions: Floats, title: str, difference: bool = False) -> Figure:
    """Draw a confusion matrix.

    Args:
        class_names: Names of K classes.
        fractions: Fractions of each label, (K, K); or differences of two such matrices.
        title: Title.
        difference: Whether they are differences, shown in percentage points around white.
    """
    side = 1.9 + 0.46 * len(class_names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.add_subplot()
    limit = max(0.05, float(np.abs(fractions).max())) if difference else 1.0
    axis.imshow(fractions, cmap="RdBu" if difference else "Blues", vmin=-limit if difference else 0, vmax=limit)
    for i, j in np.ndindex(*fractions.shape):
        value = fractions[i, j]
        text = f"{100 * value:+.0f}" if difference else f"{value:.0%}"
        color = "white" if abs(value) > 0.6 * limit else "black"
        axis.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    axis.set_xticks(range(len(class_names)), list(class_names), rotation=45, ha="right")
    axis.set_yticks(range(len(class_names)), list(class_names))
    axis.set(xlabel="Predicted", ylabel="Label")
    axis.set_title(title, fontsize=9, wrap=True)
    return figure


def calibration_plot(curves: Mapping[str, ReliabilityCurve]) -> Figure:
    """Draw reliability curves by name; the area of a point grows with its images."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axis = figure.add_subplot()
    axis.plot([0, 1], [0, 1], "--", color="0.6", label="perfect")
    for (name, curve), color in zip(curves.items(), colors(len(curves)), strict=True):
        axis.plot(curve.confidence, curve.accuracy, color=color, label=_short(name))
        size = 8 + 90 * curve.count / curve.count.max()
        axis.scatter(curve.confidence, curve.accuracy, s=size, color=color, alpha=0.6)
    axis.set(xlabel="Confidence", ylabel="Fraction correct", xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    _legend_below(figure, axis)
    return figure


def learning_plot(histories: Mapping[str, Sequence[pd.DataFrame]], keys: Sequence[str]) -> Figure:
    """Draw learning curves over one another, a panel per metric, a color per entry, a line per run.

    Args:
        histories: Tables of the runs of each entry, with `epoch` from 0.
        keys: Metrics, such as `val/loss`.
    """
    figure = Figure(figsize=(3.6 * len(keys), 3.6), layout="constrained")
    for i, key in enumerate(keys):
        axis = figure.add_subplot(1, len(keys), i + 1)
        for (name, tables), color in zip(histories.items(), colors(len(histories)), strict=True):
            label: str | None = _short(name)
            for history in tables:
                if key in history:
                    # A line of one epoch would be nothing to see.
                    marker = "o" if len(history) == 1 else ""
                    axis.plot(
                        history["epoch"] + 1,
                        history[key],
                        color=color,
                        label=label,
                        linewidth=1.3,
                        alpha=0.85,
                        marker=marker,
                        markersize=4,
                    )
                    label = None
        axis.set(title=key, xlabel="Epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    _legend_below(figure, figure.axes[0])
    return figure


def lr_finder_plot(rates: Sequence[float], losses: Floats, smooth: Floats, suggestion: float | None) -> Figure:
    """Draw the loss over the learning rates that a training has passed through.

    Args:
        rates: Learning rates, rising, (N,).
        losses: Loss of the batch at each, (N,).
        smooth: Smoothed losses of the first M, (M,).
        suggestion: Rate to mark; None for none.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.add_subplot()
    axis.plot(rates, losses, ".", color="tab:gray", alpha=0.6, label="batches")
    axis.plot(rates[: len(smooth)], smooth, color="tab:blue", label="smoothed")
    if suggestion is not None:
        axis.axvline(suggestion, color="tab:red", linestyle="--", label=f"falls fastest: {suggestion:.1e}")
    axis.set(xscale="log", xlabel="Learning rate", ylabel="Training loss")
    if len(smooth):  # a loss that explodes would leave the rest flat
        low, start = float(smooth.min()), float(smooth[0])
        axis.set_ylim(low - 0.3 * abs(low), start + 0.7 * abs(start))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def _legend_below(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower left", ncols=2 if len(labels) > 4 else 1, fontsize=8)


def _short(name: str, length: int = 60) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
