"""`python -m src.benchmark`: how fast this is here, each row against a plainly written baseline."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def benchmark(cfg: DictConfig) -> None:
    """Measure a suite, print its table, write `benchmark.json` and `benchmark.md` into the run directory.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from pathlib import Path

    from rich.console import Console

    from src.benchmarks.backbone import backbone_suite
    from src.benchmarks.cache import cache_suite
    from src.benchmarks.data import data_suite
    from src.benchmarks.loop import loop_suite
    from src.benchmarks.measure import markdown, terminal_table, to_dict
    from src.benchmarks.predict import predict_suite
    from src.utils.entry import quiet_known_warnings
    from src.utils.run_directory import write_json

    suites = {
        "data": data_suite,
        "backbone": backbone_suite,
        "cache": cache_suite,
        "loop": loop_suite,
        "predict": predict_suite,
    }
    chosen = list(suites.values()) if cfg.suite == "all" else [suites[cfg.suite]]
    quiet_known_warnings()
    rows = [row for suite in chosen for row in suite(cfg)]
    content = to_dict(rows)
    run_dir = Path(cfg.run_dir)
    write_json(run_dir / "benchmark.json", content)
    (run_dir / "benchmark.md").write_text(markdown(rows) + "\n", encoding="utf-8")
    console = Console(stderr=True)
    console.print(", ".join(f"{key} {value}" for key, value in content["machine"].items()), highlight=False)
    console.print(terminal_table(rows))
    console.print(f"Run directory: {run_dir}", soft_wrap=True, highlight=False)


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, benchmark)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
