"""The page of a study, from its run directories."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import DictConfig

from src.reports.plots import colors
from src.runs.config import read_config
from src.runs.records import read_metrics
from studies.findings import ATTENTION, BASELINE
from studies.head_study.findings import findings
from studies.page import write_page
from studies.study import Study
from studies.tables import contrast_rows, contrast_table, score_row

# The conditions, in the order of the page: folders of the study's directory, and what differs between them.
CONDITIONS = {
    "fused": "Heads on the frozen `fused` features",
    "weighted": "The same with class weights in the loss (`loss.class_weights=balanced`)",
    "sampled": "The same with every class drawn equally often (`data.sampler=balanced`)",
    "sized": "`linear` with as many parameters as an attention head (`head.width`)",
    "half": "The same with half of the training images (`data.half=first`)",
    "emotion2": "Heads on `emotion2`, its two emotion blocks trained, too",
    "crossfit": "A backbone from one half of Training, heads on the other half",
    "crossfit_seen": "The same backbone, heads on the half that it has seen",
}
BALANCED_CONDITIONS = ("weighted", "sampled")


def write_study(cfg: DictConfig) -> Path:
    """Write the page and its figure.

    Args:
        cfg: Configuration of `conf/study.yaml`.

    Returns:
        The page.

    Raises:
        ConfigError: If there are no runs, or they were evaluated on different images.
    """
    folder = Path(cfg.runs).expanduser()
    study = Study.read(folder, CONDITIONS)
    return write_page(
        Path(cfg.output).expanduser(),
        "studies.head_study",
        study,
        draw(study),
        data_name=study.data_name,
        conditions=[_condition(study, condition) for condition in study.conditions],
        findings=[{"finding": v, "rows": contrast_rows(v.contrasts, v.p_values)} for v in findings(study)],
        gains=_gains(study),
        balance=_effects(study, BALANCED_CONDITIONS, "f1_macro") + _effects(study, BALANCED_CONDITIONS, "accuracy"),
        seen=_seen(study),
        crossfit=_crossfit(folder / "backbone"),
        epochs=_epochs(study),
    )


def _epochs(study: Study) -> str:
    """Return how many epochs heads are trained for: the first condition's number, and what differs from it."""
    epochs = {condition: int(runs[0].config["trainer"]["max_epochs"]) for (condition, _), runs in study.cells.items()}
    usual = next(iter(epochs.values()))
    return "; ".join([str(usual), *(f"`{condition}`: {n}" for condition, n in epochs.items() if n != usual)])


def _condition(study: Study, condition: str) -> dict[str, Any]:
    heads = study.heads(condition)
    pairs = [
        study.contrast(f"{a} - {b}", [(condition, a)], [(condition, b)], "f1_weighted")
        for a, b in combinations(heads, 2)
    ]
    return {
        "name": condition,
        "title": CONDITIONS[condition],
        "heads": [score_row(study, (condition, head)) for head in heads],
        "pairs": contrast_table(pairs),
    }


def _gains(study: Study) -> list[dict[str, str]]:
    """Return what each attention head gains over the baseline in every condition."""
    found = [
        study.contrast(
            f"`{condition}`: {head} - {BASELINE}", [(condition, head)], [(condition, BASELINE)], "f1_weighted"
        )
        for head in ATTENTION
        for condition in study.conditions
    ]
    return contrast_table(found)


def _effects(study: Study, conditions: tuple[str, ...], metric: str) -> list[dict[str, str]]:
    """Return what a condition changes in each of its heads."""
    found = [
        study.contrast(f"{metric} of {head}: {condition} minus fused", [(condition, head)], [("fused", head)], metric)
        for condition in conditions
        for head in ("linear", "self_attention", "multihead")
    ]
    return contrast_table(found)


def _seen(study: Study) -> list[dict[str, str]]:
    """Return how much better heads are on images that their backbone was trained on."""
    heads = [head for condition, head in study.cells if condition == "crossfit_seen"]
    found = [
        study.contrast(f"{head}: seen minus unseen", [("crossfit_seen", head)], [("crossfit", head)], "f1_weighted")
        for head in heads
    ]
    return contrast_table(found)


def _crossfit(run_dir: Path) -> dict[str, str] | None:
    """Return what is to be said of the backbone of the cross-fit conditions; None if there is none."""
    metrics = read_metrics(run_dir)
    if "val/accuracy" not in metrics:
        return None
    config = read_config(run_dir)
    return {
        "name": config["backbone"]["name"],
        "accuracy": f"{100 * metrics['val/accuracy']:.1f} %",
        "epochs": str(config["trainer"]["max_epochs"]),
    }


def draw(study: Study) -> Figure:
    """Draw the weighted F1 of every head, a panel per condition, with intervals over images and seeds, and seeds."""
    heads = list(dict.fromkeys(head for condition in study.conditions for head in study.heads(condition)))
    color = dict(zip(heads, colors(len(heads)), strict=True))
    sizes = [len(study.heads(condition)) for condition in study.conditions]
    figure = Figure(figsize=(8, 0.9 + 0.3 * sum(sizes) + 0.35 * len(sizes)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sizes), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axis, condition in zip(axes, study.conditions, strict=True):
        for y, head in enumerate(study.heads(condition)):
            value, bounds = (
                study.score((condition, head), "f1_weighted"),
                study.interval((condition, head), "f1_weighted"),
            )
            axis.plot([100 * b for b in bounds], [y, y], color=color[head], linewidth=2)
            axis.plot(100 * value, y, "o", color=color[head])
            seeds = study.seed_scores((condition, head), "f1_weighted")
            axis.plot(100 * seeds, [y + 0.25] * len(seeds), "|", color="0.45", markersize=6)
        axis.set_yticks(range(len(study.heads(condition))), study.heads(condition))
        axis.set_ylim(len(study.heads(condition)) - 0.4, -0.6)
        axis.set_title(condition, loc="left", fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    axes[-1].set_xlabel(f"Weighted F1 in percent, {len(study.labels):,} {study.split} images")
    return figure
