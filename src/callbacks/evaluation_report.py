"""Numbers about the split that is evaluated: predictions, confidence intervals, metrics on the cleaned split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from torch import Tensor

from src.callbacks.evaluation_table import EvaluationTable, EvaluationTableWriter, Results
from src.metrics.affect import DIMENSIONS
from src.metrics.classification import evaluate_table
from src.metrics.clusters import agreement_intervals, cluster_intervals, cluster_labels, cluster_means, numbered
from src.metrics.intervals import bootstrap_intervals
from src.runs import layout
from src.runs.directory import update_provenance
from src.utils.atomic_files import atomic_write

# Number of the clip that each image is a frame of, (N,), or None.
Clips = NDArray[np.int64] | None


class PredictionsCsv(EvaluationTableWriter):
    """Writes `predictions.csv`, a row per image."""

    wants_labels = False

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Write the file, and note which images it is about: `src.compare` ranks runs on the same ones only."""
        with atomic_write(run_dir / layout.PREDICTIONS) as scratch:
            table.to_frame().to_csv(scratch, index=False)
        update_provenance(run_dir, pictures=table.images_hash)
        return {}


class ConfidenceIntervals(EvaluationTableWriter):
    """Adds bootstrap intervals, image counts, and the metrics on images without duplicates and on whole clips."""

    wants_labels = False

    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Compute the numbers."""
        split = table.split
        results: Results = {f"{split}/n": len(table), f"{split}/n_unmapped": table.n_unmapped}
        labeled = table.labeled()
        if len(labeled) < len(table):
            results[f"{split}/n_unlabeled"] = len(table) - len(labeled)
        if len(labeled):
            results |= _of_classes(labeled)
        clips = _numbers(table)
        if clips is not None:
            results |= {f"{split}/n_clips": int(clips.max()) + 1, **_affect_intervals(split, table, clips)}
        return results


def _of_classes(table: EvaluationTable) -> Results:
    split, clean, names, clips = table.split, f"{table.split}_dedup", table.class_names, _numbers(table)
    results = _intervals(split, table.labels, table.predictions, names, clips)
    kept = table.in_dedup
    if 0 < int(kept.sum()) < len(table):
        rest = None if clips is None else numbered(clips[kept.numpy()])
        results |= _metrics(clean, table.labels[kept], table.probabilities[kept], names, rest)
    labels = None if clips is None else cluster_labels(table.labels.numpy(), clips)
    if clips is not None and labels is not None:
        means = cluster_means(table.probabilities.double().numpy(), clips)
        results |= _metrics(f"{split}_clip", torch.from_numpy(labels), torch.from_numpy(means), names)
    return results


def _numbers(table: EvaluationTable) -> Clips:
    return None if table.clips is None else numbered(np.array(table.clips))


def _metrics(
    prefix: str, labels: Tensor, probabilities: Tensor, names: tuple[str, ...], clips: Clips = None
) -> Results:
    """Return the metrics of a part of the table, or of what it was made to, with their intervals."""
    metrics = evaluate_table(probabilities, labels, names)
    results: Results = {f"{prefix}/{name}": value for name, value in metrics.items()}
    results[f"{prefix}/n"] = len(labels)
    return results | _intervals(prefix, labels, probabilities.argmax(dim=1), names, clips)


def _intervals(prefix: str, labels: Tensor, predictions: Tensor, names: tuple[str, ...], clips: Clips) -> Results:
    given = labels.numpy(), predictions.numpy()
    if clips is None:
        intervals = bootstrap_intervals(*given, len(names))
    else:
        intervals = cluster_intervals(*given, clips, len(names))
    return {f"{prefix}/{name}_ci95": bounds for name, bounds in intervals.items()}


def _affect_intervals(prefix: str, table: EvaluationTable, clips: NDArray[np.int64]) -> Results:
    """Return the intervals over clips of valence and arousal, where they are predicted and annotated."""
    results: Results = {}
    for name in DIMENSIONS:
        predicted, annotated = getattr(table, name), getattr(table.store, name)[table.rows.numpy()]
        known = ~np.isnan(annotated)
        if predicted is None or not known.any():
            continue
        found = agreement_intervals(predicted.numpy()[known], annotated[known], numbered(clips[known]))
        results |= {f"{prefix}/{name}_{measure}_ci95": bounds for measure, bounds in found.items()}
    return results
