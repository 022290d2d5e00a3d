"""`report.html`: one run on one page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from omegaconf import OmegaConf

from src.metrics.affect import affect_metric_names
from src.metrics.calibration import reliability_curve
from src.reports import page, plots
from src.reports.numbers import shown_metric, shown_sets
from src.reports.page import Section, render_page
from src.runs import layout
from src.runs.finished import Run
from src.utils.atomic_files import write_text

log = logging.getLogger(__name__)

MAIN_NUMBERS = ("n", "accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro")
NUMBERS = (*MAIN_NUMBERS, "kappa", "ece", "loss", *affect_metric_names())
N_MISTAKES = 25
HEADINGS = {
    layout.CONFUSION_MATRIX: "Confusion matrix",
    layout.PRECISION_RECALL: "Precision-recall curves",
    layout.LEARNING_CURVES: "Learning curves",
    layout.GRADCAM: "Where the network looks",
}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` of a run that has written its numbers.

    Args:
        run_dir: Run directory.

    Returns:
        The file.
    """
    run = Run.read(run_dir)
    path = run_dir / layout.REPORT
    write_text(path, render_page(run_dir.name, _sections(run)))
    return path


def _sections(run: Run) -> list[Section]:
    sections = [Section("", [_facts(run)]), Section("Numbers", [_numbers(run.metrics), _per_class(run.metrics)])]
    for name, heading in HEADINGS.items():
        file = run.path / name
        if file.is_file():
            sections.append(Section(heading, [page.image(file, heading)]))
    if not run.predictions.empty:
        drawn = plots.calibration_plot({"this run": reliability_curve(*run.confidences())})
        explanation = "Fraction of right predictions among those of about equal confidence; larger points, more images."
        sections.append(Section("Calibration", [page.note(explanation), page.figure(drawn, "Reliability curve")]))
        sections.append(Section("Worst mistakes", [page.table(worst_mistakes(run.predictions, N_MISTAKES))]))
    config = OmegaConf.to_yaml(OmegaConf.create(run.config))
    sections.append(Section("Configuration", [page.folded(layout.CONFIG, page.code(config))]))
    return sections


def _facts(run: Run) -> Markup:
    origin, config = run.provenance, run.config
    versions: Mapping[str, str] = origin.get("versions", {})
    parameters, trainable = (run.metrics.get(f"model/{name}") for name in ("parameters", "trainable_parameters"))
    seconds, speed = run.metrics.get("fit/seconds"), run.metrics.get("fit/images_per_second")
    return page.facts(
        {
            "task": config.get("task"),
            "data": origin.get("data", run.data_name),
            "head": (config.get("head") or {}).get("name"),
            "backbone": (config.get("backbone") or {}).get("name"),
            "weights": config.get("ckpt_path") if config.get("task") == "eval" else origin.get("weights"),
            "parameters": f"{parameters:,}, of which {trainable:,} trainable" if parameters else None,
            "training": f"{seconds:,.0f} s, {speed:,.0f} images/s" if seconds and speed else None,
            "seed": str(config.get("seed", "")),
            "options": " ".join(origin.get("overrides", [])),
            "started": origin.get("started"),
            "code": f"{origin['git_sha']}{' with changes' if origin.get('git_dirty') else ''}"
            if origin.get("git_sha")
            else None,
            "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
            "directory": run.name,
        }
    )


def _numbers(metrics: Mapping[str, Any]) -> Markup:
    sets = shown_sets(metrics)
    rows = []
    for metric in NUMBERS:
        if any(f"{name}/{metric}" in metrics for name in sets):
            rows.append({"metric": metric, **{name: shown_metric(metrics, f"{name}/{metric}") for name in sets}})
    return Markup("").join(
        [
            page.table(pd.DataFrame(rows)),
            page.note(
                "In brackets: 95 % bootstrap intervals over images, or over clips where images are frames of clips. "
                "..._dedup: images without a duplicate elsewhere. ..._clip: whole clips, by the mean of the "
                "probabilities of their frames. Macro averages run over the classes present in labels or predictions."
            ),
        ]
    )


def _per_class(metrics: Mapping[str, Any]) -> Markup:
    sets = shown_sets(metrics)
    classes = dict.fromkeys(key.split("/f1/")[1] for key in metrics if "/f1/" in key)
    rows = [{"F1 of class": c, **{name: metrics.get(f"{name}/f1/{c}") for name in sets}} for c in classes]
    return page.table(pd.DataFrame(rows))


def worst_mistakes(predictions: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the mistakes with the least probability of the label, worst first.

    Args:
        predictions: As in `predictions.csv`.
        n: Largest number of rows.

    Returns:
        Columns `id`, `label`, `prediction`, `p(label)`, `p(prediction)`.
    """
    wrong = predictions[predictions["label"] != predictions["prediction"]]
    shown = wrong[["id", "label", "prediction"]].copy()
    shown["p(label)"] = [float(row.get(row["label"], 0.0)) for _, row in wrong.iterrows()]
    shown["p(prediction)"] = [float(row[row["prediction"]]) for _, row in wrong.iterrows()]
    return shown.sort_values("p(label)", kind="stable").head(n).reset_index(drop=True)
