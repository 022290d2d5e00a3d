"""`python -m src.download`: fetch a data set, or official weights, to where the other commands find them."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="download")
def main(cfg: DictConfig) -> float | None:
    """Fetch `data=` or the weights of `backbone=`."""
    return run_job(cfg, "src.engine.download:download")


if __name__ == "__main__":
    start(main)
