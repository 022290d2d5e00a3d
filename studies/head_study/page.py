"""The page of a study, from its run directories."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src.reports.plots import colors
from src.utils.atomic_files import read_json
from studies.head_study.arms import ARMS, Contrast, Study
from studies.head_study.verdicts import ATTENTION, BASELINE, corrected, verdicts

METRICS = ("accuracy", "f1_macro", "f1_weighted")
BALANCED_ARMS = ("weighted", "sampled")


def write_study(cfg: DictConfig) -> Path:
    """Write the page and its figure.

    Args:
        cfg: Configuration of `conf/study.yaml`.

    Returns:
        The page.

    Raises:
        ConfigError: If there are no runs, or they were evaluated on different pictures.
    """
    folder, page = Path(cfg.runs).expanduser(), Path(cfg.output).expanduser()
    study = Study(folder)
    figure = page.parent / "images" / f"{page.stem}.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw(study).savefig(figure, dpi=110)
    environment = Environment(
        loader=PackageLoader("studies.head_study", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    first = next(iter(study.cells.values()))[0]
    epochs = sorted({int(run.config["trainer"]["max_epochs"]) for runs in study.cells.values() for run in runs})
    text = environment.get_template("page.md.jinja").render(
        n=f"{len(study.labels):,}",
        split=study.split,
        data_name=study.data_name,
        figure=f"images/{figure.name}",
        arms=[_arm(study, arm) for arm in study.arms],
        missing=[ARMS[arm] for arm in ARMS if arm not in study.arms],
        verdicts=[{"verdict": v, "rows": _rows(v.contrasts, v.p_values)} for v in verdicts(study)],
        gains=_gains(study),
        balance=_effects(study, BALANCED_ARMS, "f1_macro") + _effects(study, BALANCED_ARMS, "accuracy"),
        seen=_seen(study),
        backbone=_backbone(folder / "backbone"),
        git_sha=first.provenance.get("git_sha"),
        epochs=epochs,
    )
    page.write_text(text, encoding="utf-8")
    Console(stderr=True).print(f"Page: {page}", soft_wrap=True, highlight=False)
    return page


def _arm(study: Study, arm: str) -> dict[str, Any]:
    heads = study.heads(arm)
    pairs = [study.contrast(f"{a} - {b}", [(arm, a)], [(arm, b)], "f1_weighted") for a, b in combinations(heads, 2)]
    return {
        "name": arm,
        "title": ARMS[arm],
        "heads": [_head(study, arm, head) for head in heads],
        "pairs": _table(pairs),
    }


def _head(study: Study, arm: str, head: str) -> dict[str, str]:
    cell = (arm, head)
    runs = study.cells[cell]
    row = {"head": head, "seeds": str(len(runs))}
    for metric in METRICS:
        low, high = study.interval(cell, metric)
        spread = np.std(study.seed_scores(cell, metric), ddof=1) if len(runs) > 1 else 0.0
        row[metric] = f"{100 * study.score(cell, metric):.1f} ± {100 * spread:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    trained = [run.metrics.get("model/trainable_parameters", 0) for run in runs]
    seconds = [run.metrics["fit/seconds"] for run in runs if run.metrics.get("fit/seconds") is not None]
    return {**row, "parameters": f"{trained[0]:,}", "seconds": f"{np.mean(seconds):.0f}" if seconds else "-"}


def _table(wanted: Sequence[Contrast | None]) -> list[dict[str, str]]:
    """Return rows of the contrasts that have runs, corrected together."""
    contrasts = [contrast for contrast in wanted if contrast is not None]
    return _rows(contrasts, corrected(contrasts))


def _rows(contrasts: Any, p_values: Any) -> list[dict[str, str]]:
    return [_row(contrast, p) for contrast, p in zip(contrasts, p_values, strict=True)]


def _row(c: Contrast, p: float) -> dict[str, str]:
    return {
        "name": c.name,
        "value": f"{100 * c.value:+.2f}",
        "interval": f"[{100 * c.low:+.2f}, {100 * c.high:+.2f}]",
        "p": "< 0.001" if p < 0.001 else f"{p:.3f}",
    }


def _gains(study: Study) -> list[dict[str, str]]:
    """Return what each attention head gains over the baseline in every arm."""
    found = [
        study.contrast(f"`{arm}`: {head} - {BASELINE}", [(arm, head)], [(arm, BASELINE)], "f1_weighted")
        for head in ATTENTION
        for arm in study.arms
    ]
    return _table(found)


def _effects(study: Study, arms: tuple[str, ...], metric: str) -> list[dict[str, str]]:
    """Return what an arm changes in each of its heads."""
    found = [
        study.contrast(f"{metric} of {head}: {arm} minus fused", [(arm, head)], [("fused", head)], metric)
        for arm in arms
        for head in ("linear", "self_attention", "multihead")
    ]
    return _table(found)


def _seen(study: Study) -> list[dict[str, str]]:
    """Return how much better heads are on pictures that their backbone was trained on."""
    heads = [head for arm, head in study.cells if arm == "crossfit_seen"]
    found = [
        study.contrast(f"{head}: seen minus unseen", [("crossfit_seen", head)], [("crossfit", head)], "f1_weighted")
        for head in heads
    ]
    return _table(found)


def _backbone(run_dir: Path) -> dict[str, str] | None:
    """Return what is to be said of the backbone of the cross-fit arms; None if there is none."""
    metrics = read_json(run_dir / "metrics.json")
    if "val/accuracy" not in metrics:
        return None
    return {
        "accuracy": f"{100 * metrics['val/accuracy']:.1f} %",
        "epochs": str(OmegaConf.load(run_dir / "config.yaml").trainer.max_epochs),
        "minutes": f"{metrics.get('fit/seconds', 0) / 60:.0f}",
    }


def draw(study: Study) -> Figure:
    """Draw the weighted F1 of every head, a panel per arm, with intervals over pictures and seeds and single seeds."""
    heads = list(dict.fromkeys(head for arm in study.arms for head in study.heads(arm)))
    color = dict(zip(heads, colors(len(heads)), strict=True))
    sizes = [len(study.heads(arm)) for arm in study.arms]
    figure = Figure(figsize=(8, 0.9 + 0.3 * sum(sizes) + 0.35 * len(sizes)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sizes), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axis, arm in zip(axes, study.arms, strict=True):
        for y, head in enumerate(study.heads(arm)):
            value, bounds = study.score((arm, head), "f1_weighted"), study.interval((arm, head), "f1_weighted")
            axis.plot([100 * b for b in bounds], [y, y], color=color[head], linewidth=2)
            axis.plot(100 * value, y, "o", color=color[head])
            seeds = study.seed_scores((arm, head), "f1_weighted")
            axis.plot([100 * s for s in seeds], [y + 0.25] * len(seeds), "|", color="0.45", markersize=6)
        axis.set_yticks(range(len(study.heads(arm))), study.heads(arm))
        axis.set_ylim(len(study.heads(arm)) - 0.4, -0.6)
        axis.set_title(arm, loc="left", fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    axes[-1].set_xlabel(f"Weighted F1 in percent, {len(study.labels):,} {study.split} pictures")
    return figure
