"""What is written about the test split: predictions, confidence intervals, figures on the cleaned split."""

from __future__ import annotations

import pandas as pd
from pytorch_lightning import Trainer
from torch import Tensor

from src.callbacks.test_table import TestSetCallback, TestTable
from src.metrics.classification import evaluate_table
from src.metrics.intervals import bootstrap_intervals

Results = dict[str, float | int | list[float]]


class PredictionsCsv(TestSetCallback):
    """Writes `predictions.csv`, a row per test picture."""

    def on_table(self, trainer: Trainer, table: TestTable) -> None:
        """Write the file."""
        names = table.class_names
        columns = {
            "id": table.ids,
            "split": "test",
            "label": [names[i] for i in table.labels],
            "prediction": [names[i] for i in table.predictions],
            "in_dedup": table.in_dedup.numpy(),
            **{name: table.probabilities[:, i].numpy() for i, name in enumerate(names)},
        }
        if table.valence is not None and table.arousal is not None:
            columns |= {"valence": table.valence.numpy(), "arousal": table.arousal.numpy()}
        pd.DataFrame(columns).to_csv(self.run_dir / "predictions.csv", index=False)


class ConfidenceIntervals(TestSetCallback):
    """Adds bootstrap intervals, picture counts and the metrics on test pictures without copies.

    Attributes:
        results: Metrics by name, for `metrics.json`; empty before the test.
    """

    def __init__(self, run_dir: str) -> None:
        """Create the callback.

        Args:
            run_dir: Run directory.
        """
        super().__init__(run_dir)
        self.results: Results = {}

    def on_table(self, trainer: Trainer, table: TestTable) -> None:
        """Compute the numbers."""
        self.results = {"test/n": len(table), "test/n_unmapped": table.n_unmapped}
        self.results |= _intervals("test", table.labels, table.predictions, table.class_names)
        kept = table.in_dedup
        if 0 < int(kept.sum()) < len(table):
            labels, probabilities = table.labels[kept], table.probabilities[kept]
            metrics = evaluate_table(probabilities, labels, table.class_names)
            self.results |= {f"test_dedup/{name}": value for name, value in metrics.items()}
            self.results["test_dedup/n"] = len(labels)
            self.results |= _intervals("test_dedup", labels, probabilities.argmax(dim=1), table.class_names)


def _intervals(prefix: str, labels: Tensor, predictions: Tensor, names: tuple[str, ...]) -> Results:
    intervals = bootstrap_intervals(labels.numpy(), predictions.numpy(), len(names))
    return {f"{prefix}/{name}_ci95": bounds for name, bounds in intervals.items()}
