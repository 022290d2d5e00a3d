"""What a sweep leaves behind: a table of its jobs, and the options of the best one as an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.table import Table

from src.metrics.directions import monitor_mode
from src.reports.page import Section, note, render_page
from src.reports.page import table as page_table
from src.runs import layout
from src.utils.atomic_files import read_json

COLUMNS = ("val/f1_macro", "test/accuracy", "test/f1_macro", "test/f1_weighted")
# Keys that belong to one run, not to what it does.
OF_ONE_RUN = ("run_dir", "ckpt_path", "sweep")


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        path: Its folder.
        state: How it ended, as in `status.json`, or `refused`, or `replaced` for a killed trial of a search.
        reason: Why, or None.
        overrides: Its options.
        metrics: Its numbers; none unless it has finished.
    """

    path: Path
    state: str
    reason: str | None
    overrides: list[str]
    metrics: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job's folder."""
        status = read_json(path / layout.STATUS)
        if (path / layout.REFUSED).exists():
            status = {"state": "refused", "reason": "the folder holds another run"}
        elif (path / layout.REPLACED).exists():
            status = {**status, "state": "replaced"}
        overrides = read_json(path / layout.PROVENANCE).get("overrides", [])
        return cls(path, str(status.get("state")), status.get("reason"), overrides, read_json(path / layout.METRICS))

    def config(self) -> DictConfig:
        """Return its configuration, resolved; empty if it has none."""
        file = self.path / layout.CONFIG
        return cast(DictConfig, OmegaConf.load(file)) if file.is_file() else OmegaConf.create()


def summarise_sweep(sweep: Path, task: str) -> list[str]:
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
    frame = job_table(jobs)
    frame.to_csv(sweep / layout.SUMMARY, index=False)
    _print(sweep, jobs)
    best = best_job(jobs)
    lines = [f"Sweep directory: {sweep}"]
    if best is not None:
        experiment = write_experiment(sweep, best, task)
        lines.append(f"Best job: {best.path.name} ({experiment})")
        lines.append(f"  once more:  python -m src.{task} --config-dir={sweep} experiment=best")
    write_page(sweep, frame, best)
    for line in lines:
        Console(stderr=True).print(line, soft_wrap=True, highlight=False)
    return [job.state for job in jobs]


def job_table(jobs: list[Job]) -> pd.DataFrame:
    """Return a row per job: its name, state, options that differ between jobs, and numbers."""
    rows = []
    options = [_options(job.overrides) for job in jobs]
    keys = list(dict.fromkeys(key for each in options for key in each))
    swept = [key for key in keys if len({each.get(key) for each in options}) > 1]
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
        monitor = str(job.config().get("monitor"))
        value = job.metrics.get(monitor)
        if job.state == "finished" and value is not None and math.isfinite(value):
            ranked.append((value if monitor_mode(monitor) == "max" else -value, job))
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def write_experiment(sweep: Path, job: Job, task: str) -> Path:
    """Write what a job's configuration has that the defaults have not, as `experiment/best.yaml`.

    Args:
        sweep: Folder of the sweep, which becomes a `--config-dir`.
        job: The job.
        task: Its entry point.

    Returns:
        The file.
    """
    theirs = job.config()
    usual = OmegaConf.to_container(compose(task), resolve=False)
    choices = read_json(job.path / layout.PROVENANCE).get("choices", {})
    groups = {k: v for k, v in choices.items() if k in cast(dict[str, Any], usual) and v is not None and k != "sweep"}
    base = compose(task, [f"{group}={option}" for group, option in groups.items()])
    with open_dict(base):
        base.run_dir = theirs.run_dir
    ours = cast(dict[str, Any], OmegaConf.to_container(base, resolve=True))
    delta = _difference(ours, cast(dict[str, Any], OmegaConf.to_container(theirs, resolve=True)))
    for key in OF_ONE_RUN:
        delta.pop(key, None)
    plain = compose(task, return_hydra_config=True).hydra.runtime.choices
    changed = {group: option for group, option in groups.items() if plain.get(group) != option}
    content: dict[str, Any] = {"defaults": [{f"override /{k}": v} for k, v in changed.items()]} if changed else {}
    path = sweep / layout.BEST_EXPERIMENT
    path.parent.mkdir(exist_ok=True)
    head = (
        "# @package _global_\n"
        f"# The best job of a sweep, {job.path.name}: python -m src.{task} --config-dir={sweep} experiment=best\n"
    )
    path.write_text(head + OmegaConf.to_yaml(OmegaConf.create({**content, **delta})), encoding="utf-8")
    return path


def write_page(sweep: Path, frame: pd.DataFrame, best: Job | None) -> None:
    """Write `summary.html`."""
    names = [str(column) for column in frame]
    hidden = ("test_dedup/", "test/f1/", "val/f1/")
    numbers = sorted(n for n in names if n.startswith(("val/", "test/")) and not n.startswith(hidden))
    # What most come for is visible without scrolling: first the columns of the terminal, last what the runs cost.
    numbers.sort(
        key=lambda name: (COLUMNS.index(name) if name in COLUMNS else len(COLUMNS), not name.startswith("val/"))
    )
    costs = [n for n in names if n.startswith(("fit/", "model/"))]
    rest = [n for n in names if n not in costs and not n.startswith(("val/", "test/", *hidden))]
    shown = frame[rest + numbers + costs]
    position = [] if best is None else [list(frame["job"]).index(best.path.name)]
    lead = "No job has finished." if best is None else f"Best on the validation split: {best.path.name}."
    parts: list[str] = [note(lead), page_table(shown, best=position)]
    page = render_page(f"Sweep {sweep.name}", [Section("", parts)])
    (sweep / layout.SUMMARY_PAGE).write_text(page, encoding="utf-8")


def _print(sweep: Path, jobs: list[Job]) -> None:
    table = Table(title=f"Sweep {sweep}")
    for name in ("job", "state", *COLUMNS):
        table.add_column(name, overflow="fold", min_width=24 if name == "job" else None)
    for job in jobs:
        values = [f"{job.metrics[name]:.4f}" if job.metrics.get(name) is not None else "-" for name in COLUMNS]
        table.add_row(job.path.name, job.state, *values)
    Console(stderr=True).print(table)


def _options(overrides: list[str]) -> dict[str, str]:
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def _difference(usual: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a nested mapping that another one has not, or has otherwise; None for missing ones."""
    delta: dict[str, Any] = {key: None for key in usual if key not in theirs}
    for key, value in theirs.items():
        if key not in usual:
            delta[key] = value
        elif isinstance(value, dict) and isinstance(usual[key], dict):
            below = _difference(usual[key], value)
            if below:
                delta[key] = below
        elif value != usual[key]:
            delta[key] = value
    return delta


def _number(path: Path) -> int:
    head = path.name.split("_")[0]
    return int(head) if head.isdecimal() else -1
