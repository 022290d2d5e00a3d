"""The suites of `python -m src.benchmark`, and their table."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from src.benchmarks.backbone import backbone_suite
from src.benchmarks.cache import cache_suite
from src.benchmarks.data import data_suite
from src.benchmarks.loop import loop_suite
from src.benchmarks.measure import markdown, terminal_table, to_dict
from src.benchmarks.predict import predict_suite
from src.benchmarks.video import video_suite
from src.runs import layout
from src.utils.atomic_files import write_json, write_text

SUITES = {
    "data": data_suite,
    "backbone": backbone_suite,
    "cache": cache_suite,
    "loop": loop_suite,
    "predict": predict_suite,
    "video": video_suite,
}


def benchmark(cfg: DictConfig) -> None:
    """Measure a suite, print its table, write `benchmark.json` and `benchmark.md` into the run directory.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    chosen = list(SUITES.values()) if cfg.suite == "all" else [SUITES[cfg.suite]]
    rows = [row for suite in chosen for row in suite(cfg)]
    content = to_dict(rows)
    run_dir = Path(cfg.run_dir)
    write_json(run_dir / layout.BENCHMARK, content)
    write_text(run_dir / layout.BENCHMARK_TABLE, markdown(rows) + "\n")
    console = Console(stderr=True, markup=False)
    console.print(", ".join(f"{key} {value}" for key, value in content["machine"].items()), highlight=False)
    console.print(terminal_table(rows))
    console.print(f"Run directory: {run_dir}", soft_wrap=True, highlight=False)
