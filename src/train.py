"""`python -m src.train`: fit a model, test its best checkpoint, write the run directory."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Return the monitored metric of the best epoch on the validation split; None where `tune` searches instead."""
    return run_job(cfg, "src.engine.tune:tune" if cfg.tune else "src.engine.fit:train")


if __name__ == "__main__":
    start(main)
