"""The page of the original experiment, from its run directories."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import DictConfig

from studies.findings import ATTENTION, BASELINE, LEVEL, Finding, attention_does_not_help, baseline_is_best, judge
from studies.page import write_page
from studies.study import Contrast, Study
from studies.tables import contrast_rows, contrast_table, score_row

MENDED = "mended"
# Folders of the experiment's directory. In each but the first, one thing is as the student project had it.
DEFECTS = {
    "doubled": "FER2013 twice, alone and in MMAFEDB (`data.dedup=false`)",
    "imagenet": "Images normalized as for ImageNet (`backbone.normalize=imagenet`)",
    "drifting": "Batch-norm that drifts for an epoch, then stands still (`callbacks.train_mode_once.enabled=true`)",
    "upside_down": "Half of the training images upside down (`transform.vertical_flip=0.5`)",
}
CONDITIONS = {MENDED: "Every defect mended", **DEFECTS, "all": "All four of them"}
# Weighted F1 of its best head on the test images of both data sets together, in percent.
ORIGINAL_F1 = 52


def write_experiment(cfg: DictConfig) -> Path:
    """Write the page and its figure.

    Args:
        cfg: Configuration of `conf/original_experiment.yaml`.

    Returns:
        The page.

    Raises:
        ConfigError: If there are no runs.
    """
    # Doubled data hold images of the test split twice; all conditions are compared on the same ones, each once.
    study = Study.read(Path(cfg.runs).expanduser(), CONDITIONS, common=True)
    run = next(iter(study.cells.values()))[0]
    parts = sorted({str(name).partition("/")[0] for name in run.predictions["id"]})
    return write_page(
        Path(cfg.output).expanduser(),
        "studies.original_experiment",
        study,
        draw(study),
        original=ORIGINAL_F1,
        best=_best(study),
        epochs=run.config["trainer"]["max_epochs"],
        parts={part: _scores(study.part(part), MENDED) for part in parts if MENDED in study.conditions},
        conditions=[
            {"name": name, "title": CONDITIONS[name], "rows": _scores(study, name)} for name in study.conditions
        ],
        costs=contrast_table(costs(study)),
        findings=[{"finding": v, "rows": contrast_rows(v.contrasts, v.p_values)} for v in findings(study)],
    )


def _scores(study: Study, condition: str) -> list[dict[str, str]]:
    return [score_row(study, (condition, head)) for head in study.heads(condition)]


def _best(study: Study) -> dict[str, str]:
    """Return the scores of the best head without defects; of the first condition that has runs, if there is none."""
    condition = MENDED if MENDED in study.conditions else study.conditions[0]
    return score_row(study, (condition, study.heads(condition)[0]))


def costs(study: Study) -> list[Contrast | None]:
    """Return what each defect, and all of them, changes in every head that was trained with it."""
    return [
        study.contrast(f"`{name}`: {head}", [(name, head)], [(MENDED, head)], "f1_weighted")
        for name in study.conditions
        if name != MENDED
        for head in study.heads(name)
    ]


def findings(study: Study) -> list[Finding]:
    """Judge what the student project concluded, and whether its defects explain its result."""
    harm = [
        study.contrast(f"`{name}`: {BASELINE}", [(name, BASELINE)], [(MENDED, BASELINE)], "f1_weighted")
        for name in DEFECTS
    ]
    return [
        baseline_is_best(study, MENDED),
        attention_does_not_help(study, MENDED),
        judge(
            "Its defects cost it accuracy.",
            f"confirmed if one of them alone lowers weighted F1 (Holm's correction, {100 * LEVEL:.0f} %), refuted if "
            "one of them alone raises it",
            harm,
            confirmed=lambda c, p: any(x.value < 0 and q < LEVEL for x, q in zip(c, p, strict=True)),
            refuted=lambda c, p: any(x.value > 0 and q < LEVEL for x, q in zip(c, p, strict=True)),
        ),
    ]


def draw(study: Study) -> Figure:
    """Draw the weighted F1 of every head and condition, with intervals over images and seeds, beside the original's."""
    rows = [(name, head) for name in study.conditions for head in study.heads(name)]
    figure = Figure(figsize=(8, 1.1 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for y, cell in enumerate(rows):
        color = "C1" if cell[1] in ATTENTION else "C0"
        axis.plot([100 * bound for bound in study.interval(cell, "f1_weighted")], [y, y], color=color, linewidth=2)
        axis.plot(100 * study.score(cell, "f1_weighted"), y, "o", color=color)
    axis.axvline(ORIGINAL_F1, color="0.4", linestyle="--", linewidth=1)
    axis.annotate(
        f"original: {ORIGINAL_F1} %", (ORIGINAL_F1, -0.7), xytext=(3, 0), textcoords="offset points", fontsize=8
    )
    axis.set_yticks(range(len(rows)), [f"{name}: {head}" for name, head in rows])
    axis.set_ylim(len(rows) - 0.4, -1)
    axis.set_xlabel(f"Weighted F1 in percent, {len(study.labels):,} {study.split} images")
    axis.grid(axis="x", alpha=0.3)
    return figure
