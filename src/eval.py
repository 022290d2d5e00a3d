"""`python -m src.eval`: test a trained model on any data set."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="eval")
def main(cfg: DictConfig) -> float | None:
    """Return the accuracy."""
    return run_job(cfg, "src.engine.evaluate:evaluate_model")


if __name__ == "__main__":
    start(main)
