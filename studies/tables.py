"""Rows of the tables of a study's page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.reports.numbers import brackets, with_interval
from studies.findings import corrected
from studies.study import Cell, Contrast, Study

METRICS = ("accuracy", "f1_macro", "f1_weighted")


def score_row(study: Study, cell: Cell) -> dict[str, str]:
    """Return the scores of a head in a condition, with standard deviations over seeds and intervals."""
    runs = study.cells[cell]
    row = {"head": cell[1], "seeds": str(len(runs))}
    for metric in METRICS:
        spread = float(np.std(study.seed_scores(cell, metric), ddof=1)) if len(runs) > 1 else np.nan
        row[metric] = with_interval(study.score(cell, metric), study.interval(cell, metric), spread, percent=True)
    seconds = [run.metrics["fit/seconds"] for run in runs if run.metrics.get("fit/seconds") is not None]
    return {
        **row,
        "parameters": f"{study.parameters(cell):,}",
        "seconds": f"{np.mean(seconds):.0f}" if seconds else "-",
    }


def contrast_table(wanted: Sequence[Contrast | None]) -> list[dict[str, str]]:
    """Return rows of the contrasts that have runs, corrected together."""
    contrasts = [contrast for contrast in wanted if contrast is not None]
    return contrast_rows(contrasts, corrected(contrasts))


def contrast_rows(contrasts: Sequence[Contrast], p_values: Sequence[float]) -> list[dict[str, str]]:
    """Return rows of contrasts and their p-values, in percentage points."""
    return [
        {
            "name": c.name,
            "value": f"{100 * c.value:+.2f}",
            "interval": brackets((100 * c.low, 100 * c.high), "+.2f"),
            "p": "< 0.001" if p < 0.001 else f"{p:.3f}",
        }
        for c, p in zip(contrasts, p_values, strict=True)
    ]
