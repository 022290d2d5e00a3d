"""Timing of alternatives, interleaved, so that a machine that changes its pace slows all of them alike."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from src.utils.precision import native_bf16


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        suite: Suite that it belongs to.
        name: What was measured.
        baseline: Name of what it is compared with, or None.
        seconds: Median of the rounds.
        fastest: Fastest round in seconds.
        slowest: Slowest round in seconds.
        ratio: Baseline's median over ours: above 1, ours is faster; None without a baseline.
        note: What else belongs to the row.
    """

    suite: str
    name: str
    baseline: str | None
    seconds: float
    fastest: float
    slowest: float
    ratio: float | None = None
    note: str = ""


def time_rounds(tasks: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time every task once per round, after one round that does not count.

    Args:
        tasks: What to time, by name.
        rounds: Number of rounds.

    Returns:
        Seconds of each round, by name: what a task returns, if that is a number, else its wall time.
    """
    for task in tasks.values():
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            own = task()
            times[name].append(own if isinstance(own, float) else time.perf_counter() - start)
    return times


def compare(
    suite: str, name: str, ours: Callable[[], Any], baseline: str, theirs: Callable[[], Any], rounds: int
) -> Row:
    """Time ours against a baseline."""
    return against(suite, baseline, time_rounds({name: ours, baseline: theirs}, rounds))[0]


def against(
    suite: str, baseline: str, times: dict[str, list[float]], notes: Mapping[str, str] | None = None
) -> list[Row]:
    """Return a row for each measurement, compared with one of them, which comes last.

    Args:
        suite: Suite of the rows.
        baseline: Name of that one.
        times: Seconds of each round, by name.
        notes: What else belongs to a row, by name.
    """
    standard = statistics.median(times[baseline])
    notes = notes or {}
    rows = [summarize(suite, name, seconds, notes.get(name, "")) for name, seconds in times.items() if name != baseline]
    compared = [replace(row, baseline=baseline, ratio=standard / row.seconds) for row in rows]
    return [*compared, summarize(suite, baseline, times[baseline], notes.get(baseline, ""))]


def summarize(suite: str, name: str, times: list[float], note: str = "") -> Row:
    """Return the row of a measurement without a baseline."""
    return Row(suite, name, None, statistics.median(times), min(times), max(times), note=note)


def peak_memory() -> float | None:
    """Return the largest resident memory of this process so far in MiB, or None where the system does not say.

    Linux does. The ru_maxrss that macOS has, too, will not do: on Linux, it counts that of the process which started
    this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    text = status.read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM"))


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, of which Windows keeps what is still mapped into memory at its end."""
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, its bf16 support, threads, versions."""
    return {
        "cpu": _cpu_name(),
        "bf16": native_bf16() or "none",
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "pytorch-lightning", "albumentations")},
    }


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio:.3g}x"


def markdown(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| measured | median (min to max) | baseline | ratio | |", "| --- | --- | --- | --- | --- |"]
    for r in rows:
        lines.append(f"| {r.suite}: {r.name} | {_span(r)} | {r.baseline or ''} | {_ratio(r)} | {r.note} |")
    return "\n".join(lines)


def terminal_table(rows: list[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(title="Benchmark")
    for column in ("suite", "measured", "median (min to max)", "baseline", "ratio", "note"):
        table.add_column(column)
    for r in rows:
        table.add_row(r.suite, r.name, _span(r), r.baseline or "", _ratio(r), r.note)
    return table


def to_dict(rows: list[Row]) -> dict[str, Any]:
    """Return machine and rows, JSON-serializable."""
    return {"machine": machine(), "rows": [asdict(r) for r in rows]}


def _span(r: Row) -> str:
    unit, factor = ("ms", 1e3) if r.seconds < 1 else ("s", 1.0)
    return f"{r.seconds * factor:.3g} ({r.fastest * factor:.3g} to {r.slowest * factor:.3g}) {unit}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
