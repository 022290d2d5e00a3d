"""`python -m src.release`: turn a run into weights to pass on, and write their card."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="release")
def main(cfg: DictConfig) -> float | None:
    """Write weights or their card."""
    return run_job(cfg, "src.engine.release:release")


if __name__ == "__main__":
    start(main)
