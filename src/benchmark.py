"""`python -m src.benchmark`: how fast this is here, each row against a plainly written baseline."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
def main(cfg: DictConfig) -> float | None:
    """Measure `suite=`."""
    return run_job(cfg, "src.benchmarks.suites:benchmark")


if __name__ == "__main__":
    start(main)
