"""Figures of a run: learning curves, confusion matrix, precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pytorch_lightning import Trainer
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_precision_recall_curve

from src.callbacks.evaluation_table import EvaluationTable, EvaluationTableWriter, Results
from src.metrics.intervals import label_fractions
from src.runs import layout
from src.utils.atomic_files import atomic_write

PANELS = (("loss", "Loss"), ("accuracy", "Accuracy"), ("f1_macro", "Macro F1"))
SPLIT_TITLES = {"val": "Validation", "test": "Test"}
COLORS = {"train": "tab:gray", "val": "tab:blue"}


def draw_learning_curves(history: Sequence[dict[str, float]], run_dir: Path) -> Path:
    """Draw the curves of training and validation.

    Args:
        history: One dictionary per epoch, with `epoch` and names such as `val/accuracy`.
        run_dir: Run directory.

    Returns:
        The file written, `figures/learning_curves.png`.
    """
    table = pd.DataFrame(history)
    figure, axes = _panels(len(PANELS))
    for (key, title), axis in zip(PANELS, axes, strict=True):
        for split, color in COLORS.items():
            if f"{split}/{key}" in table:
                axis.plot(table["epoch"] + 1, table[f"{split}/{key}"], marker=".", color=color, label=split)
        axis.set(title=title, xlabel="Epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    return _save(figure, run_dir / layout.LEARNING_CURVES)


class ConfusionMatrix(EvaluationTableWriter):
    """Draws the confusion matrix of the test split, in images and as fractions of each class."""

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Write `figures/confusion_matrix.png`."""
        names = table.class_names
        counts = multiclass_confusion_matrix(table.predictions, table.labels, len(names)).numpy()
        fractions = label_fractions(counts)
        side = 2.4 + 0.62 * len(names)
        figure, (axis,) = _panels(1, width=side, height=side)
        axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(*counts.shape):
            color = "white" if fractions[i, j] > 0.5 else "black"
            axis.text(j, i, f"{fractions[i, j]:.0%}\n{counts[i, j]}", ha="center", va="center", color=color, fontsize=8)
        axis.set(
            xlabel="Predicted",
            ylabel="Label",
            title=f"{SPLIT_TITLES[table.split]} accuracy {table.accuracy:.1%} (n = {len(table)})",
        )
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(names)), names)
        _save(figure, run_dir / layout.CONFUSION_MATRIX)
        return {}


class PrecisionRecall(EvaluationTableWriter):
    """Draws the precision-recall curve of each class of the test split, one against the rest."""

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Write `figures/precision_recall.png`."""
        n = len(table.class_names)
        precision, recall, _ = multiclass_precision_recall_curve(table.probabilities, table.labels, n)
        figure, (axis,) = _panels(1, width=5.6, height=5)
        for i, name in enumerate(table.class_names):
            if bool((table.labels == i).any()):
                p, r = precision[i].numpy(), recall[i].numpy()
                average = float(-np.sum(np.diff(r) * p[:-1]))
                axis.plot(r, p, label=f"{name} (AP {average:.2f})")
        axis.set(
            xlabel="Recall",
            ylabel="Precision",
            xlim=(0, 1),
            ylim=(0, 1.02),
            title=f"Precision-recall, {table.split} split",
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        _save(figure, run_dir / layout.PRECISION_RECALL)
        return {}


def _panels(n: int, width: float = 4.0, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * n, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, n, i + 1) for i in range(n)]


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as scratch:
        figure.savefig(scratch, dpi=120, format="png")
    return path
