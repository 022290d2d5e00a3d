"""`python -m src.compare`: a leaderboard over run directories, with paired tests and a page."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
def main(cfg: DictConfig) -> float | None:
    """Compare `runs=`."""
    return run_job(cfg, "src.engine.compare:compare_runs")


if __name__ == "__main__":
    start(main)
