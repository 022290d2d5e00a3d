"""What a sweep leaves behind: a table of its jobs, a page, and the options of the best one as an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from src.cli.sweep_experiment import write_experiment
from src.metrics.directions import mode_of
from src.reports.page import Section, note, render_page
from src.reports.page import table as page_table
from src.runs import layout
from src.runs.config import read_config
from src.runs.records import read_metrics, read_provenance, read_status
from src.utils.atomic_files import write_text
from src.utils.errors import ConfigError

COLUMNS = ("val/f1_macro", "test/accuracy", "test/f1_macro", "test/f1_weighted")


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        path: Its folder.
        state: How it ended, as in `status.json`, or `refused`, `broken`, or `replaced` for a killed trial of a search.
        reason: Why, or None.
        overrides: Its options.
        metrics: Its numbers; none unless it has finished.
        monitor: The validation metric by which it chose its epoch.
    """

    path: Path
    state: str
    reason: str | None
    overrides: list[str]
    metrics: dict[str, Any]
    monitor: str

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job's folder; one with a broken configuration has not finished."""
        status = read_status(path)
        state, reason, monitor = str(status.get("state")), status.get("reason"), None
        if (path / layout.REFUSED).exists():
            state, reason = "refused", "the folder holds another run"
        elif (path / layout.REPLACED).exists():
            state = "replaced"
        try:
            monitor = read_config(path).get("monitor")
        except ConfigError as error:
            state, reason = "broken", str(error)
        overrides = read_provenance(path).get("overrides", [])
        return cls(path, state, reason, overrides, read_metrics(path), str(monitor))


def summarize_sweep(sweep: Path, task: str) -> list[str]:
    """Print a table of the jobs; write `summary.csv`, `summary.html` and `experiment/best.yaml`.

    Args:
        sweep: Folder of the sweep.
        task: Entry point.

    Returns:
        The states of the jobs.
    """
    folders = sorted((p.parent for p in sweep.glob(f"*/{layout.STATUS}")), key=_number)
    jobs = [Job.read(folder) for folder in folders]
    if not jobs:
        return []
    best = best_job(jobs)
    frame = job_table(jobs)
    write_text(sweep / layout.SUMMARY, frame.to_csv(index=False, lineterminator="\n"))
    write_page(sweep, frame, best)
    console = Console(stderr=True, markup=False)
    console.print(_terminal_table(sweep, jobs))
    lines = [f"Sweep directory: {sweep}", *(_best_lines(sweep, best, task) if best else [])]
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
    return [job.state for job in jobs]


def job_table(jobs: list[Job]) -> pd.DataFrame:
    """Return a row per job: its name, state, options that differ between jobs, and numbers."""
    options = [_options(job.overrides) for job in jobs]
    keys = dict.fromkeys(key for each in options for key in each)
    swept = [key for key in keys if len({each.get(key) for each in options}) > 1]
    rows = []
    for job, values in zip(jobs, options, strict=True):
        scalars = {k: v for k, v in job.metrics.items() if not isinstance(v, list)}
        chosen = {key: values.get(key) for key in swept}
        rows.append({"job": job.path.name, "state": job.state, "reason": job.reason, **chosen, **scalars})
    return pd.DataFrame(rows)


def best_job(jobs: list[Job]) -> Job | None:
    """Return the finished job with the best validation metric, `monitor` of its configuration; None if there is none.

    The test split has no say.
    """
    ranked = []
    for job in jobs:
        value, mode = job.metrics.get(job.monitor), mode_of(job.monitor)
        if job.state == "finished" and mode and isinstance(value, int | float) and math.isfinite(value):
            ranked.append((value if mode == "max" else -value, job))
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def write_page(sweep: Path, frame: pd.DataFrame, best: Job | None) -> None:
    """Write `summary.html`."""
    names = [str(column) for column in frame]
    costs = [name for name in names if name.startswith(("fit/", "model/"))]
    scores = [name for name in names if name.startswith(("val/", "test/", "test_dedup/", "test_clip/"))]
    options = [name for name in names if name not in (*costs, *scores)]
    shown = sorted(name for name in scores if not name.startswith(("test_dedup/", "test/f1/", "val/f1/")))
    # What most come for is visible without scrolling: first the columns of the terminal, last what the runs cost.
    shown.sort(key=lambda name: (COLUMNS.index(name) if name in COLUMNS else len(COLUMNS), not name.startswith("val/")))
    position = [] if best is None else [list(frame["job"]).index(best.path.name)]
    finished = int((frame["state"] == "finished").sum())
    lead = f"{finished or 'No'} jobs have finished."
    if best is not None:
        lead = f"Best on the validation split: {best.path.name}."
    parts: list[str] = [note(lead), page_table(frame[options + shown + costs], best=position)]
    page = render_page(f"Sweep {sweep.name}", [Section("", parts)])
    write_text(sweep / layout.SUMMARY_PAGE, page)


def _terminal_table(sweep: Path, jobs: list[Job]) -> Table:
    table = Table(title=f"Sweep {sweep}")
    columns = [name for name in COLUMNS if any(name in job.metrics for job in jobs)]
    for name in ("job", "state", *columns):
        table.add_column(name, overflow="fold", min_width=24 if name == "job" else None)
    for job in jobs:
        found = [job.metrics.get(name) for name in columns]
        values = [f"{value:.4f}" if isinstance(value, int | float) else "-" for value in found]
        table.add_row(job.path.name, job.state, *values)
    return table


def _best_lines(sweep: Path, best: Job, task: str) -> list[str]:
    """Return what is said of the best job, after writing its options."""
    try:
        left_out = write_experiment(sweep, best.path, task)
    except ConfigError as error:
        return [f"Best job: {best.path.name}", f"  not written as an experiment: {error}"]
    lines = [
        f"Best job: {best.path.name} ({sweep / layout.BEST_EXPERIMENT})",
        f"  once more:  python -m src.{task} --config-dir={sweep} experiment=best",
    ]
    if left_out:
        lines.append(
            f"  left out of it: {', '.join(left_out)}. It names code that conf/ does not, or holds ${{...}}; if it is "
            "yours, repeat it on the command line."
        )
    return lines


def _options(overrides: list[str]) -> dict[str, str]:
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def _number(path: Path) -> int:
    head = path.name.split("_")[0]
    return int(head) if head.isdecimal() else -1
