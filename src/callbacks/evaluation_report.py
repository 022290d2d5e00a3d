"""Numbers about the split that is evaluated: predictions, confidence intervals, metrics on the cleaned split."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import Trainer
from torch import Tensor

from src.callbacks.evaluation_table import EvaluationTable, EvaluationTableWriter, Results
from src.metrics.classification import evaluate_table
from src.metrics.intervals import bootstrap_intervals
from src.runs import layout
from src.runs.directory import update_provenance
from src.utils.atomic_files import atomic_write


class PredictionsCsv(EvaluationTableWriter):
    """Writes `predictions.csv`, a row per image."""

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Write the file, and note which images it is about: `src.compare` ranks runs on the same ones only."""
        with atomic_write(run_dir / layout.PREDICTIONS) as scratch:
            table.to_frame().to_csv(scratch, index=False)
        update_provenance(run_dir, pictures=table.images_hash)
        return {}


class ConfidenceIntervals(EvaluationTableWriter):
    """Adds bootstrap intervals, image counts and the metrics on images without duplicates."""

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Compute the numbers."""
        split, clean = table.split, f"{table.split}_dedup"
        results: Results = {f"{split}/n": len(table), f"{split}/n_unmapped": table.n_unmapped}
        results |= _intervals(split, table.labels, table.predictions, table.class_names)
        kept = table.in_dedup
        if 0 < int(kept.sum()) < len(table):
            labels, probabilities = table.labels[kept], table.probabilities[kept]
            metrics = evaluate_table(probabilities, labels, table.class_names)
            results |= {f"{clean}/{name}": value for name, value in metrics.items()}
            results[f"{clean}/n"] = len(labels)
            results |= _intervals(clean, labels, probabilities.argmax(dim=1), table.class_names)
        return results


def _intervals(prefix: str, labels: Tensor, predictions: Tensor, names: tuple[str, ...]) -> Results:
    intervals = bootstrap_intervals(labels.numpy(), predictions.numpy(), len(names))
    return {f"{prefix}/{name}_ci95": bounds for name, bounds in intervals.items()}
