"""What Weights & Biases shows of an evaluation: interactive charts, and a table of the worst mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import wandb
from pytorch_lightning import Trainer
from torchmetrics.functional.classification import multiclass_precision_recall_curve

from src.callbacks.evaluation_table import EvaluationTable, EvaluationTableWriter, Results
from src.loggers.wandb_logger import run_loggers
from src.reports.run_report import worst_mistakes

RECALLS = np.linspace(0, 1, 101)


class WandbCharts(EvaluationTableWriter):
    """Logs the confusion matrix and the precision-recall curves as charts of W&B, if it is on."""

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Log `<split>/confusion_matrix` and `<split>/precision_recall`."""
        for logger in run_loggers(trainer.loggers):
            confusion = wandb.plot.confusion_matrix(
                y_true=table.labels.tolist(),
                preds=table.predictions.tolist(),
                class_names=list(table.class_names),
                title=f"Confusion matrix, {table.split} split",
            )
            curves = wandb.plot_table(
                vega_spec_name="wandb/area-under-curve/v0",
                data_table=wandb.Table(dataframe=precision_recall_curves(table)),
                fields={"x": "recall", "y": "precision", "class": "class"},
                string_fields={
                    "title": f"Precision-recall, {table.split} split",
                    "x-axis-title": "Recall",
                    "y-axis-title": "Precision",
                },
            )
            charts = {f"{table.split}/confusion_matrix": confusion, f"{table.split}/precision_recall": curves}
            logger.log_metrics(charts)
        return {}


def precision_recall_curves(table: EvaluationTable) -> pd.DataFrame:
    """Return the curve of each class that is among the labels, one against the rest.

    Returns:
        Columns `class`, `recall` (101 values in [0, 1] a class) and `precision`, the largest at that recall or more.
    """
    precision, recall, _ = multiclass_precision_recall_curve(table.probabilities, table.labels, len(table.class_names))
    curves = []
    for i, name in enumerate(table.class_names):
        if bool((table.labels == i).any()):
            r, p = recall[i].numpy(), np.maximum.accumulate(precision[i].numpy())  # recall falls along the curve
            at = len(r) - 1 - np.searchsorted(r[::-1], RECALLS)
            curves.append(pd.DataFrame({"class": name, "recall": RECALLS, "precision": p[at]}))
    return pd.concat(curves, ignore_index=True)


class MistakesTable(EvaluationTableWriter):
    """Logs the worst mistakes as a table of W&B, if it is on.

    Images of people are part of it only with `logger.wandb.log_images=true`; synthetic faces always are.
    """

    def __init__(self, n: int) -> None:
        """Create the writer.

        Args:
            n: Largest number of mistakes.
        """
        self.n = n

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Log `<split>/mistakes`."""
        mistakes = worst_mistakes(table.to_frame(), self.n)
        for logger in run_loggers(trainer.loggers):
            shown = mistakes
            if logger.takes_images or not table.shows_people:
                row = dict(zip(table.ids, table.rows.tolist(), strict=True))
                images = [wandb.Image(table.store.image(row[name])) for name in mistakes["id"]]
                shown = mistakes.assign(image=images)
            logger.log_metrics({f"{table.split}/mistakes": wandb.Table(dataframe=shown)})
        return {}
